"""From a retraining to all gateways: one run on real C-MAPSS, with the commands of an operator.

A weak student scores engines on three gateways. `train-redistill --publish --centre` trains a truly
better one and begins its release. The controller takes it through shadow, the first step and the
last one, and the marks of the takeovers are on the boards.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from dashboards.visuals.board import ROLLOUT_ANNOTATION
from deploy.stack.servers import InfluxServer
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.recordings import engine_recordings, read_cmapss
from pipeline.stores.influxlayout import STORE_TOKEN, site_layout
from pipeline.stores.influxsetup import ensure_layout
from tests.e2e.plant import Plant
from tests.fakes.grafana_flux import interpolate, send_query
from tests.pipeline.stores.test_influxsetup import connect

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("tuf", reason="needs the extra [centre]; make test installs it")

pytestmark = [
    pytest.mark.needs_data,
    pytest.mark.needs_influxd,
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_training,
    pytest.mark.slow,
]

GATEWAYS = 3
NAME = "rul-plant"
PLAN = """
steps = [{percent = 34, seconds = 2, windows = 100}, {percent = 100, seconds = 2, windows = 100}]
shadow_seconds = 2
shadow_windows = 300
probation_seconds = 5
"""


@pytest.mark.timeout(900)  # it trains
def test_a_better_student_reaches_all_gateways_and_marks_the_boards(
    tmp_path: Path, data_dir: Path
) -> None:
    registry, centre = tmp_path / "registry", tmp_path / "centre"
    (tmp_path / "plan.toml").write_text(PLAN)
    train(tmp_path, data_dir, "--epochs", "2", "--publish")
    command("centre", "--dir", centre, "init", "--root-keys", "1", "--threshold", "1",
            "--root-out", tmp_path / "root", "--without-passphrase")  # fmt: skip
    began_ms = time.time_ns() // 1_000_000
    with ExitStack() as stack:
        server = stack.enter_context(InfluxServer(tmp_path / "influx"))
        server.setup("kpstream", "first")
        with connect(server, "kpstream", server.token) as client:
            token = ensure_layout(client, site_layout()).tokens[STORE_TOKEN].get_secret_value()
        influx = {
            "KPSTREAM_PIPELINE_INFLUX_URL": server.url,
            "KPSTREAM_PIPELINE_INFLUX_TOKEN": token,
        }
        plants: list[Plant] = []
        for number in range(GATEWAYS):
            plant = gateway(tmp_path, number, registry, centre, plants[:1], influx)
            plants.append(stack.enter_context(plant))
            stack.enter_context(engines(plant, data_dir))
        for plant in plants:
            plant.wait_until(lambda plant=plant: plant.totals()["stored"] > 0, "scored")
            assert running(plant)["version"] == 1
        stack.enter_context(controller(tmp_path, centre, plants[0], influx))

        done = train(
            tmp_path, data_dir, "--epochs", "6", "--publish", "--centre", centre,
            "--plan", tmp_path / "plan.toml",
        )  # fmt: skip
        assert f"Published {NAME} v2" in done
        assert f"Release 1: {NAME} v2 is running, step 1 of 2" in done

        steps: list[int] = []

        def is_complete() -> bool:
            (release,) = json.loads(command("centre", "--dir", centre, "status", "--json"))[
                "releases"
            ]
            steps.append(release["step"])
            assert release["state"] in ("running", "complete"), release["reason"]
            return bool(release["state"] == "complete")

        plants[0].wait_until(is_complete, "complete", timeout_s=180, poll_s=1.0)
        assert sorted(steps) == steps
        assert set(steps) == {0, 1}
        for plant in plants:
            plant.wait_until(lambda plant=plant: running(plant)["version"] == 2, "v2")
        listed = json.loads(command("centre", "--dir", centre, "gateways", "--json"))
        found = listed["gateways"] if isinstance(listed, dict) else listed
        assert {one["gateway"] for one in found} == {f"gw-{n}" for n in range(GATEWAYS)}

        def marks() -> int:
            flux = interpolate(
                ROLLOUT_ANNOTATION.query.flux,
                start_ms=began_ms,
                stop_ms=time.time_ns() // 1_000_000 + 60_000,
                bucket="kpstream",
                variables={"site": "ALL", "model": "ALL", "gateway": "ALL"},
            )
            frames = send_query(server.url, server.token, "kpstream", flux)
            return sum("v2" in text for text in texts(frames))

        plants[0].wait_until(lambda: marks() >= GATEWAYS, "marked on the boards", poll_s=1.0)
        for plant in plants:
            totals = plant.totals()
            assert (totals["missing"], totals["unscored"]) == (0, 0)


def texts(frames: list[Any]) -> list[str]:
    return [
        str(value)
        for frame in frames
        for field in frame.fields
        if field.type != "time"
        for value in field.values
    ]


def command(*words: object, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *map(str, words)],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def train(folder: Path, data_dir: Path, *words: object) -> str:
    number = len(list(folder.glob("run-*")))
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from training.command import main; main()"),
            *("--task", "rul", "--name", NAME),
            *("--data", data_dir / "cmapss.zip", "--registry", folder / "registry"),
            *("--out", folder / f"run-{number}", *words),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def gateway(
    folder: Path,
    number: int,
    registry: Path,
    centre: Path,
    first: list[Plant],
    settings: dict[str, str],
) -> Plant:
    """A gateway with a broker of its own, whose reports go to the broker of the first one."""
    home = folder / f"gateway-{number}"
    home.mkdir()
    student = registry / NAME / "versions" / "1"
    command("models", "--registry", home / "state" / "registry", "publish", student, "--stable")
    env = {
        "KPSTREAM_GATEWAY_NAME": f"gw-{number}",
        "KPSTREAM_GATEWAY_ACCOUNT_MS": "1000",
        "KPSTREAM_ROLLOUT_URL": str(centre / "repository"),
        "KPSTREAM_ROLLOUT_ROOT_FILE": str(centre / "repository" / "metadata" / "1.root.json"),
        "KPSTREAM_ROLLOUT_INTERVAL_S": "10",
        "KPSTREAM_ROLLOUT_REPORT_S": "5",
        **settings,
    }
    if first:
        env["KPSTREAM_ROLLOUT_MQTT_HOST"] = "127.0.0.1"
        env["KPSTREAM_ROLLOUT_MQTT_PORT"] = str(first[0].broker.port)
    return Plant(home, broker_kind="mosquitto", **env)


def running(plant: Plant) -> dict[str, Any]:
    models = (plant.get("api/v1/models") or {}).get("models", [])
    return next((model for model in models if model["name"] == NAME), {"version": None})


@contextmanager
def engines(plant: Plant, data_dir: Path) -> Iterator[None]:
    """Real engines, one after another, some sixty readings a second, until the block ends."""
    recordings = engine_recordings(read_cmapss(data_dir / "cmapss.zip", "FD001", "train"))
    stopping = threading.Event()

    async def publish() -> None:
        endpoint = Endpoint("127.0.0.1", plant.broker.port, "engines")
        t0_ms = time.time_ns() // 1_000_000 - 10**7
        async with Publisher(endpoint) as publisher:
            for number in range(10_000):
                recording = recordings[number % len(recordings)]
                topic = f"sensors/plant/engine-{number}/engine"
                for start in range(0, len(recording.values), 30):
                    if stopping.is_set():
                        return
                    part = recording.values[start : start + 30]
                    values = {
                        name: part[:, i].tolist() for i, name in enumerate(recording.channels)
                    }
                    times = (t0_ms + recording.offsets_ms[start : start + 30]).tolist()
                    await publisher.publish(topic, orjson.dumps({"ts": times, "values": values}))
                    await asyncio.sleep(0.5)

    thread = threading.Thread(target=lambda: asyncio.run(publish()))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(60)


@contextmanager
def controller(
    folder: Path, centre: Path, plant: Plant, settings: dict[str, str]
) -> Iterator[None]:
    env = os.environ | {
        "KPSTREAM_CENTRE_DIR": str(centre),
        "KPSTREAM_CENTRE_MQTT_HOST": "127.0.0.1",
        "KPSTREAM_CENTRE_MQTT_PORT": str(plant.broker.port),
        **settings,
    }
    with (folder / "control.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "centre", "control"],
            env=env,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
        assert process.poll() is None, (folder / "control.log").read_text()
    finally:
        process.terminate()
        process.wait(30)

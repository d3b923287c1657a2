"""Labels and readings through a real gateway and a recorder, both killed on the way.

Every label that the broker or the page confirmed ends in the results and in the recording, and
every reading of the log is recorded once.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from ingest.blocks import decode_messages
from ingest.labels import Label, decode_label_record, encode_label
from ingest.messages import Batch
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.topics import READINGS
from pipeline.log.reader import peek_log
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import payload
from tests.e2e.plant import Plant

T0_MS = 1_750_000_000_000
TOPIC = "labels/lab/ann/imu"
ROUNDS = 3

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]


def label(number: int) -> Label:
    return Label(f"label-{number}", "failed", T0_MS + number, T0_MS + number, by="Ada")


async def publish(port: int, first: int) -> None:
    """Publish twenty readings and twenty labels, one of them twice, one bad, one revoked."""
    async with Publisher(Endpoint("127.0.0.1", port, f"labels-{first}")) as publisher:
        for number in range(first, first + 20):
            await publisher.publish("sensors/lab/ann/imu", payload(number, 1, T0_MS))
            await publisher.publish(TOPIC, encode_label(label(number)))
        await publisher.publish(TOPIC, encode_label(label(first)))
        await publisher.publish(TOPIC, b'{"id": "bad"}')
        gone = label(first + 1)
        revoked = Label(gone.id, gone.kind, gone.from_ms, gone.to_ms, revoked=True)
        await publisher.publish(TOPIC, encode_label(revoked))
        await publisher.flush()


def post(plant: Plant, given: Label) -> int:
    """Give a label as the page does."""
    request = urllib.request.Request(
        f"{plant.url}/api/v1/devices/lab/ann/imu/labels",
        data=encode_label(given),
        headers={"Origin": plant.url, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


class Recorder:
    """`kpstream record` as a child process; `kill` is SIGKILL."""

    def __init__(self, plant: Plant) -> None:
        env = os.environ | {"KPSTREAM_RECORD_FLUSH_S": "0.2"}
        folder = str(plant.state_dir)
        command = [sys.executable, "-m", "deploy.cli", "record", "--state-dir", folder]
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("recording into")

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def stop(self) -> None:
        self._process.terminate()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_no_kill_loses_a_label_or_records_a_reading_twice(tmp_path: Path) -> None:
    with Plant(tmp_path, broker_kind="mosquitto") as plant:
        recorder = Recorder(plant)
        for number in range(ROUNDS):
            asyncio.run(publish(plant.broker.port, 100 * number))
            assert post(plant, label(1000 + number)) == 201
            plant.kill_gateway()
            recorder.kill()
            plant.start_gateway()
            recorder = Recorder(plant)
        refused = ROUNDS
        plant.wait_until(
            lambda: plant.totals().get("dead_letters") is not None and backlog(plant) == 0,
            "empty log",
        )
        recorder.stop()
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "record", "--export"],
            env=os.environ | {"KPSTREAM_GATEWAY_STATE_DIR": str(plant.state_dir)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "had left the log" not in done.stdout + done.stderr
        assert plant.stop_gateway() == 0
    wanted = {100 * n + at for n in range(ROUNDS) for at in range(20)} | {
        1000 + n for n in range(ROUNDS)
    }
    revoked = {f"label-{100 * n + 1}" for n in range(ROUNDS)}
    results = ResultsFile(tmp_path / "state" / "results.db", read_only=True)
    stored = dict(results.select("SELECT id, ifnull(revoked, 0) FROM label"))
    results.close()
    lines = (tmp_path / "state/recordings/labels.jsonl").read_bytes().splitlines()
    recorded = [decode_label_record(line).label for line in lines]
    assert {each.id for each in recorded} == set(stored) == {f"label-{n}" for n in wanted}
    assert len(recorded) == len(wanted)
    assert {each.id for each in recorded if each.revoked} == revoked
    assert {name for name, is_revoked in stored.items() if is_revoked} == revoked
    log = tmp_path / "state" / "log.db"
    in_log = Counter(
        int(ts_ms)
        for record in peek_log(log, READINGS)
        for item in decode_messages(record.value or b"")
        if isinstance(item, Batch)
        for ts_ms in item.ts_ms
    )
    files = (tmp_path / "state/recordings").glob("imu/*/part-*.parquet")
    in_files = Counter(
        ts_ms
        for file in files
        for ts_ms in pq.read_table(file, partitioning=None)["ts_ms"].to_pylist()
    )
    assert in_files == in_log
    assert len(in_log) == 20 * ROUNDS
    letters = [orjson.loads(r.value or b"{}") for r in peek_log(log, "dead-letters")]
    assert len({each["id"] for each in letters if each["mqtt_topic"] == TOPIC}) == 1
    assert len(letters) >= refused


def backlog(plant: Plant) -> int:
    """Records of labels and scores that a store has not taken yet."""
    page = plant.get("api/v1/pipeline") or {}
    return sum(each["backlog"] for each in page.get("partitions", ()))

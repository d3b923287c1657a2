"""A further task, defined here: trained, published, scored, stored and shown without other code.

`LOAD` is all that a new task needs: its decoding, its fields, its measures and its hours.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import pytest
from click.testing import CliRunner
from pydantic import Field as Bounds

from deploy.processes.gateway import Gateway
from deploy.settings.settings import GatewaySettings
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from models.acceptance import publish_stable
from models.artifact import read_artifact
from models.dummy import write_dummy
from models.errors import ManifestInvalid, UnknownTask
from models.manifest import decode_manifest
from models.registry import Registry
from models.session import Student
from models.tasks.contract import Field, Hourly, HourlyField, Measure, Task
from models.tasks.fields import Decoding, Float32
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task, registered, tasks
from models.tasks.rul import rmse
from models.trial import Trial
from pipeline.console.queries import all_points
from pipeline.points.measurements import hourly_measurement, score_measurement
from pipeline.scoring.tried import TriedStudents
from pipeline.settings import PipelineSettings
from pipeline.stores.influxlayout import rollups
from tests.fakes.browser import Browser
from tests.fakes.influx import TOKEN, FakeInflux


class LoadDecoding(Decoding):
    """Output `load` [batch] is the load on the hook, between 0 and `max_load`."""

    kind: Literal["load"] = "load"
    output: Literal["load"] = "load"
    unit: Literal["kN"] = "kN"
    max_load: Annotated[Float32, Bounds(gt=0)]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, self.max_load


LOAD = Task(
    name="load",
    title="Load",
    about="one scored window of a crane",
    answer=NumberAnswer("load"),
    decoding=LoadDecoding,
    new_decoding=lambda labels, unknown: LoadDecoding(max_load=50.0),
    fields=(Field("load", "float", "kN", "load on the hook"),),
    must_match=("unit",),
    measures=(Measure("rmse", "smaller", rmse),),
    error_unit="squared kN",
    hourly=Hourly(
        (HourlyField(Field("load_max", "float", "kN", "greatest load"), "load", "max"),),
        "an hour of a crane",
    ),
    needs_attention=lambda fields: fields["load"] >= 0,  # so every score is explained
)

CRANES = ("crane-1", "crane-2")
READINGS = 12
WINDOWS = READINGS - 3  # length 4, hop 1


@pytest.fixture
def load_task() -> Iterator[Task]:
    """The task is known while a test runs, as if it had its line in the registry."""
    with registered(LOAD):
        yield LOAD


def test_a_task_is_known_only_while_it_is_registered() -> None:
    with registered(LOAD):
        assert find_task("load") is LOAD
        assert LOAD in tasks()
        with pytest.raises(ValueError, match="known already"), registered(LOAD):
            pass
    with pytest.raises(UnknownTask, match="'load'; known tasks: activity, forecast, rul"):
        find_task("load")


def test_a_manifest_of_the_task_is_refused_where_the_task_is_unknown(tmp_path: Path) -> None:
    with registered(LOAD):
        data = write_dummy(tmp_path / "student", "load").manifest_bytes
        assert decode_manifest(data).decoding == LoadDecoding(max_load=50.0)
    with pytest.raises(
        ManifestInvalid, match="unknown task 'load'; known tasks: activity, forecast, rul"
    ):
        decode_manifest(data)


def test_measurements_and_hours_of_the_task_come_from_its_fields(load_task: Task) -> None:
    assert score_measurement(load_task).field("load").unit == "kN"
    assert hourly_measurement(load_task).name == "load_hourly"
    made = {rollup.target.name: rollup.parts for rollup in rollups()}
    assert made["load_hourly"] == (("load", "max", "load_max"),)


@pytest.mark.needs_training
def test_the_task_is_trained_on_dummy_data_and_published(
    load_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    from training.datasets.dummy import make_dummy
    from training.redistill import redistill

    # The child process of a trial does not know a task that only this test has registered.
    untried = partial(publish_stable, trial=lambda _: Trial(0.0, 0.0))
    monkeypatch.setattr("training.running.publish_stable", untried)

    recipe = tmp_path / "load.toml"
    recipe.write_text('task = "load"\nmethod = "none"\nepochs = 2\nconv_channels = [8, 8, 8]\n')
    words = ["--task", "load", "--data", "dummy", "--config", str(recipe), "--publish"]
    words += ["--registry", str(tmp_path / "registry"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(redistill, words)
    assert done.exit_code == 0, done.output
    assert "Published load-dummy v1" in done.output

    artifact = read_artifact(Registry(tmp_path / "registry").version_path("load-dummy", 1))
    manifest = artifact.manifest
    assert manifest.decoding == LoadDecoding(max_load=50.0)
    assert manifest.interval is None
    assert set(manifest.metrics["held_out"]) == {"rmse", "windows"}
    scores = Student(artifact).score(make_dummy("load").train.windows[:5])
    assert all(0 <= value <= 50 for value in scores.values)


class Site:
    """A gateway in this process with its broker and an InfluxDB; two cranes have been scored."""

    def __init__(self, gateway: Gateway, influx: FakeInflux) -> None:
        self.gateway = gateway
        self.influx = influx

    async def page(self, path: str) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.gateway.console.url + path) as answer,
        ):
            return await answer.json()  # type: ignore[no-any-return]


@pytest.fixture
async def site(tmp_path: Path, load_task: Task) -> AsyncIterator[Site]:
    student = write_dummy(tmp_path / "student", "load", stream="crane")
    Registry(tmp_path / "state" / "registry").publish(student.path, stable=True)
    # The child process of a trial does not know a task that only this process has registered.
    passed = TriedStudents(tmp_path / "state" / "tried.json", trial=lambda _: Trial(0.0, 0.0))
    passed.load(student)
    broker = LocalBroker(tmp_path / "broker")
    await asyncio.to_thread(broker.start)
    with FakeInflux() as influx:
        gateway = Gateway(
            GatewaySettings(state_dir=tmp_path / "state", console_port=0),
            IngestSettings(mqtt_port=broker.port),
            PipelineSettings(influx_url=influx.url, influx_token=TOKEN, idle_ms=500),
        )
        await gateway.start()
        await _publish(broker.port)
        await _until(lambda: len(loads(gateway)) == len(CRANES) * WINDOWS, "stored in the file")
        await _until(lambda: len(load_lines(influx)) == len(CRANES) * WINDOWS, "in InfluxDB")
        yield Site(gateway, influx)
        await gateway.stop()
    await asyncio.to_thread(broker.stop)


@pytest.mark.slow
async def test_the_task_is_scored_stored_and_served(site: Site) -> None:
    points = loads(site.gateway)
    assert {point["device"] for point in points} == set(CRANES)
    assert all(0 <= point["load"] <= 50 and point["version"] == 1 for point in points)

    by_window = {(p["device"], p["end_ms"]): p["load"] for p in points}
    for line in load_lines(site.influx):
        series, fields, time_ns = line.split(" ")
        device = dict(pair.split("=") for pair in series.split(",")[1:])["device"]
        values = dict(pair.split("=") for pair in fields.split(","))
        assert float(values["load"]) == by_window[device, int(time_ns) // 10**6]

    fleet = await site.page("api/v1/fleet")
    assert fleet["tasks"]["load"] == {"title": "Load", "card": "generic"}
    (crane,) = [d for d in fleet["devices"] if d["device"] == CRANES[0]]
    newest = max(p["end_ms"] for p in points if p["device"] == CRANES[0])
    assert (crane["task"], crane["unit"]) == ("load", "kN")
    assert crane["load"]["value"] == by_window[CRANES[0], newest]
    assert len(crane["load"]["trend"]) == WINDOWS
    page = await site.page(f"api/v1/devices/yard/{CRANES[0]}/crane")
    assert [row[1] for row in page["series"]] == [
        by_window[CRANES[0], row[0]] for row in page["series"]
    ]


@pytest.mark.slow
async def test_its_alert_level_scores_are_explained_in_both_stores(site: Site) -> None:
    results = site.gateway.results
    scores = {(p["device"], p["end_ms"]) for p in loads(site.gateway)}
    await _until(lambda: len(all_points(results, "explanation")) == len(scores), "explained")
    explained = all_points(results, "explanation")
    assert {(point["device"], point["end_ms"]) for point in explained} == scores
    for point in explained:
        assert point["channel"] in ("T24", "T30", "Nf")
        assert f"{point['channel']} " in point["text"] or "No channel alone" in point["text"]
        assert point["from_ms"] <= point["until_ms"] < point["end_ms"]
    await _until(lambda: len(lines_of(site.influx, "explanation")) == len(scores), "in InfluxDB")

    where = f"api/v1/devices/yard/{CRANES[0]}/crane"
    newest = max(end_ms for device, end_ms in scores if device == CRANES[0])
    page = await site.page(where)
    assert page["explanation"]["time_ms"] == newest
    why = await site.page(f"{where}/explanation")
    assert (why["end_ms"], why["is_same_student"], why["is_same_score"]) == (newest, True, True)
    assert why["explanation"]["text"] == page["explanation"]["text"]
    raw = await site.page(f"{where}/readings?last=5")
    assert [row[1] for row in raw["readings"]] == [1.0 + n for n in range(READINGS - 5, READINGS)]


@pytest.mark.slow
@pytest.mark.needs_chromium
async def test_the_page_shows_the_task_with_its_unit(
    site: Site, chromium_program: str, tmp_path: Path
) -> None:
    async with Browser(chromium_program) as browser:
        await browser.look(1200, 900)
        await browser.open(site.gateway.console.url + "#/fleet", "document.querySelector('.rul b')")
        text = await browser.run("document.getElementById('section-load-machine').innerText")
        assert text.split() == ["Load", str(len(CRANES))]
        assert await browser.run("document.querySelector('.machine .rul span').innerText") == "kN"
        await browser.screenshot(tmp_path / "fleet.png")
        where = f"#/device/yard/{CRANES[0]}/crane"
        await browser.open(
            site.gateway.console.url + where, "document.querySelector('.chart path.line')"
        )
        assert "in kN" in await browser.run("document.querySelector('.stack h2').innerText")
        await browser.screenshot(tmp_path / "device.png")
        assert browser.complaints == []


def loads(gateway: Gateway) -> list[dict[str, Any]]:
    return all_points(gateway.results, "load")


def load_lines(influx: FakeInflux) -> list[str]:
    return lines_of(influx, "load")


def lines_of(influx: FakeInflux, name: str) -> list[str]:
    points = [(*key.rsplit(" ", 1), fields) for key, fields in list(influx.points.items())]
    return [
        f"{series} {fields} {t}" for series, t, fields in points if series.startswith(f"{name},")
    ]


async def _publish(port: int) -> None:
    t0_ms = time.time_ns() // 10**6 - READINGS * 1000
    async with Publisher(Endpoint("127.0.0.1", port, "cranes")) as publisher:
        for crane in CRANES:
            for number in range(READINGS):
                values = {"T24": 1.0 + number, "T30": 2.0, "Nf": float(number % 3)}
                reading = {"ts": t0_ms + number * 1000, "values": values}
                await publisher.publish(f"sensors/yard/{crane}/crane", json.dumps(reading).encode())
        await publisher.flush()


async def _until(holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not {what} after {timeout_s:g} s"
        await asyncio.sleep(0.05)

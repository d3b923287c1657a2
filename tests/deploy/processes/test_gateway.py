"""Decisions of a gateway before it starts: the starters to seed, and whether its log fits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.processes.gateway import Gateway
from deploy.processes.scoresmqtt import MqttSink
from deploy.settings.settings import GatewaySettings
from ingest.durable.wal import wal_path
from ingest.settings import IngestSettings
from models.dummy import write_dummy
from models.registry import Registry
from models.zoo import STARTERS
from pipeline.errors import LogError
from pipeline.settings import PipelineSettings
from pipeline.stores.influx import InfluxSink
from pipeline.stores.resultsfile import ResultsFile


def build(folder: Path, **pipeline: int) -> Gateway:
    settings = GatewaySettings(state_dir=folder / "state", console_port=0)
    return Gateway(settings, IngestSettings(mqtt_port=1), PipelineSettings(**pipeline))


async def test_an_empty_registry_gets_the_starter_students(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    await gateway.stop()
    assert gateway.registry.names() == sorted(STARTERS)


async def test_a_stream_with_a_student_of_the_users_own_gets_no_starter(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state" / "registry")
    registry.publish(write_dummy(tmp_path / "own").path, stable=True)  # scores `engine`
    gateway = build(tmp_path)
    gateway.models.poll()
    await gateway.stop()
    student = gateway.models.student_of("engine")
    assert student is not None
    assert student.manifest.name == "dummy-rul"
    assert "rul-fd001" not in gateway.registry.names()
    assert gateway.models.models_without_student() == []


async def test_another_number_of_partitions_is_refused_with_advice(tmp_path: Path) -> None:
    first = build(tmp_path, partitions=4)
    await first.start()
    await first.stop()
    with pytest.raises(LogError, match="KPSTREAM_PIPELINE_PARTITIONS is 2: set it to 4"):
        build(tmp_path, partitions=2)


async def test_a_log_keeps_its_partitions_and_a_new_one_has_one(tmp_path: Path) -> None:
    for folder, made, found in (("old", {"partitions": 4}, 4), ("new", {}, 1)):
        first = build(tmp_path / folder, **made)
        await first.start()
        await first.stop()
        second = build(tmp_path / folder)
        await second.start()
        counts = set(second.log_file.topics().values())
        await second.stop()
        assert counts == {found}
        assert second.pipeline.partitions == found


async def test_a_removed_sink_releases_its_records(tmp_path: Path) -> None:
    first = build(tmp_path)
    await first.start()
    first.log_file.register_group("kpstream-store-influx", ["scores"]).result()
    await first.stop()
    second = build(tmp_path)
    groups = second.log_file.groups()
    await second.stop()
    assert groups == ["kpstream-score", "kpstream-store-results"]


async def test_a_stop_closes_every_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    for sink in (MqttSink, InfluxSink, ResultsFile):

        def close(self: object, was: Callable[[object], None] = sink.close) -> None:
            closed.append(type(self).__name__)
            was(self)

        monkeypatch.setattr(sink, "close", close)
    settings = GatewaySettings(state_dir=tmp_path / "state", console_port=0, scores_mqtt=True)
    pipeline = PipelineSettings(influx_url="http://127.0.0.1:1", influx_token="t")
    gateway = Gateway(settings, IngestSettings(mqtt_port=1), pipeline)
    assert gateway.view.health().problems == (
        "the gateway is starting: it connects to the broker once its agents run, and readings wait "
        "in the broker until then",
    )
    await gateway.stop()
    assert closed == ["ResultsFile", "MqttSink", "InfluxSink"]


@pytest.mark.parametrize("steps", [0, 4, 8, 10, 12, 20, 30, 60])
async def test_a_start_that_is_stopped_at_any_moment_leaves_nothing_open(
    tmp_path: Path, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal cancels the start; what Faust has begun is finished, then stopped."""
    gateway = build(tmp_path)
    starting = asyncio.ensure_future(gateway.start())
    for _ in range(steps):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    await gateway.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert not wal_path(gateway.log_file.path).exists(), "the log is still open somewhere"

"""The product's agents on both logs: the same records give the same scores, across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.kafka import KafkaEndpoint, KafkaLogWriter, read_until
from ingest.logwriter import LogRecord
from ingest.messages import encode_envelope
from ingest.payloads import encode_payload
from ingest.topics import LOG_TOPICS, READINGS, device_key, partition_of
from models.artifact import read_artifact
from models.dummy import write_dummy
from models.session import Student
from pipeline.app import KafkaLink, create_scoring_app, create_store_app
from pipeline.log.locallog import open_log
from pipeline.points.pointblocks import PointBlock, Points
from pipeline.points.points import Point
from pipeline.settings import PipelineSettings
from pipeline.windows.devices import StreamPlan
from pipeline.windows.spec import WindowSpec, slice_windows
from tests.fakes.records import encode_bundle

T0 = 1_750_000_000_000
DEVICES = [f"engine-{i}" for i in range(6)]
READINGS_EACH = 40


class MemorySink:
    def __init__(self) -> None:
        self.points: dict[tuple[str, int], Point] = {}

    def write(self, points: Points) -> list[Any]:
        for item in points:
            for point in item.points() if isinstance(item, PointBlock) else (item,):
                self.points[dict(point.tags)["device"], point.time_ns // 1_000_000] = point
        return []

    def close(self) -> None:
        """Do nothing."""


def series(device: int) -> tuple[np.ndarray, np.ndarray]:
    ts = T0 + 1000 * np.arange(READINGS_EACH, dtype=np.int64)
    rows = np.random.default_rng(device).normal(600, 5, (READINGS_EACH, 3)).astype(np.float32)
    return ts, rows


def bundles(start: int, stop: int, channels: Sequence[str]) -> list[LogRecord]:
    lines: dict[int, list[bytes]] = {}
    for number, device in enumerate(DEVICES):
        ts, rows = series(number)
        values = {name: rows[start:stop, i].tolist() for i, name in enumerate(channels)}
        body = encode_payload(ts[start:stop].tolist(), values)
        partition = partition_of(device_key("s", device), 4)
        envelope = encode_envelope("s", device, "engine", int(ts[stop - 1]), body)
        lines.setdefault(partition, []).append(envelope)
    return [
        LogRecord(READINGS, partition, None, encode_bundle(found), T0)
        for partition, found in lines.items()
    ]


async def test_the_products_agents_score_alike_on_both_logs_and_across_a_restart(
    broker: Any, wait: Callable[..., Awaitable[Any]], tmp_path: Path, monkeypatch: Any
) -> None:
    student = Student(read_artifact(write_dummy(tmp_path / "student").path))
    channels = student.manifest.channel_names
    spec = WindowSpec(length=student.manifest.window.length, hop=1, lateness_ms=0)
    settings = PipelineSettings(app_id="product", partitions=4, checkpoint_ms=100, session_ms=3000)
    if broker.kind == "kafka":  # what the mock broker lacks: topics by request, quick rebalances
        monkeypatch.setenv("TOPIC_ALLOW_DECLARE", "0")
        monkeypatch.setenv("BROKER_SESSION_TIMEOUT", "3.0")
        monkeypatch.setenv("BROKER_REBALANCE_TIMEOUT", "0.5")
        monkeypatch.setenv("BROKER_HEARTBEAT_INTERVAL", "0.3")
        broker.declare(*LOG_TOPICS, "product-score-windows-changelog")
    servers = KafkaEndpoint(broker.url.removeprefix("kafka://"))
    link = KafkaLink(partial(read_until, servers)) if broker.kind == "kafka" else None
    sink = MemorySink()

    @asynccontextmanager
    async def gateway() -> Any:
        scoring = create_scoring_app(
            broker.url,
            settings,
            lambda stream: StreamPlan("dummy-rul", channels, spec),
            lambda stream: student,
            data_dir=tmp_path / "faust",
            kafka=link,
        )
        store = create_store_app(broker.url, settings, sink, "memory", data_dir=tmp_path / "faust")
        await asyncio.gather(scoring.start(), store.start())
        try:
            yield
        finally:
            await scoring.stop()
            await store.stop()

    half, length = READINGS_EACH // 2, spec.length
    async with _writer(broker) as append:
        async with gateway():
            await append(bundles(0, half, channels))
            await wait(lambda: len(sink.points) == len(DEVICES) * (half - length + 1))
        async with gateway():
            await append(bundles(half, READINGS_EACH, channels))
            await wait(lambda: len(sink.points) == len(DEVICES) * (READINGS_EACH - length + 1))

    for number, device in enumerate(DEVICES):
        ts, rows = series(number)
        windows = slice_windows(ts, rows, spec)
        want = student.score(np.stack([window.values for window in windows]))
        got = [dict(sink.points[device, window.end_ms].fields)["rul"] for window in windows]
        assert got == pytest.approx(want.rul.tolist(), abs=1e-4)  # type: ignore[union-attr]


@asynccontextmanager
async def _writer(broker: Any) -> Any:
    """A log writer for either kind of log."""
    if broker.kind == "kafka":
        writer = KafkaLogWriter(broker.url.removeprefix("kafka://"))
        await writer.start()
        yield writer.append
        await writer.stop()
    else:
        log = open_log(broker.path, partitions=4)

        async def append(records: Sequence[LogRecord]) -> None:
            await asyncio.wrap_future(log.append(records))

        yield append
        log.close()

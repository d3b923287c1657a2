"""Odd but real senders through mosquitto, bridge and windows: nothing vanishes, nothing is half."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from ingest.blocks import decode_messages
from ingest.bridge import Bridge
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.topics import READINGS
from pipeline.status.counters import DeviceAccount
from pipeline.windows.devices import Devices, StreamPlan
from pipeline.windows.spec import WindowSpec
from tests.attack.account import Attack
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, until
from tests.fakes.sparkplugnode import EdgeNode, Message, compressed
from tests.fakes.windows import closed_windows

pytestmark = pytest.mark.needs_mosquitto

T0_MS = 1_700_000_000_000
STREAM = {"name": "pair", "metrics": {"a": "A", "b": "B"}}
PLAN = StreamPlan("pair", ("a", "b"), WindowSpec(length=1, hop=1, lateness_ms=200))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as found:
        yield found


@asynccontextmanager
async def running(
    broker: LocalBroker, log: FakeLog, folder: Path, **mapping: object
) -> AsyncIterator[tuple[Bridge, Sparkplug]]:
    table = {"stream": [STREAM]} | mapping
    store = SparkplugStore(folder / "sparkplug.db")
    sparkplug = Sparkplug(SparkplugMapping.model_validate(table), store)
    bridge = Bridge(IngestSettings(mqtt_port=broker.port), log, decoders=[sparkplug])
    try:
        async with running_bridge(bridge):
            yield bridge, sparkplug
    finally:
        sparkplug.close()


async def publish(broker: LocalBroker, messages: list[Message]) -> None:
    async with Publisher(Endpoint(broker.host, broker.port, "senders")) as senders:
        for topic, payload in messages:
            await senders.publish(topic, payload)
        await senders.flush()


def windowed(log: FakeLog) -> tuple[list[tuple[int, float, float]], DeviceAccount]:
    """Cut the log into windows of one reading: its time and values, and the account."""
    devices = Devices(lambda stream: PLAN if stream == "pair" else None, lambda _: None)
    rows = []
    for offset, record in enumerate(r for r in log.records if r.topic == READINGS):
        items = [item for item in decode_messages(record.value) if hasattr(item, "values")]
        outcome = devices.apply(record.partition or 0, offset, items)
        for closed in closed_windows(outcome.windows):
            a, b = closed.window.values[0].tolist()
            rows.append((closed.window.start_ms - T0_MS, a, b))
    (account,) = devices.accounts()
    return rows, account


async def test_one_moment_in_several_messages_gives_whole_rows_under_redelivery(
    broker: LocalBroker, tmp_path: Path, attack: Attack
) -> None:
    moments = attack.size(200, 5_000)
    log = FakeLog(partitions=1)
    messages = [
        (
            "sensors/plant/press/pair",
            b'{"ts": %d, "values": {"a": %d, "b": %d}}' % (T0_MS + t, a, b),
        )
        for t in range(0, 100 * moments, 100)
        for a, b in ((t, t - 100), (t, t))  # the half-old row, then the whole one
    ]
    log.failures_left, log.stores_before_failing = 5, True  # what fails is there nevertheless
    async with running(broker, log, tmp_path) as (bridge, _):
        await publish(broker, messages)
        await until(
            lambda: bridge.counters.received_total >= len(messages) and bridge.unconfirmed == 0
        )
    rows, account = windowed(log)
    half = sum(a != b for _, a, b in rows)
    attack.report(moments, half + account.missing, len(rows) - len(dict.fromkeys(rows)), "moments")
    assert (account.windowed, account.corrected) == (moments, moments)
    assert account.duplicate == account.received - 2 * moments
    assert account.late == 0
    assert len(rows) == moments - 2, "the last ones wait for the watermark"


async def test_the_messages_of_a_moment_of_a_node_are_one_row(
    broker: LocalBroker, tmp_path: Path, attack: Attack
) -> None:
    moments = attack.size(200, 5_000)
    log = FakeLog(partitions=1)
    node = EdgeNode("plant", "line", {"press": {"A": 0.0, "B": 0.0}})
    messages = node.births(T0_MS)
    for t in range(100, 100 * moments + 100, 100):
        messages += [node.data("press", T0_MS + t, {name: float(t)}) for name in "AB"]
    # Both messages of a moment complete it at once. The wait for the second one must not be over
    # because this machine is busy: then the second one is a correction, as promised.
    async with running(broker, log, tmp_path, complete_within_ms=10_000) as (bridge, sparkplug):
        await publish(broker, messages)
        await until(
            lambda: bridge.counters.received_total >= len(messages) and bridge.unconfirmed == 0
        )
        assert sparkplug.counters.seq_gaps_total == 0
    rows, account = windowed(log)
    half = sum(a != b for _, a, b in rows)
    attack.report(moments, half + account.missing, account.duplicate + account.corrected, "moments")
    assert account.windowed == account.received == moments


@pytest.mark.parametrize("algorithm", [None, "DEFLATE", "GZIP"])
async def test_power_cycles_of_a_node_without_a_clock_lose_nothing(
    broker: LocalBroker, tmp_path: Path, attack: Attack, algorithm: str | None
) -> None:
    sessions, readings = attack.size(10, 300), 7
    rng = random.Random(7)
    squeeze = {"DEFLATE": zlib.compress, "GZIP": gzip.compress}
    log = FakeLog(partitions=1)
    messages: list[Message] = []
    for session in range(sessions):
        node = EdgeNode("plant", "line", {"press": {"A": 0.0, "B": 0.0}})
        sent = node.births(T0_MS)  # the same bytes in every session
        for n in range(readings):  # its readings have times, from another clock
            t = T0_MS + 1000 * session + 100 * n
            sent.append(node.data("press", t, {"A": float(t % 97), "B": float(n)}))
        if rng.random() < 0.5:
            sent.append(node.ndeath(T0_MS))
        messages += sent
    if algorithm is not None:
        messages = [(t, compressed(squeeze[algorithm](p), algorithm)) for t, p in messages]
    async with running(broker, log, tmp_path) as (bridge, sparkplug):
        await publish(broker, messages)
        await until(
            lambda: bridge.counters.received_total >= len(messages) and bridge.unconfirmed == 0
        )
        counters = sparkplug.counters
    found = Counter(int(ts) for batch in log.batches() for ts in np.asarray(batch.ts_ms))
    total = sessions * readings
    attack.report(total, total - len(found), sum(found.values()) - len(found))
    assert log.dead_letters() == []
    assert (counters.seq_gaps_total, counters.duplicates_total) == (0, 0)

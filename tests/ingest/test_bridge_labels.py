"""Labels have the promise of readings: acknowledged when durable, refused with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from ingest.bridge import Bridge
from ingest.errors import LogUnavailable, RefusalReason
from ingest.labels import Label, current_labels, decode_label_record, encode_label
from ingest.settings import IngestSettings
from ingest.topics import LABELS, partition_of
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker

NOW_MS = 1_700_000_100_000
TOPIC = "labels/plant/press-1/engine"
FAILED = Label("a", "failed", NOW_MS - 1000, NOW_MS - 1000)
REVOKED = Label("a", "failed", NOW_MS - 1000, NOW_MS - 1000, revoked=True)


@asynccontextmanager
async def running(broker: ScriptedBroker, log: FakeLog, **settings: Any) -> AsyncIterator[Bridge]:
    bridge = Bridge(IngestSettings(mqtt_port=broker.port, **settings), log, now_ms=lambda: NOW_MS)
    async with running_bridge(bridge, asyncio.CancelledError, LogUnavailable):
        yield bridge


def labels(log: FakeLog) -> list[Label]:
    return [decode_label_record(r.value).label for r in log.records if r.topic == LABELS]


async def test_label_is_acknowledged_when_the_log_has_it() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        log.open.clear()
        broker.publish(1, TOPIC, encode_label(FAILED))
        broker.publish(2, "sensors/plant/press-1/engine", body(1))
        await until(lambda: log.under_way)
        assert broker.acks == []
        log.open.set()
        await until(lambda: len(broker.acks) == 2)
        assert broker.acks == [1, 2]
        assert bridge.counters.logged_total == 2
    (record,) = [each for each in log.records if each.topic == LABELS]
    assert record.partition == partition_of(b"plant/press-1", 4)
    assert record.key == b"plant/press-1/engine/a"
    assert decode_label_record(record.value).recv_ms == NOW_MS
    assert labels(log) == [FAILED]


async def test_log_that_fails_delays_the_acknowledgement_and_doubles_are_one_label() -> None:
    log = FakeLog()
    log.failures_left, log.stores_before_failing = 2, True
    async with ScriptedBroker() as broker, running(broker, log):
        broker.publish(1, TOPIC, encode_label(FAILED))
        await until(lambda: broker.acks == [1])
    assert labels(log) == [FAILED] * 3
    found = current_labels(decode_label_record(record.value) for record in log.records)
    assert [each.label for each in found.values()] == [FAILED]


async def test_revocation_before_its_label_counts() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log):
        for packet_id, label in enumerate((REVOKED, FAILED, FAILED), 1):
            broker.publish(packet_id, TOPIC, encode_label(label))
        await until(lambda: len(broker.acks) == 3)
    assert {record.key for record in log.records} == {
        b"plant/press-1/engine/a",
        b"plant/press-1/engine/a/revoked",
    }
    found = current_labels(decode_label_record(record.value) for record in log.records)
    assert [each.label for each in found.values()] == [REVOKED]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (TOPIC, b"{", "not_json"),
        (TOPIC, b"\xff\x00", "not_json"),
        (TOPIC, b"", "empty"),
        (TOPIC, body(1), "wrong_shape"),
        (TOPIC, b"x" * 300_000, "too_large"),
        (TOPIC, encode_label(Label("a", "failed", NOW_MS + 10**6, NOW_MS + 10**6)), "future"),
        ("labels/plant/press-1", encode_label(FAILED), "bad_topic"),
        ("labels/plant/press-1/engine/T24", encode_label(FAILED), "bad_topic"),
        ("labels/plant/../engine", encode_label(FAILED), "bad_topic"),
        ("sensors/plant/press-1/engine", encode_label(FAILED), "wrong_shape"),
    ],
)
async def test_bad_label_is_a_dead_letter_and_harms_no_reading(
    topic: str, payload: bytes, reason: str
) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log):
        broker.publish(1, topic, payload)
        broker.publish(2, TOPIC, encode_label(FAILED))
        broker.publish(3, "sensors/plant/press-1/engine", body(1))
        await until(lambda: broker.acks == [1, 2, 3])
    (dead_letter,) = log.dead_letters()
    assert dead_letter.reason is RefusalReason(reason)
    assert dead_letter.mqtt_topic == topic
    assert labels(log) == [FAILED]
    assert log.numbers() == [1]


async def test_labels_of_other_sites_and_without_a_prefix_are_stray() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, mqtt_sites=("hall",)):
        broker.publish(1, TOPIC, encode_label(FAILED))
        await until(lambda: broker.acks == [1])
    async with ScriptedBroker() as broker, running(broker, log, labels_prefix=""):
        broker.publish(1, TOPIC, encode_label(FAILED))
        await until(lambda: broker.acks == [1])
    assert [each.reason for each in log.dead_letters()] == [RefusalReason.bad_topic] * 2
    assert labels(log) == []


async def test_own_prefix_is_taken() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, labels_prefix="hall/labels"):
        broker.publish(1, "hall/labels/plant/press-1/engine", encode_label(FAILED))
        await until(lambda: broker.acks == [1])
    assert labels(log) == [FAILED]
    assert orjson.loads(log.records[0].value)["stream"] == "engine"


@pytest.mark.parametrize("settings", [{}, {"mqtt_shared_group": "kpstream"}])
async def test_broker_that_refuses_labels_still_gives_readings(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker:
        broker.suback_codes = [1, 0x87]
        async with running(broker, log, **settings) as bridge:
            broker.publish(1, "sensors/plant/press-1/engine", body(1))
            await until(lambda: broker.acks == [1])
            assert bridge.health().connected
            (notice,) = bridge.health().notices
            assert orjson.loads(orjson.dumps(bridge.health()))["connected"]  # as `/health` does
    assert "refuses the subscription" in notice
    assert "labels/#', so nothing comes from there" in notice
    assert caplog.text.count("so nothing comes from there") == 1
    assert log.numbers() == [1]


async def test_broker_that_refuses_readings_is_not_ready() -> None:
    async with ScriptedBroker() as broker:
        broker.suback_codes = [0x87, 1]
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), FakeLog())
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: "refuses the subscription 'sensors/#'" in str(bridge.health().error))
        assert not bridge.health().connected
        bridge.stop()
        await asyncio.wait_for(task, 60)

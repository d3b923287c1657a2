"""The bridge's log over Kafka's protocol: order per partition, headers, outages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.errors import LogUnavailable
from ingest.kafka import KafkaLogWriter
from ingest.logwriter import LogRecord
from ingest.topics import DEAD_LETTERS, READINGS
from tests.fakes.ports import free_port

pytestmark = pytest.mark.needs_kafka_mock


@pytest.fixture
def cluster() -> Any:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    return confluent_kafka.Producer(
        {"test.mock.num.brokers": 1, "bootstrap.servers": "unused:1", "log_level": 0}
    )


def servers_of(cluster: Any) -> str:
    (member,) = cluster.list_topics(timeout=10).brokers.values()
    return f"{member.host}:{member.port}"


async def test_appends_in_order_to_the_partition_that_was_decided(cluster: Any) -> None:
    for topic in (READINGS, DEAD_LETTERS):
        cluster.list_topics(topic, timeout=10)
    from aiokafka import AIOKafkaConsumer

    async with KafkaLogWriter(servers_of(cluster)) as writer:
        assert writer.partitions == 4
        records = [
            LogRecord(READINGS, n % 4, None, b"%d" % n, 1_700_000_000_000 + n, (("h", b"1"),))
            for n in range(100)
        ]
        dead_letter = LogRecord(DEAD_LETTERS, None, b"id", b"{}", 1_700_000_000_000)
        await asyncio.gather(writer.append(records[:50]), writer.append([dead_letter]))
        await writer.append(records[50:])
    consumer = AIOKafkaConsumer(
        READINGS, DEAD_LETTERS, bootstrap_servers=servers_of(cluster), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found = [await asyncio.wait_for(consumer.getone(), 120) for _ in range(101)]
    finally:
        await consumer.stop()
    for partition in range(4):
        values = [int(m.value) for m in found if (m.topic, m.partition) == (READINGS, partition)]
        assert values == list(range(partition, 100, 4))
    (stored,) = (m for m in found if m.topic == DEAD_LETTERS)
    assert (stored.key, stored.value) == (b"id", b"{}")
    assert next(m for m in found if m.topic == READINGS).headers == (("h", b"1"),)
    assert {m.timestamp for m in found if m.topic == READINGS} == {r.ts_ms for r in records}


async def test_absent_kafka_is_reported() -> None:
    writer = KafkaLogWriter(f"127.0.0.1:{free_port()}")
    with pytest.raises(LogUnavailable, match="is not available"):
        await writer.start()
    with pytest.raises(LogUnavailable, match=r"call start\(\) first"):
        await writer.append([LogRecord(READINGS, 0, None, b"x", 1)])


async def test_kafka_confirms_nothing_during_an_outage(cluster: Any) -> None:
    for topic in (READINGS, DEAD_LETTERS):
        cluster.list_topics(topic, timeout=10)
    async with KafkaLogWriter(servers_of(cluster), request_timeout_ms=300) as writer:
        await writer.append([LogRecord(READINGS, 0, None, b"x", 1)])
        too_large = LogRecord(READINGS, 0, None, b"x" * 2_000_000, 1)
        with pytest.raises(LogUnavailable, match="accepts no records"):
            await writer.append([too_large])

"""A real Kafka: topics created and corrected, compacted topics read, appends across pauses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.stack.servers import KafkaServer
from deploy.stack.topics import site_topics
from ingest.errors import LogUnavailable
from ingest.kafka import (
    KafkaEndpoint,
    KafkaLogWriter,
    KafkaProbe,
    TopicMismatch,
    create_topics,
    read_until,
)
from ingest.logwriter import LogRecord
from ingest.topics import READINGS

pytestmark = pytest.mark.needs_kafka_server

_names = itertools.count()


@dataclass(frozen=True)
class Wanted:
    name: str
    partitions: int = 3
    config: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> Mapping[str, str]:
        return self.config


@pytest.fixture
def endpoint(real_kafka: KafkaServer) -> KafkaEndpoint:
    return KafkaEndpoint(real_kafka.address)


def fresh(**more: object) -> Wanted:
    return Wanted(f"topic-{next(_names)}", **more)  # type: ignore[arg-type]


async def test_topics_are_made_once_and_given_the_settings_they_lack(
    endpoint: KafkaEndpoint,
) -> None:
    first, second = fresh(config={"cleanup.policy": "compact"}), fresh()
    assert len(await create_topics(endpoint, [first])) == 1
    assert await create_topics(endpoint, [first, second]) == [
        f"created {second.name} with 3 partitions"
    ]
    assert await create_topics(endpoint, [first, second]) == []
    changed = Wanted(first.name, 3, {"cleanup.policy": "compact", "retention.ms": "5000000"})
    assert await create_topics(endpoint, [changed]) == [f"settings of {first.name}"]
    assert await create_topics(endpoint, [changed]) == []


async def test_several_processes_may_create_topics_at_once(endpoint: KafkaEndpoint) -> None:
    wanted = [fresh() for _ in range(4)]
    done = await asyncio.gather(*(create_topics(endpoint, wanted) for _ in range(4)))
    assert sum(map(len, done)) == 4


async def test_another_number_of_partitions_is_refused(endpoint: KafkaEndpoint) -> None:
    wanted = fresh()
    await create_topics(endpoint, [wanted])
    with pytest.raises(TopicMismatch, match="has 3 partitions, but KPSTREAM_SITE_PARTITIONS is 5"):
        await create_topics(endpoint, [Wanted(wanted.name, 5)])


async def test_a_probe_returns_first_and_end_offsets_and_reports_an_outage(
    endpoint: KafkaEndpoint,
) -> None:
    topic = fresh()
    await create_topics(endpoint, [topic, *site_topics(3)])
    probe = KafkaProbe(endpoint)
    assert await probe.end_offsets(topic.name, range(3)) == {0: 0, 1: 0, 2: 0}
    async with KafkaLogWriter(endpoint) as writer:
        await writer.append([LogRecord(topic.name, 1, None, b"x", 1) for _ in range(5)])
    assert await probe.end_offsets(topic.name, [1, 2]) == {1: 5, 2: 0}
    assert await probe.first_offsets(topic.name, [1]) == {1: 0}
    await probe.close()
    with pytest.raises(LogUnavailable, match="does not answer"):
        await KafkaProbe(KafkaEndpoint("127.0.0.1:1"), timeout_ms=500).end_offsets("t", [0])


async def test_partitions_are_read_up_to_the_records_asked_for(endpoint: KafkaEndpoint) -> None:
    topic = fresh()
    await create_topics(endpoint, [topic, *site_topics(3)])
    async with KafkaLogWriter(endpoint) as writer:
        for partition in (0, 1):
            await writer.append(
                [
                    LogRecord(topic.name, partition, b"k%d" % (n % 7), b"%d" % n, 1)
                    for n in range(3000)
                ]
            )
    seen: dict[int, list[int]] = {0: [], 1: []}
    async for rows in read_until(endpoint, topic.name, {0: 2999, 1: 2999}):
        for partition, key, value in rows:
            assert value is not None
            assert key == b"k%d" % (int(value) % 7)
            seen[partition].append(int(value))
    assert seen == {0: list(range(3000)), 1: list(range(3000))}


async def test_a_record_that_never_comes_ends_the_wait(
    endpoint: KafkaEndpoint,
) -> None:
    topic = fresh()
    await create_topics(endpoint, [topic])
    with pytest.raises(LogUnavailable, match="has sent no records"):
        async for _ in read_until(endpoint, topic.name, {0: 99}, silence_s=1):
            raise AssertionError


async def test_appends_wait_for_a_frozen_kafka_and_store_each_record_once(tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        endpoint = KafkaEndpoint(kafka.address)
        await create_topics(endpoint, site_topics(2))
        async with KafkaLogWriter(endpoint, request_timeout_ms=1000) as writer:
            assert writer.partitions == 2
            for number in range(3):
                records = [LogRecord(READINGS, p, None, b"%d" % number, 1) for p in (0, 1, 0, 1)]
                kafka.pause()
                with pytest.raises(LogUnavailable, match="has not confirmed"):
                    await writer.append(records)
                kafka.resume()
                while True:  # as the bridge does: the same again
                    try:
                        await writer.append(records)
                    except LogUnavailable:
                        continue
                    break
            kafka.kill()
            last = [LogRecord(READINGS, p, None, b"3", 1) for p in (0, 1, 0, 1)]
            with pytest.raises(LogUnavailable):
                await writer.append(last)
            await asyncio.to_thread(kafka.start)
            while True:
                try:
                    await writer.append(last)
                except LogUnavailable:
                    continue
                break
        stored: dict[int, list[int]] = {0: [], 1: []}
        async for rows in read_until(endpoint, READINGS, {0: 7, 1: 7}):
            for partition, _, value in rows:
                stored[partition].append(int(value or b""))
        ends = KafkaProbe(endpoint)
        assert await ends.end_offsets(READINGS, [0, 1]) == {0: 8, 1: 8}
        await ends.close()
    assert stored == {p: [n for n in range(4) for _ in range(2)] for p in (0, 1)}

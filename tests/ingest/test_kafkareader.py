"""A real Kafka, read from the newest record to the oldest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import pytest
from aiokafka import AIOKafkaProducer

from deploy.stack.servers import KafkaServer
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint, create_topics
from ingest.kafkareader import KafkaBackReader, KafkaForwardReader
from tests.fakes.ports import free_port


@pytest.mark.needs_kafka_server
def test_pages_come_newest_first_and_another_partition_is_empty(real_kafka: KafkaServer) -> None:
    endpoint = KafkaEndpoint(real_kafka.address)
    topic = f"backwards-{time.time_ns()}"
    written = [b"%d" % number for number in range(10)]
    asyncio.run(_write(endpoint, Topic(topic), written))

    with KafkaBackReader(endpoint, 2, page_records=4) as reader:
        assert list(reader.read_back(topic, 0)) == written[::-1]
        assert list(islice(reader.read_back(topic, 0), 2)) == [b"9", b"8"]
        assert list(reader.read_back(topic, 1)) == []


@pytest.mark.needs_kafka_server
def test_a_forward_reader_goes_on_where_it_is_told(real_kafka: KafkaServer) -> None:
    endpoint = KafkaEndpoint(real_kafka.address)
    topic = f"forwards-{time.time_ns()}"
    asyncio.run(_write(endpoint, Topic(topic), [b"%d" % number for number in range(10)]))
    reader = KafkaForwardReader(endpoint)
    try:
        assert reader.cluster.startswith("kafka ")
        assert reader.bounds(topic, 2) == {0: (0, 10), 1: (0, 0)}
        assert list(reader.read(topic, 0, 7, 9)) == [(7, b"7"), (8, b"8")]
        assert [offset for offset, _ in reader.read(topic, 0, 0, 10)] == list(range(10))
    finally:
        reader.close()


def test_nobody_there_is_told() -> None:
    reader = KafkaBackReader(KafkaEndpoint(f"127.0.0.1:{free_port()}"), 1)

    with pytest.raises(LogUnavailable, match="cannot read from Kafka at"), reader:
        pass
    with pytest.raises(LogUnavailable, match="cannot read from Kafka at"):
        KafkaForwardReader(KafkaEndpoint(f"127.0.0.1:{free_port()}"))


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int = 2

    def settings(self) -> Mapping[str, str]:
        return {}


async def _write(endpoint: KafkaEndpoint, topic: Topic, values: list[bytes]) -> None:
    await create_topics(endpoint, [topic])
    async with AIOKafkaProducer(**endpoint.options()) as producer:
        for value in values:
            await producer.send_and_wait(topic.name, value, partition=0)

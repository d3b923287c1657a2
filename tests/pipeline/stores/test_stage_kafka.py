"""The store on a real Kafka: its membership in the group, an unavailable sink, stores that come and
go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.stack.servers import KafkaServer
from deploy.stack.topics import site_topics
from ingest.deadletter import decode_dead_letter
from ingest.kafka import KafkaEndpoint, create_topics, read_until
from ingest.topics import DEAD_LETTERS, SCORES
from pipeline.app import KafkaLink, StoreApp, create_store_app
from pipeline.errors import SinkUnavailable
from pipeline.settings import PipelineSettings
from pipeline.stores.sinks import RefusedLine
from tests.fakes.log import until
from tests.fakes.scores import encode_records
from tests.pipeline.points.test_scores import RUL
from tests.pipeline.stores.test_stage import FakeLines

pytestmark = pytest.mark.needs_kafka_server
PARTITIONS = 4
PER_RECORD = 5


class Sink(FakeLines):
    """A sink that can be unavailable; several stores may share its lines."""

    away = False

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        store = super().writing(lines)

        def write() -> list[RefusedLine]:
            if self.away:
                msg = "away"
                raise SinkUnavailable(msg)
            return store()

        return write


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


class StoreRig:
    """Scores in Kafka, and stores that read them; everything under one app id."""

    def __init__(self, kafka: KafkaServer, folder: Path, producer: AIOKafkaProducer) -> None:
        self.kafka = kafka
        self.folder = folder
        self.producer = producer
        self.written = 0
        self.sink = Sink()
        self.first = 0
        self.stores: list[StoreApp] = []

    async def write(self, records: int, **changes: object) -> None:
        sent = []
        for _ in range(records):
            ends = range(self.written, self.written + PER_RECORD)
            whose = {"device": self.folder.name}
            scores = [RUL | whose | {"end_ms": RUL["end_ms"] + n} | changes for n in ends]
            partition = self.written // PER_RECORD % PARTITIONS
            sent.append(
                await self.producer.send(SCORES, encode_records(scores), partition=partition)
            )
            self.written += PER_RECORD
        for confirmation in sent:
            await confirmation

    async def store(self) -> StoreApp:
        endpoint = KafkaEndpoint(self.kafka.address)
        number = len(self.stores)
        store = create_store_app(
            f"kafka://{self.kafka.address}",
            PipelineSettings(
                app_id=self.folder.name, partitions=PARTITIONS, store_linger_ms=5, session_ms=6_000
            ),
            self.sink,
            "influx",
            data_dir=self.folder / str(number),
            kafka=KafkaLink(partial(read_until, endpoint)),
        )
        self.stores.append(store)
        await store.start()
        return store

    @property
    def lines(self) -> list[str]:
        """The lines of this test; a new group also reads the scores of other tests."""
        return [line for line in self.sink.lines if f"device={self.folder.name}," in line]

    @property
    def all_stored(self) -> bool:
        return len(set(self.lines)) == self.written

    async def committed(self) -> int:
        """Number of records that the group has committed."""
        group = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.address, group_id=f"{self.folder.name}-store-influx"
        )
        await group.start()
        try:
            places = [TopicPartition(SCORES, partition) for partition in range(PARTITIONS)]
            ends = await group.end_offsets(places)
            done = [await group.committed(place) for place in places]
        finally:
            await group.stop()
        self.missing = sum(ends.values()) - sum(offset or 0 for offset in done)
        return self.missing

    async def settle(self) -> None:
        """Wait until everything that was written is committed."""
        for _ in range(300):
            if await self.committed() == 0:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{self.missing} records are not committed")


@asynccontextmanager
async def rig_on(kafka: KafkaServer, folder: Path) -> AsyncIterator[StoreRig]:
    endpoint = KafkaEndpoint(kafka.address)
    await create_topics(endpoint, site_topics(PARTITIONS))
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address)
    await producer.start()
    line = StoreRig(kafka, folder, producer)
    try:
        yield line
    finally:
        for store in line.stores:
            if not store.app.should_stop:
                await asyncio.wait_for(store.stop(), 120)
        await producer.stop()


async def test_an_unavailable_sink_does_not_cost_the_membership_of_the_group(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as line:
        await line.write(3_000)
        line.sink.away = True
        store = await line.store()
        assert store.app.conf.broker_max_poll_interval > 7 * 86_400, "scores are kept for a week"
        await until(lambda: store.stage.counters.tries_failed > 3, 60)
        generation = store.app.consumer_generation_id
        assert await line.committed() > 0
        line.sink.away = False
        await until(lambda: line.all_stored, 60)
        await line.settle()
        assert store.app.consumer_generation_id == generation
        assert len(line.lines) == line.written, "and nothing is written twice"


async def test_stores_join_and_leave_while_the_sink_is_available_or_not(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as line:
        await line.write(400)
        line.sink.away = True
        one = await line.store()
        await until(lambda: one.stage.is_away, 60)
        two = await line.store()
        await until(lambda: len(one.app.consumer.assignment()) < 2 * PARTITIONS, 60)
        await until(lambda: two.stage.is_away, 60)
        line.sink.away = False
        await line.write(400)
        await until(lambda: line.all_stored, 60)
        await line.settle()
        await asyncio.wait_for(one.stop(), 120)
        await line.write(400)
        await until(lambda: line.all_stored, 60)
        await line.settle()
        assert two.stage.counters.stored > 0


async def test_a_store_that_stops_while_the_sink_is_unavailable_leaves_the_rest_to_the_next(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as line:
        await line.write(200)
        store = await line.store()
        await until(lambda: line.all_stored, 60)
        await line.settle()
        line.sink.away = True
        await line.write(200)
        await until(lambda: store.stage.is_away, 60)
        await asyncio.wait_for(store.stop(), 120)
        assert await line.committed() == 200, "the last ones are not committed"
        line.sink.away = False
        await line.store()
        await until(lambda: line.all_stored, 60)
        await line.settle()
        assert len(line.lines) == line.written


async def test_refused_points_are_in_kafka_as_dead_letters(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as line:
        place = [TopicPartition(DEAD_LETTERS, 0)]
        dead_letters = AIOKafkaConsumer(bootstrap_servers=kafka.address)
        await dead_letters.start()
        dead_letters.assign(place)
        await dead_letters.seek_to_end(*place)
        await line.store()
        await line.write(10)
        good = line.written
        await line.write(2, model="bad")
        await until(lambda: len(line.lines) >= good, 60)
        await line.settle()
        found = []
        while len(found) < 2 * PER_RECORD:
            for record in (await dead_letters.getmany(timeout_ms=10_000)).get(place[0], []):
                found.append(decode_dead_letter(record.value))
        await dead_letters.stop()
        assert {dead_letter.source for dead_letter in found} == {"store"}
        assert all(b"model=bad" in dead_letter.raw for dead_letter in found)
        assert len(found) == 2 * PER_RECORD
        assert len(line.lines) == good

"""Commits and rebalances on a real Kafka: nothing unacked is passed, holes are noticed."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import LeaderNotAvailableError

from deploy.stack.servers import KafkaServer
from deploy.stack.topics import TopicSpec
from ingest.kafka import KafkaEndpoint, create_topics
from pipeline.errors import LogHole
from pipeline.log.kafkatransport import KafkaApp, offsets_in_use

pytestmark = pytest.mark.needs_kafka_server

_names = itertools.count()


class Stage:
    """An app whose agent keeps its events until the test acks them."""

    def __init__(self, server: str, group: str, topic: str, folder: Path, **options: Any) -> None:
        kind = options.pop("kind", KafkaApp)
        self.topic = topic
        self.app = kind(
            group,
            broker=f"kafka://{server}",
            datadir=str(folder / group),
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_commit_interval=0.1,
            broker_heartbeat_interval=0.3,
            web_enabled=False,
            autodiscover=False,
            **{"broker_session_timeout": 6.0, **options},
        )
        self.held: list[Any] = []

        @self.app.agent(self.app.topic(topic, key_serializer="raw", value_serializer="raw"))
        async def hold(stream: Any) -> None:
            async for events in self.app.consumer.fetches([topic]):
                self.held += events

    @property
    def offsets(self) -> list[int]:
        return [event.message.offset for event in self.held]

    @property
    def committed(self) -> int | None:
        return offsets_in_use(self.app).get((self.topic, 0), (None, None))[1]


@asynccontextmanager
async def running(*stages: Stage) -> AsyncIterator[None]:
    for stage in stages:
        stage.app.finalize()
    await asyncio.gather(*(stage.app.start() for stage in stages))
    try:
        yield
    finally:
        for stage in stages:
            stage.app.consumer.abandon()
        await asyncio.gather(*(stage.app.stop() for stage in stages))


async def eventually(holds: Callable[[], Any], seconds: float = 120.0) -> None:
    for _ in range(round(seconds / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


class Place:
    """A topic with one partition and a group of its own, with helpers for the test."""

    def __init__(self, server: str, folder: Path) -> None:
        self.server = server
        self.folder = folder
        number = next(_names)
        self.topic, self.group = f"held-{number}", f"group-{number}"

    async def send(self, count: int) -> None:
        endpoint = KafkaEndpoint(self.server)
        await create_topics(endpoint, [TopicSpec(self.topic, 1, None, "delete")])
        producer = AIOKafkaProducer(bootstrap_servers=self.server, acks="all")
        await producer.start()
        for number in range(count):
            await producer.send_and_wait(self.topic, b"%d" % number, partition=0)
        await producer.stop()

    async def delete_before(self, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server)
        await admin.start()
        place = TopicPartition(self.topic, 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=offset)})
        await admin.close()

    def stage(self, **options: Any) -> Stage:
        return Stage(self.server, self.group, self.topic, self.folder, **options)


@pytest.fixture
def place(real_kafka: KafkaServer, tmp_path: Path) -> Iterator[Place]:
    yield Place(real_kafka.address, tmp_path)


async def test_a_commit_passes_no_record_that_is_not_acked(place: Place) -> None:
    await place.send(10)
    stage = place.stage()
    async with running(stage):
        await eventually(lambda: len(stage.held) == 10)
        for event in (*stage.held[:3], *stage.held[4:]):
            event.ack()
        await eventually(lambda: stage.committed == 3)
        await asyncio.sleep(0.5)
        assert stage.committed == 3
    again = place.stage()
    async with running(again):
        await eventually(lambda: len(again.held) == 7)
        assert again.offsets == list(range(3, 10))
        for event in again.held:
            event.ack()
        await eventually(lambda: again.committed == 10)


class Dropping(KafkaApp):
    """Faust's consumer, which once drops a record on the way to the agent."""

    def _new_consumer(self) -> Any:
        consumer = super()._new_consumer()
        fetch = consumer.getmany

        async def getmany(timeout: float) -> AsyncIterator[Any]:
            async for tp, message in fetch(timeout):
                if message.offset != 5:
                    yield tp, message

        consumer.getmany = getmany
        return consumer


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_hole_stops_the_app_and_nothing_behind_it_is_committed(place: Place) -> None:
    await place.send(10)
    await _crash_at_a_hole(place)
    gc.collect()  # a crashed consumer leaves its connection open: not for a later test to report
    again = place.stage()
    async with running(again):
        await eventually(lambda: again.held and again.offsets[-1] == 9)
        assert set(range(5, 10)) <= set(again.offsets)


async def _crash_at_a_hole(place: Place) -> None:
    stage = place.stage(kind=Dropping)
    async with running(stage):
        await eventually(lambda: stage.app.crashed)
        assert isinstance(stage.app.crash_reason, LogHole)
        assert "record 6 instead of 5" in str(stage.app.crash_reason)
        for event in stage.held:
            event.ack()
        await stage.app.consumer.commit()


async def test_records_fetched_too_early_are_redelivered_even_before_the_first_commit(
    place: Place,
) -> None:
    await place.send(10)
    stage = place.stage()

    @stage.app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def fetch_and_drop(app: Any, assigned: Any, **_: Any) -> None:
        await app.consumer.seek_wait(dict.fromkeys(assigned, 4))

    async with running(stage):
        await eventually(lambda: stage.app.crashed or len(stage.held) == 10)
        assert stage.offsets == list(range(10))


async def test_a_partition_without_a_leader_holds_up_no_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.send(10)
    stage = place.stage(broker_request_timeout=6.5)

    async def refuse(*_: object) -> None:
        raise LeaderNotAvailableError

    with monkeypatch.context() as patch:
        patch.setattr(Fetcher, "_proc_offset_request", refuse)  # the first offset stays unknown
        stage.app.finalize()
        starting = asyncio.ensure_future(stage.app.start())
        await asyncio.wait_for(starting, 60)
        assert not stage.held
    try:
        await eventually(lambda: len(stage.held) == 10)
    finally:
        stage.app.consumer.abandon()
        await stage.app.stop()


async def test_records_that_kafka_deleted_are_skipped_and_counted(place: Place) -> None:
    await place.send(10)
    stage = place.stage()
    async with running(stage):
        await eventually(lambda: len(stage.held) == 10)
        stage.held[0].ack()
        await eventually(lambda: stage.committed == 1)
    await place.delete_before(6)
    again = place.stage()
    async with running(again):
        await eventually(lambda: len(again.held) == 4)
        assert again.offsets == [6, 7, 8, 9]
        assert again.app.consumer.skipped == 5
        for event in again.held:
            event.ack()
        await eventually(lambda: again.committed == 10)


async def test_acks_after_a_rebalance_are_ignored_and_the_records_are_redelivered(
    place: Place,
) -> None:
    await place.send(6)
    first = place.stage()
    async with running(first):
        await eventually(lambda: len(first.held) == 6)
        first.held[0].ack()
        await eventually(lambda: first.committed == 1)
        first.app.consumer.may_not_end = lambda: True  # as if its sink were unavailable
        second = place.stage()
        async with running(second):
            await eventually(lambda: first.app.has_joined and second.app.has_joined)
            await eventually(lambda: len(first.held) + len(second.held) == 11)
            (owner,) = [s for s in (first, second) if offsets_in_use(s.app)]
            for event in first.held[1:6]:
                event.ack()
            await asyncio.sleep(0.5)
            assert owner.committed == 1
            for event in owner.held[-5:]:
                event.ack()
            await eventually(lambda: owner.committed == 6)

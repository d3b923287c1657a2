"""Promises of the local transport beyond Kafka's contract, and its refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from faust.exceptions import ImproperlyConfigured, ProducerSendError

from pipeline.errors import LogFailed
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.state import NewRecord
from tests.contracts.progress import progress


@pytest.fixture(params=["sqlite"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_broker: Any) -> Any:
    """The local log only."""
    return sqlite_broker


@pytest.fixture(params=["stream", "fetches"])
def holder(request: pytest.FixtureRequest) -> Any:
    """Makes an app that withholds its acks; its agent takes single events, or whole fetches."""

    def make(names: Any, **settings: Any) -> tuple[Any, Any, list[Any]]:
        app = names.app(**settings)
        topic = names.readings(app)
        held: list[Any] = []

        @app.agent(topic)
        async def hold(stream: Any) -> None:
            if request.param == "stream":
                async for event in stream.noack().events():
                    held.append(event)
            else:
                async for events in app.consumer.fetches(topic.topics):
                    held.extend(events)

        return app, topic, held

    return make


class Elsewhere:
    """The same broker, an app that reads another topic."""

    def __init__(self, names: Any) -> None:
        self.app = lambda **settings: names.app("elsewhere", **settings)
        self.readings = lambda app: app.topic("elsewhere", partitions=1)


def committed(app: Any, partition: int = 0) -> int:
    return progress(app)[partition].committed or 0


async def send(topic: Any, count: int, partition: int = 0) -> None:
    futures = [await topic.send(value=b"%d" % n, partition=partition) for n in range(count)]
    await asyncio.gather(*futures)


async def test_a_commit_never_passes_a_record_that_is_not_acked(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, topic, held = holder(names, stream_wait_empty=False)
    async with start(app):
        await send(topic, 12)
        await wait(lambda: len(held) == 12)
        for n in (1, 2, 3):  # Faust's own arithmetic commits 4 here: nothing was committed before
            held[n].ack()
        await app.consumer.commit()
        assert committed(app) == 0
        held[0].ack()
        await app.consumer.commit()
        assert committed(app) == 4
        for n in (5, 6, 7, 8):  # ... and 9 here: a hole of one
            held[n].ack()
        await app.consumer.commit()
        assert committed(app) == 4
    app, _, held = holder(names, stream_wait_empty=False)
    async with start(app):
        await wait(lambda: len(held) == 8)
        assert [event.message.offset for event in held] == list(range(4, 12))


async def test_a_rebalance_waits_for_the_acks_and_repeats_nothing(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, topic, held = holder(names)
    async with start(app):
        await send(topic, 6)
        await wait(lambda: len(held) == 6)
        generation = app.consumer_generation_id
        await app.consumer.subscribe({names.topic, "another"})
        await send(topic, 2)
        for event in held[:6]:
            await asyncio.sleep(0)
            assert app.consumer_generation_id == generation
            event.ack()
        await wait(lambda: len(held) == 8)
        assert app.consumer_generation_id == generation + 1
        assert [event.message.offset for event in held] == list(range(8))
        for event in held[6:]:
            event.ack()
    assert committed_in(names, names.group) == 8


def committed_in(names: Any, group: str) -> int | None:
    with SqliteLog(names.broker.path) as log:
        return log.committed(group, names.topic, 0)


async def test_a_crashed_app_stops_without_waiting_and_commits_nothing_unacked(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, topic, held = holder(names)
    async with start(app):
        await send(topic, 5)
        await wait(lambda: len(held) == 5)
        held[0].ack()
        held[1].ack()
        await app.crash(RuntimeError("the results store is gone for good"))
        await asyncio.wait_for(app.stop(), 120)
    assert committed_in(names, names.group) == 2
    app, _, held = holder(names, stream_wait_empty=False)
    async with start(app):
        await wait(lambda: len(held) == 3)
        assert held[0].message.offset == 2


def stuck(names: Any, **settings: Any) -> tuple[Any, list[Any]]:
    """An app whose agent never finishes a batch, as with an unavailable store."""
    app = names.app(**settings)
    taken: list[Any] = []

    @app.agent(names.readings(app))
    async def store(stream: Any) -> None:
        async for values in stream.take(100, within=0.05):
            taken.extend(values)
            await asyncio.Event().wait()

    return app, taken


async def test_an_abandoned_app_stops_at_once_and_its_records_are_redelivered(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, taken = stuck(names)
    async with start(app):
        await send(names.readings(app), 5)
        await wait(lambda: taken)
        stopping = asyncio.ensure_future(app.stop())
        assert not (await asyncio.wait({stopping}, timeout=0.3))[0]  # it waits for the acks
        app.consumer.abandon()
        await asyncio.wait_for(stopping, 120)
    assert committed_in(names, names.group) is None
    app, taken = stuck(names)
    async with start(app):
        await wait(lambda: taken)
        app.consumer.abandon()  # before the stop, too
        await asyncio.wait_for(app.stop(), 120)
    assert committed_in(names, names.group) is None
    app, _, held = holder(names, stream_wait_empty=False)
    async with start(app):
        await wait(lambda: len(held) == 5)
        assert [event.message.offset for event in held] == list(range(5))


async def test_an_abandoned_app_commits_no_ack_that_comes_later(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, topic, held = holder(names)
    async with start(app):
        await send(topic, 4)
        await wait(lambda: len(held) == 4)
        held[0].ack()
        await app.consumer.commit()
        app.consumer.abandon()
        held[1].ack()
        assert not await app.consumer.commit()
        await asyncio.wait_for(app.stop(), 120)
    assert committed_in(names, names.group) == 1


async def test_a_stop_that_is_cancelled_ends_and_commits_nothing_unacked(
    names: Any, start: Any, wait: Any
) -> None:
    app, taken = stuck(names)
    async with start(app):
        await send(names.readings(app), 5)
        await wait(lambda: taken)
        stopping = asyncio.ensure_future(app.stop())
        await asyncio.wait({stopping}, timeout=0.2)
        stopping.cancel()
        assert (await asyncio.wait({stopping}, timeout=30))[0]
        assert stopping.cancelled()
        await app._stop_children()
        await app._stop_futures()
    assert committed_in(names, names.group) is None


async def test_the_bridge_and_several_apps_share_the_log_and_wake_each_other(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    bridge = open_log(names.broker.path, partitions=4)
    app, _, held = holder(names, stream_wait_empty=False)
    other = names.app("other")
    got: list[Any] = []

    @other.agent(names.readings(other))
    async def note(stream: Any) -> None:
        async for event in stream.events():
            got.append(event)

    async with start(app, other):
        record = NewRecord(names.topic, b"1", b"plant-7/press-1", ts_ms=1_700_000_000_001)
        await asyncio.wrap_future(bridge.append([record]))
        await wait(lambda: held and got)
        assert held[0].message.timestamp == got[0].message.timestamp == 1_700_000_000.001
        assert sum(at.end - (at.committed or 0) for at in progress(app)) == 1
        assert {(p.position, p.end) for p in progress(app)} == {(0, 0), (1, 1)}
    assert bridge.groups() == sorted([names.group, "other"])
    bridge.close()


async def test_sends_into_a_full_log_wait_and_arrive_in_order(
    names: Any, holder: Any, start: Any, wait: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(
        names.broker.path, max_bytes=20_000, reserve_bytes=0, min_free_bytes=0, partitions=1
    )
    app, _, held = holder(names)
    sender, _, _ = holder(Elsewhere(names))
    topic = names.readings(sender)
    async with start(app, sender):
        futures = [await topic.send(value=b"%02d" % n * 250, partition=0) for n in range(20)]
        await asyncio.gather(*futures)
        await wait(lambda: len(held) == 20)
        more = [await topic.send(value=b"%02d" % n * 250, partition=0) for n in range(20, 50)]
        await wait(lambda: log.stats().refused)
        assert not all(future.done() for future in more)
        acked = 0
        while len(held) < 50 or acked < 50:  # committed, deleted, and room for what waits
            for event in held[acked:]:
                event.ack()
            acked = len(held)
            await wait(lambda done=acked: len(held) > done or done == 50)
        await asyncio.gather(*more)
        assert [event.message.value[:2] for event in held] == [b"%02d" % n for n in range(50)]
    log.close()


async def test_a_record_that_cannot_be_stored_fails_alone(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    app, topic, held = holder(names, stream_wait_empty=False)
    async with start(app):
        sends = [
            await topic.send(value=b"1", partition=0),
            await topic.send(value=b"2", partition=99),
            await topic.send(value=bytes(17 * 1024 * 1024), partition=0),
            await topic.send(value=b"4", partition=0),
        ]
        first, second, third, fourth = await asyncio.gather(*sends, return_exceptions=True)
        assert (first.offset, fourth.offset) == (0, 1)
        assert isinstance(second, ProducerSendError)
        assert isinstance(third, ProducerSendError)
        await wait(lambda: len(held) == 2)


async def test_a_failing_log_stops_the_app_and_nothing_more_is_committed(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    log = open_log(names.broker.path)
    app, topic, held = holder(names)
    async with start(app):
        await send(topic, 3)
        await wait(lambda: len(held) == 3)
        log._writer.failure = LogFailedNow("the card was pulled out")
        sent = await topic.send(value=b"x", partition=0)
        with pytest.raises(ProducerSendError, match="card was pulled"):
            await sent
        await wait(lambda: app.crashed)
        held[0].ack()
        await asyncio.wait_for(app.stop(), 120)
    log._writer.failure = None
    log.close()
    assert committed_in(names, names.group) is None


class LogFailedNow(LogFailed):
    """A simulated write error."""


async def test_an_agent_loses_nothing_while_faust_reads_for_another(
    names: Any, start: Any, wait: Any
) -> None:
    with open_log(names.broker.path, cache_bytes=0) as log:  # so that every read takes a while
        log.create_topic(names.topic, 4)
        log.create_topic("elsewhere", 1)
        for n in range(800):
            log.append([NewRecord(names.topic, b"%d" % n, partition=n % 4)])
        log.flush().result()
        app = names.app()
        taken: list[Any] = []

        @app.agent(names.readings(app))
        async def take(stream: Any) -> None:
            async for events in app.consumer.fetches([names.topic]):
                taken.extend(events)
                for event in events:
                    event.ack()
                if len(taken) < 2400:
                    log.append([NewRecord("elsewhere", b"1", partition=0)])
                    at = len(taken)
                    log.append(
                        [NewRecord(names.topic, b"", partition=n % 4) for n in range(at, at + 4)]
                    )

        @app.agent(app.topic("elsewhere", partitions=1))
        async def other(stream: Any) -> None:
            async for _ in stream:
                pass

        def is_complete() -> bool:
            ends = [log.end_offset(names.topic, n) for n in range(4)]
            return len(taken) >= 2400 and len(taken) == sum(ends)

        async with start(app):
            await wait(is_complete)
        for partition in range(4):
            offsets = [e.message.offset for e in taken if e.message.partition == partition]
            assert offsets == list(range(len(offsets)))


async def test_offsets_missing_in_the_log_are_skipped(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    with SqliteLog(names.broker.path) as log:
        log.create_topic(names.topic, 1, compacted=True)
        for key in (b"a", b"b", b"a", b"c", b"b", b"d"):  # 0, 1 superseded; also within
            log.append([NewRecord(names.topic, b"v", key)]).result()
    app, _, held = holder(names)
    async with start(app):
        await wait(lambda: len(held) == 4)
        assert [event.message.offset for event in held] == [2, 3, 4, 5]
        for event in (held[0], held[2], held[3]):
            event.ack()
        await wait(lambda: committed(app) == 3)
        held[1].ack()
    assert committed_in(names, names.group) == 6


async def test_a_soft_group_continues_after_deleted_records_and_counts_them(
    names: Any, holder: Any, start: Any, wait: Any
) -> None:
    log = open_log(
        names.broker.path,
        partitions=1,
        max_bytes=40_000,
        reserve_bytes=0,
        min_free_bytes=0,
        cache_bytes=0,
        soft_groups={names.group},
    )
    app, topic, held = holder(names, stream_wait_empty=False, stream_buffer_maxsize=4)

    async def fill(count: int) -> None:
        for _ in range(count):
            await (await topic.send(value=b"x" * 1000, partition=0))
            log._writer.maintain_soon()
        await asyncio.to_thread(log.maintain)

    async with start(app):
        await send(topic, 1)
        await wait(lambda: len(held) == 1)
        held[0].ack()
        await app.consumer.commit()
        app.consumer.pause_partitions(app.consumer.assignment())
        await fill(60)
        assert log.stats().released > 20
        app.consumer.resume_partitions(app.consumer.assignment())
        earliest = log.earliest_offset(names.topic, 0)
        await wait(lambda: held[-1].message.offset == 60)
        offsets = [event.message.offset for event in held]
        assert app.consumer.skipped == 60 - (len(held) - 1) > 20
        assert earliest in offsets
        for event in held[1:]:
            event.ack()
        await wait(lambda: committed(app) == 61)
    sender, _, _ = holder(Elsewhere(names))
    topic = sender.topic(names.topic, value_serializer="raw", partitions=4)
    async with start(sender):
        await fill(60)
    earliest = log.earliest_offset(names.topic, 0)
    app, topic, held = holder(names, stream_wait_empty=False)
    async with start(app):
        await wait(lambda: held)
        assert held[0].message.offset == earliest
        assert app.consumer.skipped == earliest - 61 > 20
    log.close()


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        (None, {"processing_guarantee": "exactly_once"}, "at_least_once"),
        ("sqlite:///", {}, "absolute path"),
        ("sqlite://relative/log.db", {}, "absolute path"),
        ("sqlite:///tmp/log.db?sync=off", {}, "unknown options"),
    ],
)
async def test_unsupported_guarantees_are_refused_at_start(
    names: Any, url: str | None, settings: dict[str, Any], message: str
) -> None:
    if url is not None:
        names.broker.url = url
    app = names.app(**settings)
    with pytest.raises(ImproperlyConfigured, match=message):
        await app.transport.open()

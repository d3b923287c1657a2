"""The contract that agents rely on, for the local log and Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.topics import partition_of
from tests.contracts.progress import progress


def collect(app: Any, topic: Any, into: list[Any]) -> None:
    """An agent that records its messages."""

    @app.agent(topic)
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            into.append(event.message)


async def test_records_arrive_in_order_with_key_headers_and_time(
    names: Any, start: Any, wait: Any
) -> None:
    app = names.app()
    topic = names.readings(app)
    got: list[Any] = []
    collect(app, topic, got)
    keys = [b"plant-7/press-%d" % n for n in range(8)]
    async with start(app):
        for n in range(200):
            await topic.send(
                key=keys[n % 8],
                value=b"%d" % n,
                timestamp=1_700_000_000.123 + n,
                headers={"origin": b"test", "n": b"%d" % n},
            )
        await wait(lambda: len(got) == 200)
    for key in keys:
        mine = [m for m in got if m.key == key]
        assert {m.partition for m in mine} == {partition_of(key, 4)}
        assert [m.offset for m in mine] == sorted(m.offset for m in mine)
        assert [int(m.value) for m in mine] == list(range(keys.index(key), 200, 8))
    first = next(m for m in got if m.value == b"0")
    assert first.timestamp == pytest.approx(1_700_000_000.123, abs=1e-6)
    assert dict(first.headers) == {"origin": b"test", "n": b"0"}


async def test_a_restart_continues_after_the_last_ack_with_its_tables(
    names: Any, start: Any, wait: Any
) -> None:
    async def run(
        readings: list[tuple[bytes, bytes]],
    ) -> tuple[list[bytes], dict[str, int], dict[str, int]]:
        app = names.app(names.group, "counts")
        topic = names.readings(app)
        counts = app.Table("counts", default=int, partitions=4, key_type=str, value_type=int)
        got: list[bytes] = []

        @app.agent(topic)
        async def count(stream: Any) -> None:
            async for event in stream.events():
                key = event.message.key.decode()
                if event.message.value == b"forget":
                    counts.pop(key)
                else:
                    counts[key] += 1
                got.append(event.message.value)

        async with start(app):
            recovered = dict(counts)
            for key, value in readings:
                await topic.send(key=key, value=value)
            await wait(lambda: len(got) >= len(readings))
            return got, recovered, dict(counts)

    first = [(b"press-%d" % (n % 5), b"%d" % n) for n in range(20)]
    got, recovered, counts = await run([*first, (b"press-3", b"forget")])
    assert len(got) == 21
    assert recovered == {}
    assert counts == {"press-0": 4, "press-1": 4, "press-2": 4, "press-4": 4}

    got, recovered, counts_later = await run([(b"press-1", b"20")])
    assert got == [b"20"]  # nothing that was acked comes again
    assert recovered == counts  # the tombstone too
    assert counts_later == {**counts, "press-1": 5}


async def test_two_apps_in_one_process_read_the_same_records_independently(
    names: Any, start: Any, wait: Any
) -> None:
    def reader(group: str) -> tuple[Any, Any, list[Any]]:
        app = names.app(f"{names.group}-{group}")
        topic = names.readings(app)
        got: list[Any] = []
        collect(app, topic, got)
        return app, topic, got

    score, topic, scored = reader("score")
    store, _, stored = reader("store")
    async with start(score, store):
        for n in range(10):
            await (await topic.send(key=b"a", value=b"%d" % n))
        await wait(lambda: len(scored) == len(stored) == 10)
        await store.stop()
        for n in range(10, 15):
            await (await topic.send(key=b"a", value=b"%d" % n))
        await wait(lambda: len(scored) == 15)
        assert len(stored) == 10
        again, _, stored_later = reader("store")
        async with start(again):
            await wait(lambda: len(stored_later) == 5)
    assert [m.value for m in stored_later] == [b"10", b"11", b"12", b"13", b"14"]
    assert [m.offset for m in scored] == list(range(15))


async def test_withheld_acks_are_awaited_and_unacked_records_are_redelivered(
    names: Any, start: Any, wait: Any
) -> None:
    def holder(**settings: Any) -> tuple[Any, Any, list[Any]]:
        app = names.app(**settings)
        topic = names.readings(app)
        held: list[Any] = []

        @app.agent(topic)
        async def hold(stream: Any) -> None:
            async for event in stream.noack().events():
                held.append(event)

        return app, topic, held

    def committed(app: Any) -> int:
        return max(found.committed or 0 for found in progress(app))

    app, topic, held = holder(stream_wait_empty=False)  # its stop is as good as a kill
    async with start(app):
        for n in range(12):
            await (await topic.send(key=b"a", value=b"%d" % n))
        await wait(lambda: len(held) == 12)
        for event in held[:6]:
            event.ack()
        await wait(lambda: committed(app) == 6)
        for event in held[6:8]:
            event.ack()
        await wait(lambda: committed(app) == 8)

    app, topic, held = holder()
    async with start(app):
        await wait(lambda: len(held) == 4)
        assert [event.message.offset for event in held] == [8, 9, 10, 11]
        stop = asyncio.create_task(app.stop())
        for event in held:
            for _ in range(3):
                await asyncio.sleep(0)
            assert not stop.done()
            event.ack()
        await stop

    if names.broker.kind == "kafka":
        return  # its groups take seconds to form again, and the rest was shown
    app, topic, held = holder(stream_wait_empty=False)
    async with start(app):
        await (await topic.send(key=b"a", value=b"12"))
        await wait(lambda: held)
        assert [event.message.offset for event in held] == [12]

"""Window state of several owners: no saved state is ever lost, even with zombies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator, Mapping
from dataclasses import dataclass, field

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.log.changelog import Changelog, ChangelogRow
from pipeline.windows.rows import applied_offset

NAME = "plant/press-1/engine"


def row(offset: int) -> bytes:
    """A row as `pipeline.windows.devices` writes it, that holds the log up to `offset`."""
    head = orjson.dumps({"partition": 0, "offset": offset, "counters": {}})
    return b"KPD1" + len(head).to_bytes(4, "little") + head + b"state"


@dataclass
class Topic:
    """A compacted topic with one partition."""

    records: list[tuple[int, bytes, bytes | None]] = field(default_factory=list)
    end: int = 0
    dies_after: int = 10**9  # so many more sends, then the owner is dead

    async def send(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[int]:
        assert partition == 0
        if self.dies_after == 0:
            raise Killed
        self.dies_after -= 1
        offset, self.end = self.end, self.end + 1
        self.records.append((offset, key, value))
        return Done(offset)

    async def read(self, last: Mapping[int, int]) -> AsyncIterator[list[ChangelogRow]]:
        for offset, key, value in list(self.records):
            yield [(0, key, value)]
            if offset >= last[0]:
                return

    def compact(self) -> None:
        newest = {key: offset for offset, key, _ in self.records}
        self.records = [r for r in self.records if newest[r[1]] == r[0] and r[2] is not None]

    def keys(self) -> list[bytes]:
        return [key for _, key, value in self.records if key != b"-" and value is not None]


class Killed(Exception):
    """SIGKILL."""


class Done:
    """The answer of a log that has the row; unlike a coroutine, it need not be awaited."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __await__(self) -> Generator[None, None, int]:
        yield from ()
        return self._offset


async def opened(topic: Topic, generation: int) -> Changelog:
    changelog = Changelog(topic.send, topic.read)
    await changelog.open([0], generation)
    return changelog


async def test_a_new_owner_finds_the_state_that_the_last_one_saved() -> None:
    topic = Topic()
    first = await opened(topic, 1)
    assert first.keys() == []
    await first.write([(0, NAME, row(10)), (0, "plant/press-2/engine", row(12))])
    await first.write([(0, NAME, row(20))])
    second = await opened(topic, 2)
    assert sorted(second.keys()) == [NAME, "plant/press-2/engine"]
    assert applied_offset(second.get(NAME) or b"") == 20
    assert second.get("plant/press-3/engine") is None
    second.release()
    assert second.keys() == []


async def test_a_former_owner_that_wakes_up_overwrites_nothing() -> None:
    topic = Topic()
    frozen = await opened(topic, 1)
    await frozen.write([(0, NAME, row(10))])
    owner = await opened(topic, 2)
    await owner.write([(0, NAME, row(50))])
    await frozen.write([(0, NAME, row(13))])
    topic.compact()
    assert applied_offset((await opened(topic, 3)).get(NAME) or b"") == 50


async def test_rows_of_former_owners_are_deleted_only_after_the_new_row_is_durable() -> None:
    topic = Topic()
    await (await opened(topic, 1)).write([(0, NAME, row(10))])
    owner = await opened(topic, 2)
    assert topic.keys() == [f"{NAME}#1".encode()]
    await owner.write([(0, "plant/press-2/engine", row(11))])
    await owner.write([(0, NAME, row(12))])
    topic.compact()
    assert sorted(topic.keys()) == [f"{NAME}#2".encode(), b"plant/press-2/engine#2"]

    owner = await opened(topic, 3)
    topic.dies_after = 1  # the row, and not what deletes its predecessor
    try:
        await owner.write([(0, NAME, row(15))])
    except Killed:
        topic.dies_after = 10**9
    topic.compact()
    assert applied_offset((await opened(topic, 4)).get(NAME) or b"") == 15


async def test_no_partitions_need_no_request() -> None:
    topic = Topic()
    changelog = Changelog(topic.send, topic.read)
    await changelog.open([], 7)
    assert (changelog.keys(), topic.records) == ([], [])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("save"), st.integers(0, 3), st.integers(1, 9)),
            st.tuples(st.just("die"), st.integers(0, 3), st.integers(0, 3)),
            st.tuples(st.just("take over"), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("compact"), st.just(0), st.just(0)),
        ),
        max_size=40,
    )
)
def test_the_newest_state_of_an_owner_survives_any_order_of_writes(
    deeds: list[tuple[str, int, int]],
) -> None:
    asyncio.run(_survives(deeds))


async def _survives(deeds: list[tuple[str, int, int]]) -> None:
    """Four workers, one device; those that are not the owner do not know it.

    A worker continues from the state it opened with or saved last; an owner never starts from less
    than an earlier owner had saved.
    """
    topic = Topic()
    workers: dict[int, tuple[Changelog, int]] = {}
    owner, generation, saved = -1, 0, -1
    for deed, who, number in deeds:
        if deed == "compact":
            topic.compact()
        elif deed == "take over":
            generation += 1
            owner = who
            changelog = await opened(topic, generation)
            found = applied_offset(changelog.get(NAME) or b"")
            assert found >= saved
            workers[who] = (changelog, found)
        elif who in workers:
            changelog, offset = workers[who]
            offset += number
            topic.dies_after = 10**9 if deed == "save" else number
            try:
                await changelog.write([(0, NAME, row(offset))])
            except Killed:
                del workers[who]
                owner = -1 if who == owner else owner
                continue
            finally:
                topic.dies_after = 10**9
            workers[who] = (changelog, offset)
            if who == owner:
                saved = offset
    topic.compact()
    assert applied_offset((await opened(topic, generation + 1)).get(NAME) or b"") >= saved

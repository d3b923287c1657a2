"""The local log: offsets, groups, compaction, retention, the cap."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogError, LogFull, LogLocked
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.state import NewRecord


class Clock:
    """A wall clock that stands still."""

    ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.db", partitions=1, min_free_bytes=0, clock=clock)
    yield log
    log.close()


def fill(log: SqliteLog, count: int, topic: str = "readings", size: int = 1000) -> None:
    log.append([NewRecord(topic, b"%06d" % n * (size // 6)) for n in range(count)]).result()


def values(log: SqliteLog, topic: str = "readings", partition: int = 0) -> list[bytes | None]:
    return [r.value for r in log.read(topic, partition, 0, 10_000, 10**9)]


def test_what_is_read_is_what_was_appended(log: SqliteLog) -> None:
    records = [
        NewRecord("t", b"value", b"key", 0, 1_600_000_000_001, (("h", b"1"), ("h", b""))),
        NewRecord("t", None, b"", 0, 5),
        NewRecord("t", b"", None),
    ]
    assert log.append(records).result() == [0, 1, 2]
    for cached in (True, False):
        if not cached:
            log._state.topics["t"].partitions[0].tail.clear()
        first, second, third = log.read("t", 0, 0)
        assert first == ("t", 0, 0, 1_600_000_000_001, b"key", b"value", records[0].headers)
        assert (second.key, second.value, second.ts_ms) == (b"", None, 5)
        assert (third.key, third.value, third.ts_ms) == (None, b"", Clock.ms)
    assert log.read("t", 0, 3) == []


def test_keys_meet_the_partitions_that_kafka_would_choose(tmp_path: Path) -> None:
    keys = [b"plant-7/press-%d" % n for n in range(100)] + [b"", b"a", b"21"]
    log = SqliteLog(tmp_path / "log.db", partitions=4)
    log.append([NewRecord("t", b"", key) for key in keys]).result()
    kafka = DefaultPartitioner()
    for partition in range(4):
        for record in log.read("t", partition, 0):
            assert record.key is not None
            assert kafka(record.key, [0, 1, 2, 3], [0, 1, 2, 3]) == partition
            assert partition_of(record.key, 4) == partition
    log.close()


def test_reads_are_bounded_by_count_and_bytes_and_never_empty_handed(log: SqliteLog) -> None:
    fill(log, 10)
    for _ in range(2):
        assert len(log.read("readings", 0, 2, max_records=3)) == 3
        assert len(log.read("readings", 0, 0, max_bytes=3500)) in (2, 3)
        assert len(log.read("readings", 0, 0, max_bytes=1)) == 1
        log._state.topics["readings"].partitions[0].tail.clear()


def test_the_tail_cache_is_bounded_and_older_records_come_from_the_disk(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1, cache_bytes=20_000)
    fill(log, 100)
    assert log.read_recent("readings", 0, 0) is None
    assert log.read_recent("readings", 0, 95)
    found = [r.offset for r in log.read("readings", 0, 0, 60)] + [
        r.offset for r in log.read("readings", 0, 60)
    ]
    assert found == list(range(100))
    log.close()


def test_many_threads_append_and_each_finds_its_records_in_its_order(log: SqliteLog) -> None:
    def write(name: int) -> None:
        futures = [log.append([NewRecord("t", b"%d %d" % (name, n))]) for n in range(200)]
        offsets = [future.result()[0] for future in futures]
        assert offsets == sorted(offsets)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.end_offset("t", 0) == 1000
    pairs = [tuple(map(int, (v or b"").split())) for v in values(log, "t")]
    for name in range(5):
        assert [n for who, n in pairs if who == name] == list(range(200))
    assert log.stats().commits < 1000  # group commit


def test_an_impossible_record_fails_alone(log: SqliteLog) -> None:
    log.create_topic("changes", 1, compacted=True)
    good = log.append([NewRecord("t", b"1")])
    bad = log.append([NewRecord("t", b"2"), NewRecord("t", b"3", partition=7)])
    keyless = log.append([NewRecord("changes", b"4")])
    also_good = log.append([NewRecord("t", b"5")])
    assert good.result() == [0]
    assert also_good.result() == [1]
    with pytest.raises(LogError, match="partitions 0 to 0, not 7"):
        bad.result()
    with pytest.raises(LogError, match="need a key"):
        keyless.result()
    with pytest.raises(TypeError, match="bytes or None, not str"):
        log.append([NewRecord("t", "text")])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split it"):
        log.append([NewRecord("t", bytes(17 * 1024 * 1024))])
    with pytest.raises(LogError, match="no topic 'nowhere'"):
        log.read("nowhere", 0, 0)


def test_a_listener_hears_of_durable_records_and_wakes_an_event_loop(log: SqliteLog) -> None:
    async def wait_for_record() -> frozenset[tuple[str, int]]:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Any] = loop.create_future()
        remove = log.add_listener(lambda what: loop.call_soon_threadsafe(heard.set_result, what))
        log.append([NewRecord("t", b"1")])
        changed = await asyncio.wait_for(heard, 30)
        assert log.end_offset("t", 0) == 1
        remove()
        log.append([NewRecord("t", b"2")]).result()  # a second call would fail the future
        return changed

    assert asyncio.run(wait_for_record()) == {("t", 0)}


def test_groups_keep_their_offsets_over_a_restart(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=2)
    log.append([NewRecord("t", b"", partition=n % 2) for n in range(10)]).result()
    log.register_group("score", ["t"]).result()
    log.register_group("late", ["t"], start="latest").result()
    assert log.committed("score", "t", 0) is None
    assert [log.start_offset(g, "t", 0) for g in ("score", "late", "other")] == [0, 5, 0]
    log.commit("score", {("t", 0): 3}).result()
    log.close()
    log = SqliteLog(tmp_path / "log.db", partitions=2)
    assert log.committed("score", "t", 0) == 3
    assert log.start_offset("late", "t", 1) == 5
    assert [(at.partition, at.committed, at.end) for at in log.group_offsets("score")] == [
        (0, 3, 5),
        (1, None, 5),
    ]
    assert log.topics() == {"t": 2}
    log.drop_group("score").result()
    assert log.groups() == ["late"]
    log.close()


def test_one_process_has_a_log_and_shares_it(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = open_log(path, partitions=3)
    again = open_log(path)
    assert again is log
    with pytest.raises(LogLocked, match="in use by process"):
        SqliteLog(path)
    log.close()
    assert again.append([NewRecord("t", b"")]).result() == [0]
    again.close()
    with pytest.raises(LogClosed):
        again.append([NewRecord("t", b"")]).result()
    with pytest.raises(LogClosed):
        again._reader.read(again._state.partition("t", 0), 0, 1, 1)
    reopened = open_log(path)
    assert reopened is not log
    reopened.close()


def test_close_makes_everything_queued_durable(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1, linger_ms=50)
    futures = [log.append([NewRecord("t", b"x")]) for _ in range(500)]
    log.close()
    assert [f.result()[0] for f in futures] == list(range(500))


def test_compaction_keeps_the_newest_record_of_each_key(tmp_path: Path, clock: Clock) -> None:
    def open_it() -> SqliteLog:
        return SqliteLog(tmp_path / "log.db", partitions=1, tombstone_ms=1000, clock=clock)

    log = open_it()
    log.create_topic("changes", 1, compacted=True)
    for n in range(50):
        log.append([NewRecord("changes", b"%d" % n, b"k%d" % (n % 5)) for _ in range(2)]).result()
    log.append([NewRecord("changes", None, b"k0")]).result()
    log.append([NewRecord("changes", b"last", b"k1")]).result()
    for _ in range(2):
        kept = {r.key: (r.offset, r.value) for r in log.read("changes", 0, 0)}
        assert kept == {
            b"k2": (95, b"47"),
            b"k3": (97, b"48"),
            b"k4": (99, b"49"),
            b"k0": (100, None),
            b"k1": (101, b"last"),
        }
        assert log.earliest_offset("changes", 0) == 95
        assert log.stats().stored_records == 5
        log.close()
        log = open_it()
    clock.ms += 2000
    log.maintain()
    assert [r.key for r in log.read("changes", 0, 0)] == [b"k2", b"k3", b"k4", b"k1"]
    log.append([NewRecord("changes", None, b"k1")]).result()
    clock.ms += 2000
    log.maintain()  # the last record stays, also as a tombstone: recovery waits for it
    assert log.read("changes", 0, 0)[-1].offset == log.end_offset("changes", 0) - 1 == 102
    sizes = log.stats().stored_bytes
    log.close()
    log = open_it()
    assert log.stats().stored_bytes == sizes
    log.close()


def test_retention_by_age_leaves_what_a_group_has_still_to_read(
    log: SqliteLog, clock: Clock
) -> None:
    log.create_topic("readings", 1, retention_ms=10_000)
    fill(log, 10)
    log.register_group("score", ["readings"]).result()
    log.register_group("store", ["readings"]).result()
    clock.ms += 20_000
    fill(log, 5)
    log.commit("score", {("readings", 0): 12}).result()
    log.maintain()
    assert log.earliest_offset("readings", 0) == 0  # store has read nothing
    log.commit("store", {("readings", 0): 7}).result()
    log.maintain()
    assert log.earliest_offset("readings", 0) == 7
    assert len(log._reader.read(log._state.partition("readings", 0), 0, 100, 10**6)) == 8
    log.commit("store", {("readings", 0): 15}).result()
    log.maintain()
    assert log.earliest_offset("readings", 0) == 10  # the others are young
    log.register_group("store", []).result()  # does not read it any more
    clock.ms += 20_000
    log.commit("score", {("readings", 0): 14}).result()
    log.maintain()
    assert log.earliest_offset("readings", 0) == 14


def test_retention_by_bytes_deletes_the_oldest_that_were_read(log: SqliteLog) -> None:
    log.create_topic("readings", 1, retention_bytes=30_000)
    log.register_group("score", ["readings"]).result()
    fill(log, 100)
    log.commit("score", {("readings", 0): 50}).result()
    log.maintain()
    assert log.earliest_offset("readings", 0) == 50
    log.commit("score", {("readings", 0): 100}).result()
    log.maintain()
    assert 70 <= log.earliest_offset("readings", 0) <= 75
    assert log.stats().stored_bytes <= 30_000
    fill(log, 50, "dead-letters")  # nobody reads these: limits alone count
    log.maintain()
    assert log.earliest_offset("dead-letters", 0) == 0


def test_offsets_are_not_used_again_after_everything_was_deleted(
    tmp_path: Path, clock: Clock
) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1, retention_ms=1000, clock=clock)
    fill(log, 10)
    clock.ms += 10_000
    log.maintain()
    assert (log.earliest_offset("readings", 0), log.end_offset("readings", 0)) == (10, 10)
    assert log.stats().stored_bytes == log.stats().stored_records == 0
    log.close()
    log = SqliteLog(tmp_path / "log.db", partitions=1, clock=clock)
    assert (log.earliest_offset("readings", 0), log.end_offset("readings", 0)) == (10, 10)
    assert log.append([NewRecord("readings", b"x")]).result() == [10]
    assert [r.offset for r in log.read("readings", 0, 0)] == [10]
    log.close()


def test_a_full_log_refuses_until_a_group_has_read_and_deletes_nothing_unread(
    tmp_path: Path,
) -> None:
    log = SqliteLog(
        tmp_path / "log.db", partitions=1, max_bytes=100_000, reserve_bytes=20_000, min_free_bytes=0
    )
    log.create_topic("readings", 1)
    log.register_group("score", ["readings"]).result()
    with pytest.raises(LogFull, match="all of them unread"):
        for _ in range(200):
            fill(log, 1)
    end = log.end_offset("readings", 0)
    log.maintain()
    assert log.earliest_offset("readings", 0) == 0
    assert log.stats().refused == 1
    log.append([NewRecord("scores", b"x" * 1000)], reserve=True).result()  # the drain may
    log.commit("score", {("readings", 0): end}).result()
    log.maintain()  # under pressure read records go before their time
    assert log.earliest_offset("readings", 0) == end
    fill(log, 1)
    log.close()


def test_little_free_disk_refuses_appends_but_not_commits(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1, min_free_bytes=1 << 60)
    log.create_topic("t", 1)
    with pytest.raises(LogFull, match="bytes are free on the disk"):
        log.append([NewRecord("t", b"")]).result()
    log.commit("score", {("t", 0): 0}).result()
    log.close()


def soft_log(path: Path, **options: Any) -> SqliteLog:
    """A small log that a scorer reads, and a store that may go away."""
    options = {"max_bytes": 100_000, "reserve_bytes": 0, "maintenance_ms": 60_000, **options}
    options |= {"durability": "normal", "linger_ms": 0}
    log = SqliteLog(path, partitions=2, min_free_bytes=0, soft_groups={"away"}, **options)
    log.create_topic("readings", 1)
    log.create_topic("scores", 2)
    log.register_group("scorer", ["readings"]).result()
    log.register_group("results", ["scores"]).result()
    log.register_group("away", ["scores"]).result()
    return log


def test_a_soft_group_that_never_reads_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"
    with soft_log(path) as log:
        for n in range(200):  # three times the cap
            record = [NewRecord("readings", b"r" * 1000, partition=0)]
            assert log.append(record).result() == [n]
            assert len(log.read("readings", 0, n)) == 1
            log.append([NewRecord("scores", b"%03d" % n * 200, partition=n % 2)]).result()
            log.commit("scorer", {("readings", 0): n + 1}).result()
            log.commit("results", {("scores", n % 2): n // 2 + 1}).result()
            if n % 5 == 0:
                log.maintain()
        stats = log.stats()
        assert stats.refused == 0
        assert stats.stored_bytes <= 80_000 + 6 * 1700
        left = [log.earliest_offset("scores", n) for n in (0, 1)]
        assert stats.released == sum(left) > 50
        assert abs(left[0] - left[1]) <= 6  # the oldest first, whichever partition
        assert log.start_offset("away", "scores", 0) == left[0]
        found = log._reader.read(log._state.partition("scores", 0), left[0], 1000, 10**9)
        assert [r.offset for r in found] == list(range(left[0], 100))
        at = log.group_offsets("away")[0]
        assert at.end - max(at.committed or 0, at.earliest) == len(found)
        told = [r for r in caplog.records if "deleted unread" in r.message]
        assert [r.levelname for r in told] == ["ERROR"]
        assert "away" in told[0].message
        for n in (0, 1):
            log.commit("away", {("scores", n): 100}).result()
        log.maintain()
        told = [r for r in caplog.records if "deleted unread" in r.message]
        assert [r.levelname for r in told] == ["ERROR", "WARNING"]


def test_what_a_hard_group_has_to_read_is_never_released(tmp_path: Path) -> None:
    with soft_log(tmp_path / "log.db") as log:
        with pytest.raises(LogFull):
            for n in range(200):  # `results` has read ten of each partition, `away` none
                log.append([NewRecord("scores", b"s" * 1000, partition=n % 2)]).result()
                if n == 60:
                    log.commit("results", {("scores", 0): 10, ("scores", 1): 10}).result()
                log.maintain()
        assert [log.earliest_offset("scores", n) for n in (0, 1)] == [10, 10]
        assert log.stats().released == 20
        assert log.read("scores", 0, 10)[0].offset == 10
    with soft_log(tmp_path / "other.db") as log:  # below the share they pin as all do
        fill(log, 70, "scores")
        for n in (0, 1):
            log.commit("results", {("scores", n): log.end_offset("scores", n)}).result()
        log.maintain()
        assert log.stats().deleted == 0

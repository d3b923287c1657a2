"""The local log: appends, reads, groups, listeners."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogError, LogLocked
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.state import NewRecord
from tests.pipeline.log.logs import Clock, fill, values


def test_reads_return_the_appended_records(log: SqliteLog) -> None:
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
        remove = log.add_listener(heard.set_result)
        log.append([NewRecord("t", b"1")])
        changed = await asyncio.wait_for(heard, 120)
        assert log.end_offset("t", 0) == 1
        remove()
        await log.in_loop(log.append([NewRecord("t", b"2")]))  # a second call would fail the future
        return changed

    assert asyncio.run(wait_for_record()) == {("t", 0)}


async def test_a_future_of_the_loop_has_the_result_or_the_reason(log: SqliteLog) -> None:
    sent = [log.in_loop(log.append([NewRecord("t", b"%d" % n)])) for n in range(3)]
    forgotten = log.in_loop(log.append([NewRecord("t", b"3")]))
    forgotten.cancel()
    assert await asyncio.gather(*sent) == [[0], [1], [2]]
    with pytest.raises(LogError, match="partitions 0 to 0, not 7"):
        await log.in_loop(log.append([NewRecord("t", b"", partition=7)]))
    assert log.end_offset("t", 0) == 4


def test_a_commit_that_may_wait_joins_a_transaction_and_ends_within_its_time(
    log: SqliteLog,
) -> None:
    log.append([NewRecord("t", b"1")]).result()
    before = log.stats().commits
    waiting = log.commit("score", {("t", 0): 1}, within_ms=600_000)
    assert not waiting.done()
    log.append([NewRecord("t", b"2")]).result()
    waiting.result(timeout=60)
    assert log.stats().commits == before + 1
    alone = log.commit("score", {("t", 0): 2}, within_ms=10)
    alone.result(timeout=60)
    assert log.committed("score", "t", 0) == 2


def test_a_commit_that_waits_precedes_a_call_and_the_end(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1)
    log.append([NewRecord("t", b"1"), NewRecord("t", b"2")]).result()
    log.commit("gone", {("t", 0): 1}, within_ms=600_000)
    log.drop_group("gone").result()
    assert log.committed("gone", "t", 0) is None
    last = log.commit("score", {("t", 0): 2}, within_ms=600_000)
    log.close()
    last.result()
    with SqliteLog(tmp_path / "log.db") as log:
        assert log.committed("score", "t", 0) == 2


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

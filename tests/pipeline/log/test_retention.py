"""Retention of the local log: deletions, and refused appends."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import LogFull
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from pipeline.log.tables import slot_crc
from tests.pipeline.log.logs import Clock, fill, soft_log


def test_compaction_keeps_the_newest_record_of_each_key(tmp_path: Path, clock: Clock) -> None:
    def open_it() -> SqliteLog:
        return SqliteLog(
            tmp_path / "log.db", partitions=1, tombstone_ms=1000, clock=clock, steady_ms=clock
        )

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
    log = SqliteLog(
        tmp_path / "log.db", partitions=1, retention_ms=1000, clock=clock, steady_ms=clock
    )
    fill(log, 10)
    clock.ms += 10_000
    log.maintain()
    assert (log.earliest_offset("readings", 0), log.end_offset("readings", 0)) == (10, 10)
    assert log.stats().stored_bytes == log.stats().stored_records == 0
    log.close()
    log = SqliteLog(tmp_path / "log.db", partitions=1, clock=clock, steady_ms=clock)
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
    with pytest.raises(LogFull, match=r"readings 100 % \(score has \d+ records to read\)"):
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


def test_a_soft_group_that_never_reads_delays_no_other(
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
        assert abs(left[0] - left[1]) <= 6  # the oldest first, in any partition
        assert log.start_offset("away", "scores", 0) == left[0]
        found = log._reader.read(log._state.partition("scores", 0), left[0], 1000, 10**9)
        assert [r.offset for r in found] == list(range(left[0], 100))
        at = log.group_offsets("away")[0]
        assert at.end - max(at.committed or 0, at.earliest) == len(found)
        reported = [r for r in caplog.records if "deleted unread" in r.message]
        assert [r.levelname for r in reported] == ["ERROR"]
        assert "away" in reported[0].message
        for n in (0, 1):
            log.commit("away", {("scores", n): 100}).result()
        log.maintain()
        reported = [r for r in caplog.records if "deleted unread" in r.message]
        assert [r.levelname for r in reported] == ["ERROR", "WARNING"]


def test_records_unread_by_a_hard_group_are_never_released(tmp_path: Path) -> None:
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


DAY_MS = 86_400_000


class Times:
    """A machine's clock that a test sets, and a monotonic one."""

    def __init__(self, path: Path) -> None:
        self.now_ms, self.steady_ms = 1_800_000_000_000, 5_000
        self.path = path

    def open(self) -> SqliteLog:
        return SqliteLog(
            self.path,
            partitions=1,
            retention_ms=DAY_MS,
            tombstone_ms=DAY_MS,
            clock=lambda: self.now_ms,
            steady_ms=lambda: self.steady_ms,
        )

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms
        self.steady_ms += ms


@pytest.mark.parametrize("step_ms", [40 * DAY_MS, -120_000, -40 * DAY_MS])
def test_no_step_of_the_clock_deletes_a_record(tmp_path: Path, step_ms: int) -> None:
    times = Times(tmp_path / "log.db")
    log = times.open()
    log.create_topic("changes", 1, compacted=True)
    fill(log, 10, "dead-letters")
    log.append([NewRecord("changes", None, b"gone"), NewRecord("changes", b"x", b"k")]).result()
    for _ in range(20):  # a clock that is wrong for twenty seconds, again and again
        times.now_ms += step_ms
        times.pass_ms(20_000)
        fill(log, 1, "dead-letters")
        log.maintain()
        times.now_ms -= step_ms
        times.pass_ms(20_000)
        log.maintain()
    times.now_ms += step_ms  # and one that stays wrong, also over a restart
    log.close()
    log = times.open()
    log.maintain()
    assert log.earliest_offset("dead-letters", 0) == 0
    assert log.stats().stored_records == 32
    # A day that has really passed; a start under a clock that is behind keeps things longer.
    times.pass_ms(DAY_MS + 1 + max(0, -step_ms))
    log.maintain()
    assert log.earliest_offset("dead-letters", 0) == 30
    assert [r.key for r in log.read("changes", 0, 0)] == [b"k"]
    log.close()


def test_time_switched_off_makes_no_record_old(tmp_path: Path) -> None:
    times = Times(tmp_path / "log.db")
    log = times.open()
    fill(log, 10, "dead-letters")
    log.close()
    times.now_ms += 40 * DAY_MS
    times.steady_ms = 7  # another boot
    log = times.open()
    log.maintain()
    assert log.earliest_offset("dead-letters", 0) == 0
    log.close()


def test_records_of_a_time_to_come_do_not_make_the_others_old(tmp_path: Path) -> None:
    times = Times(tmp_path / "log.db")
    log = times.open()
    fill(log, 10, "dead-letters")
    log.close()
    with sqlite3.connect(times.path) as db:  # as written under a clock 40 days ahead
        db.execute("UPDATE records SET stored_ms = stored_ms + ? WHERE id % 2", (40 * DAY_MS,))
        db.execute("UPDATE slots SET stored_ms = stored_ms + ?", (40 * DAY_MS,))
        for *row, _crc in db.execute("SELECT * FROM slots").fetchall():
            db.execute("UPDATE slots SET crc = ? WHERE slot = ?", (slot_crc(*row), row[0]))
    log = times.open()
    log.maintain()
    assert log.earliest_offset("dead-letters", 0) == 0
    log.close()

"""Reading records from the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import LogCorrupt, LogError
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_back, peek_log, peek_partitions
from pipeline.log.repair import repair_log
from pipeline.log.state import NewRecord, record_id
from tests.pipeline.log.logs import flip, make_log


def test_another_process_may_read_the_log_while_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with SqliteLog(path) as log:
        log.append([NewRecord("readings", b"new", headers=(("h", b"1"),))]).result()
        seen = list(peek_log(path, "readings"))
        assert [r.offset for r in seen] == list(range(301))
        assert seen[-1][5:] == (b"new", (("h", b"1"),))
        assert list(peek_log(path, "nothing")) == []
    flip(path, b"<000100>" * 3)
    with pytest.raises(LogCorrupt, match=r"record 100 of readings\[0\]"):
        list(peek_log(path, "readings"))


def test_the_log_is_read_back_from_the_newest_record_on_while_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with SqliteLog(path) as log:
        back = peek_back(path, "readings", 0)
        assert next(back).offset == 299
        log.append([NewRecord("readings", b"new")]).result()
        assert [record.offset for record in back] == list(range(298, -1, -1))
        assert next(peek_back(path, "readings", 0)).value == b"new"
        assert list(peek_back(path, "readings", 7)) == []
        assert (peek_partitions(path, "changes"), peek_partitions(path, "nothing")) == (1, 0)
    flip(path, b"<000290>" * 3)
    with pytest.raises(LogCorrupt, match=r"record 290 of readings\[0\]"):
        list(peek_back(path, "readings", 0))


def test_a_read_that_fails_on_the_disk_is_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with SqliteLog(path) as log:
        log._reader._idle.append(FailingReader())  # type: ignore[arg-type]
        with pytest.raises(LogError, match="disk I/O error") as caught:
            log.read("readings", 0, 0)
        assert not isinstance(caught.value, LogCorrupt)
        assert log.read("readings", 0, 0)


def without(path: Path, *ids: int) -> Path:
    """The log of `make_log` without some rows, as damage of a page hides them."""
    make_log(path)
    with closing(sqlite3.connect(path)) as db:
        db.executemany("DELETE FROM records WHERE id = ?", [(each,) for each in ids])
        db.commit()
    return path


@pytest.mark.parametrize("missing", [0, 100, 299])
def test_no_read_steps_over_a_record_that_is_missing(missing: int, tmp_path: Path) -> None:
    path = without(tmp_path / "log.db", record_id(1, missing))
    with SqliteLog(path, check_bytes=0) as log:
        found = log.read("readings", 0, 0, 1000, 10**9) if missing else []
        assert [record.offset for record in found] == list(range(missing))
        for _ in range(2):
            with pytest.raises(LogCorrupt, match=rf"record {missing} of readings\[0\] is missing"):
                log.read("readings", 0, missing)
        after = log.read("readings", 0, missing + 1, 1000, 10**9)
        assert [record.offset for record in after] == list(range(missing + 1, 300))


def test_a_missing_record_is_told_from_offsets_that_a_repair_left_empty(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    flip(path, b"<000100>" * 3)
    repair_log(path)
    with SqliteLog(path) as log:
        assert [r.offset for r in log.read("readings", 0, 98, 3, 10**9)] == [98, 99, 101]
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM records WHERE id = ?", (record_id(1, 200),))
        db.commit()
    with SqliteLog(path, check_bytes=0) as log:
        with pytest.raises(LogCorrupt, match=r"readings\[0\] has 298 records and should have 299"):
            log.read("readings", 0, 200)


def test_what_retention_deleted_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with SqliteLog(path, retention_bytes=400_000, cache_bytes=0) as log:
        log.maintain()
        first = log.earliest_offset("readings", 0)
        assert 0 < first <= 250
        assert log.read("readings", 0, 0, 1)[0].offset == first


def test_a_compacted_topic_that_lacks_a_key_does_not_open(tmp_path: Path) -> None:
    path = without(tmp_path / "log.db", record_id(2, 4))
    with pytest.raises(LogCorrupt, match="malformed row in the table records"):
        SqliteLog(path, check_bytes=0)


class FailingReader:
    """A connection of a disk that fails."""

    def execute(self, _sql: str, *_parameters: object) -> sqlite3.Cursor:
        message = "disk I/O error"
        raise sqlite3.OperationalError(message)

    def close(self) -> None:
        """Nothing is open."""

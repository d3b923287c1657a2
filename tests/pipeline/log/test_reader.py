"""Reading records from the disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import LogCorrupt, LogError
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_back, peek_log, peek_partitions
from pipeline.log.state import NewRecord
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


class FailingReader:
    """A connection of a disk that fails."""

    def execute(self, _sql: str, *_parameters: object) -> sqlite3.Cursor:
        message = "disk I/O error"
        raise sqlite3.OperationalError(message)

    def close(self) -> None:
        """Nothing is open."""

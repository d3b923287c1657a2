"""A log whose first page is gone is read with that of an empty log."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingest.durable.mark import mark_path
from pipeline.errors import LogCorrupt, LogError
from pipeline.log.file import PAGE_BYTES, connect
from pipeline.log.firstpage import readable_log
from pipeline.log.locallog import SqliteLog
from pipeline.log.repair import repair_log
from pipeline.log.state import NewRecord
from pipeline.log.tables import create_old_tables
from tests.pipeline.log.logs import make_log


def _made(path: Path) -> None:
    make_log(path)


def _vacuumed(path: Path) -> None:
    make_log(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")


def _old(path: Path) -> None:
    """The rows of a log of today in the tables of the old format."""
    make_log(path.with_name("new.db"))
    with closing(connect(path, durability="full")) as db:
        create_old_tables(db)
        db.execute("ATTACH ? AS new", (str(path.with_name("new.db")),))
        for table in ("topics", "slots", "records", "offsets"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} SELECT {columns} FROM new.{table}")


def _upgraded(path: Path) -> None:
    _old(path)
    SqliteLog(path).close()


def _upgraded_and_vacuumed(path: Path) -> None:
    _upgraded(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")


@pytest.mark.parametrize("make", [_made, _vacuumed, _old, _upgraded, _upgraded_and_vacuumed])
def test_the_repair_needs_nothing_of_the_first_page(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    make(path)
    data = path.read_bytes()
    path.write_bytes(bytes(PAGE_BYTES) + data[PAGE_BYTES:])
    with pytest.raises(LogCorrupt, match=r"not a database.*log\.repair"):
        SqliteLog(path)
    report = repair_log(path)
    assert (report.kept, report.damaged) == (310, ())
    with SqliteLog(path) as log:
        assert len(log.read("readings", 0, 0, 1000, 10**9)) == 300
        assert log.is_compacted("changes")
        assert log.committed("score", "readings", 0) == 250
    assert sorted(each.name for each in tmp_path.glob("log.db*")) == [
        "log.db",
        "log.db.damaged",
        "log.db.lock",
        "log.db.mark",
    ]


@pytest.mark.parametrize(("at", "what"), [(62, "the format"), (71, "the application")])
def test_a_damaged_number_in_the_header_is_damage_and_not_another_program(
    at: int, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogCorrupt, match=f"its header has.*{what}"):
        SqliteLog(path)
    assert repair_log(path).kept == 310
    SqliteLog(path).close()


@pytest.mark.parametrize("too_few", [1, 4])
def test_a_header_that_counts_too_few_pages_is_damage_before_the_first_write(
    too_few: int, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    before = path.read_bytes()
    pages = len(before) // PAGE_BYTES
    wrong = before[:28] + (pages - too_few).to_bytes(4, "big") + before[32:]
    path.write_bytes(wrong)
    with pytest.raises(LogCorrupt, match=f"counts {pages - too_few} pages, but it has {pages}"):
        SqliteLog(path, check_bytes=0)
    assert path.read_bytes() == wrong
    report = repair_log(path)
    assert (report.kept, report.damaged) == (310, ())
    SqliteLog(path).close()


def test_pages_of_the_write_ahead_file_count(tmp_path: Path) -> None:
    """As after a kill: the file is shorter than its header says, and nothing is wrong."""
    path, killed = tmp_path / "log.db", tmp_path / "killed" / "log.db"
    killed.parent.mkdir()
    make_log(path)
    with SqliteLog(path) as log:
        log.append([NewRecord("readings", bytes(5000)) for _ in range(40)]).result(30)
        for end in ("", "-wal", ".mark"):
            name = path.name + end
            shutil.copyfile(path.with_name(name), killed.with_name(name))
    size_bytes = killed.stat().st_size
    with closing(connect(killed, durability="full", read_only=True)) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    assert size_bytes < pages * PAGE_BYTES
    with SqliteLog(killed, check_bytes=0) as log:
        assert len(log.read("readings", 0, 0, 1000, 10**9)) == 340
    assert repair_log(killed).backup is None


def test_a_malformed_topic_behind_a_damaged_first_page_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    data = bytearray(path.read_bytes())
    data[0] = data[2 * PAGE_BYTES + 8] = 0  # the second is the place of the first topic's row
    path.write_bytes(data)
    with pytest.raises(LogCorrupt, match="accept-loss"):
        repair_log(path)


def test_a_table_at_the_place_of_another_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = 1")
        db.execute("UPDATE sqlite_master SET rootpage = 8 WHERE name = 'records'")
        db.commit()
    with pytest.raises(LogCorrupt, match=r"tables at the pages \[3, 4, 5, 6, 8, 8, 9\]"):
        SqliteLog(path, check_bytes=0)
    assert repair_log(path).kept == 310


def test_a_file_of_another_program_is_not_made_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (a)")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(LogError, match="another program"):
        repair_log(path)
    assert path.read_bytes() == before


def test_without_a_page_that_fits_the_log_itself_is_lent(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    path.write_bytes(bytes(path.stat().st_size))
    with readable_log(path) as readable:
        assert readable == path
    with pytest.raises(LogCorrupt, match="accept-loss"):
        repair_log(path)
    assert mark_path(path).exists()

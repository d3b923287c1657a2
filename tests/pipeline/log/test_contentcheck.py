"""The check of pages and counts, before a log opens or behind it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import LogCorrupt, LogError
from pipeline.log.contentcheck import ContentCheck, check_counts, check_pages
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord, record_id
from tests.pipeline.log.logs import make_log


def execute(path: Path, *sql: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for each in sql:
            db.execute(each)
        db.commit()


def wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_done() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_done()


# A record that went into the range of another partition: quick_check calls such a file sound.
MISPLACED = f"UPDATE records SET id = id + {record_id(7, 0)} WHERE id = {record_id(1, 299)}"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (MISPLACED, r"readings\[0\] has 299 records and should have 300"),
        (f"DELETE FROM records WHERE id = {record_id(1, 100)}", "299 records and should have 300"),
        (f"INSERT INTO records SELECT {record_id(9, 0)}, crc, 0, 0, '', '', '' FROM records LIMIT 1"
         , "1 records belong to no partition"),
    ],
)  # fmt: skip
def test_records_that_are_missing_or_outside_are_found_before_and_behind_the_opening(
    change: str, finding: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    execute(path, change)
    check_pages(path)
    with pytest.raises(LogCorrupt, match=finding):
        check_counts(path)
    with pytest.raises(LogCorrupt, match=finding):
        SqliteLog(path)
    with SqliteLog(path, check_bytes=0) as log:
        wait(lambda: not log.stats().is_checking)
        assert "should have" in str(log.stats().failure) or "belong" in str(log.stats().failure)
        with pytest.raises(LogCorrupt, match=finding):
            log.append([NewRecord("readings", b"")]).result()
        with pytest.raises(LogCorrupt, match=finding):
            log.commit("score", {("readings", 0): 260}).result()


def test_counts_stay_right_beside_a_busy_writer(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    with SqliteLog(path, check_bytes=0, linger_ms=0) as log:
        futures = [log.append([NewRecord("readings", b"new")]) for _ in range(300)]
        while not all(future.done() for future in futures):
            check_counts(path)
        wait(lambda: not log.stats().is_checking)
        assert log.stats().failure is None
    with SqliteLog(path) as log:
        assert not log.stats().is_checking


def test_a_disk_that_cannot_be_read_fails_the_log_as_it_would_refuse_the_start(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    found: list[LogError] = []
    check = ContentCheck(folder, found.append, pauses_s=(0.01, 0.01))
    wait(lambda: not check.is_running)
    assert len(found) == 1
    assert not isinstance(found[0], LogCorrupt)


def test_a_disk_that_can_be_read_again_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    elsewhere = path.rename(tmp_path / "elsewhere.db")
    path.mkdir()
    found: list[LogError] = []
    check = ContentCheck(path, found.append, pauses_s=[0.05] * 1000)
    wait(lambda: "next try" in caplog.text)
    path.rmdir()
    elsewhere.rename(path)
    wait(lambda: not check.is_running)
    assert found == []


def test_what_was_confirmed_before_the_finding_survives_the_repair(tmp_path: Path) -> None:
    from pipeline.log.repair import repair_log

    path = tmp_path / "log.db"
    make_log(path)
    execute(path, MISPLACED)
    with SqliteLog(path, check_bytes=0) as log:
        future = log.append([NewRecord("readings", b"confirmed?")])
        is_confirmed = future.exception(30) is None
        wait(lambda: not log.stats().is_checking)
    report = repair_log(path)
    with SqliteLog(path) as log:
        found = {r.offset: r.value for r in log.read("readings", 0, 300)}
        assert found == ({300: b"confirmed?"} if is_confirmed else {})
        assert [(each.topic, each.offset) for each in report.damaged] == [("readings", -1)]

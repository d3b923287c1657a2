"""What the local log survives: a kill, a flipped byte, a full disk, a broken writer."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import LogCorrupt, LogError, LogFailed, LogFull
from pipeline.log import repair as logrepair
from pipeline.log.file import file_error
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_log
from pipeline.log.state import NewRecord

APPENDER = textwrap.dedent(
    """
    import sys
    from pipeline.log.locallog import SqliteLog
    from pipeline.log.state import NewRecord

    options = {"partitions": 2, "maintenance_ms": 20, "retention_bytes": 200_000}
    log = SqliteLog(sys.argv[1], durability=sys.argv[2], **options)
    log.create_topic("changes", 2, compacted=True)
    start = log.end_offset("readings", 0) if "readings" in log.topics() else 0
    for n in range(start, 1_000_000):
        value = b"%d " % n + b"x" * 500
        future = log.append(
            [
                NewRecord("readings", value, partition=0),
                NewRecord("readings", value, partition=1),
                NewRecord("changes", value, key=b"k%d" % (n % 7), partition=0),
            ]
        )
        def confirm(future, n=n):
            print(n, *future.result(), flush=True)
        future.add_done_callback(confirm)
        if n % 20 == 0:
            future.result()
    """
)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_whatever_was_confirmed_before_a_kill_is_there_after_it(
    tmp_path: Path, durability: str
) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path, partitions=2) as log:
        log.create_topic("readings", 2)
        log.register_group("score", ["readings"]).result()
    for confirmed_before_kill in (1, 100, 257, 400):
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path), durability],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(confirmed_before_kill)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        last = [line for line in lines if line.endswith("\n")][-1]
        n, first, second, change = map(int, last.split())
        assert n == first == second == change
        with SqliteLog(path, partitions=2) as log:
            end = log.end_offset("readings", 0)
            assert end > n
            assert log.end_offset("readings", 1) == end  # an append is all or nothing
            for partition in (0, 1):
                stored = log.read("readings", partition, 0, 100_000, 10**9)
                assert [r.offset for r in stored] == list(range(end))
                assert all((r.value or b"").startswith(b"%d " % r.offset) for r in stored)
            newest = {r.key: r.offset for r in log.read("changes", 0, 0)}
            assert sorted(newest.values()) == list(range(end))[-7:]
            stats = log.stats()
            assert stats.stored_records == 2 * end + len(newest)


def make_log(path: Path, count: int = 300) -> None:
    with SqliteLog(path, partitions=1) as log:
        log.append([NewRecord("readings", b"<%06d>" % n * 200) for n in range(count)]).result()
        log.create_topic("changes", 1, compacted=True)
        for n in range(10):
            log.append([NewRecord("changes", b"[%06d]" % n * 200, b"k%d" % n)]).result()
        log.commit("score", {("readings", 0): 250}).result()


def flip(path: Path, pattern: bytes) -> None:
    """Change one byte in the middle of the pattern's place in the file."""
    data = bytearray(path.read_bytes())
    at = data.index(pattern) + len(pattern) // 2
    data[at] ^= 0x01
    path.write_bytes(data)


def test_a_flipped_byte_in_a_record_is_found_when_it_is_read_and_can_be_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    flip(path, b"<000100>" * 3)
    flip(path, b"[000009]" * 3)
    with SqliteLog(path) as log:
        assert [r.offset for r in log.read("readings", 0, 90)] == list(range(90, 100))
        with pytest.raises(LogCorrupt, match=r"record 100 of readings\[0\].*log.repair") as caught:
            log.read("readings", 0, 100)
        assert str(path) in str(caught.value)
        assert logrepair.main([str(path)]) == 1  # in use
    assert "in use by process" in capsys.readouterr().err

    assert logrepair.main([str(path)]) == 0
    told = capsys.readouterr().out
    assert "lost readings[0] 100: checksum" in told
    assert "308 records kept, 2 lost" in told
    assert (tmp_path / "log.db.damaged").is_file()
    with SqliteLog(path) as log:
        offsets = [r.offset for r in log.read("readings", 0, 0, 1000, 10**9)]
        assert offsets == [n for n in range(300) if n != 100]
        assert log.committed("score", "readings", 0) == 250
        assert log.end_offset("readings", 0) == 300
        assert log.end_offset("changes", 0) == 9  # no reader may wait for a lost last change
        assert log.append([NewRecord("changes", b"", b"k9")]).result() == [9]
        assert log.stats().stored_records == 309
    assert logrepair.main([str(path)]) == 0
    assert "309 records kept, 0 lost: intact" in capsys.readouterr().out
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT offset, length(value) FROM damaged ORDER BY slot").fetchall()
    db.close()
    assert rows == [(100, 1600), (9, 1600)]


def test_a_damaged_page_is_found_when_the_log_opens_and_the_rest_is_salvaged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    data = path.read_bytes()
    page = data.index(b"<000200>" * 3) // 8192
    damaged = data[: page * 8192] + b"\xff" * 8192 + data[(page + 1) * 8192 :]
    path.write_bytes(damaged)
    with pytest.raises(LogCorrupt, match=r"python -m pipeline\.log\.repair"):
        SqliteLog(path)
    report = logrepair.repair_log(path)
    assert 1 <= len(report.damaged) <= 8
    assert all(lost.topic == "readings" for lost in report.damaged)
    with SqliteLog(path) as log:
        kept = log.read("readings", 0, 0, 1000, 10**9)
        assert len(kept) + len(report.damaged) == 300
        assert len(log.read("changes", 0, 0)) == 10


def test_a_large_file_is_checked_behind_the_opening(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    data = path.read_bytes()
    page = data.index(b"<000200>" * 3) // 8192
    path.write_bytes(data[: page * 8192] + b"\xff" * 8192 + data[(page + 1) * 8192 :])
    with SqliteLog(path, check_bytes=0) as log:
        deadline = time.monotonic() + 20
        while log.stats().failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(LogCorrupt, match=r"log\.repair"):
            log.append([NewRecord("readings", b"")]).result()


def test_another_process_may_look_while_the_log_is_in_use(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"this is not a database, but long enough to be taken for one" * 100, LogCorrupt, "log"),
        (None, LogError, "another program"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(
    tmp_path: Path, content: bytes | None, error: type[LogError], message: str
) -> None:
    path = tmp_path / "log.db"
    if content is None:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE mine (a)")
        db.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        SqliteLog(path)
    if content is not None:
        assert path.read_bytes() == before
    with pytest.raises(LogError):
        logrepair.repair_log(path)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("database or disk is full", "make room"),
        ("attempt to write a readonly database", "permissions"),
        ("unable to open database file", "permissions"),
        ("database is locked", "another program"),
        ("disk I/O error", "free space"),
        ("something new", "check the disk"),
    ],
)
@pytest.mark.parametrize("place", ["connect", "pragma", "check"])
def test_what_keeps_a_log_from_opening_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, advice: str, place: str
) -> None:
    path = tmp_path / "log.db"
    make_log(path, 1)
    opened: list[Any] = []

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql.startswith({"pragma": "PRAGMA journal_mode", "check": "PRAGMA quick"}[place]):
                raise sqlite3.OperationalError(message)
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        if place == "connect":
            raise sqlite3.OperationalError(message)
        opened.append(real(*args, factory=Failing, **kwargs))
        return opened[-1]  # type: ignore[no-any-return]

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(LogError, match=advice) as caught:
        SqliteLog(path)
    assert not isinstance(caught.value, LogCorrupt)
    assert message in str(caught.value)
    assert "log.repair" not in str(caught.value)
    for db in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            db.total_changes  # noqa: B018
    monkeypatch.undo()
    with SqliteLog(path) as log:
        assert len(log.read("readings", 0, 0)) == 1


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LogError, match="cannot open or read the log"):
        SqliteLog(tmp_path / "file" / "log.db")
    assert "permissions" in str(file_error(tmp_path, PermissionError(13, "Permission denied")))
    assert "make room" in str(file_error(tmp_path, OSError(28, "No space left on device")))


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


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path, 1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LogError, match="upgrade kpstream"):
        SqliteLog(path)


@pytest.mark.parametrize(
    ("message", "error", "recovers"),
    [
        ("database or disk is full", LogFull, True),
        ("disk I/O error", LogFailed, False),
        ("database disk image is malformed", LogCorrupt, False),
    ],
)
def test_a_failed_commit_fails_its_appends_and_stores_nothing_of_them(
    tmp_path: Path, message: str, error: type[LogError], recovers: bool
) -> None:
    with SqliteLog(tmp_path / "log.db", partitions=1) as log:
        log.append([NewRecord("t", b"0")]).result()
        log._writer._db = Disk(log._writer._db, message)  # type: ignore[assignment]
        first, commit = log.append([NewRecord("t", b"1")]), log.commit("g", {("t", 0): 1})
        with pytest.raises(error, match=re.escape(message)):
            first.result()
        if recovers:
            commit.exception()
            assert log.append([NewRecord("t", b"2")]).result() == [1]
        else:
            with pytest.raises(error):
                commit.result()
            with pytest.raises(error):
                log.append([NewRecord("t", b"2")]).result()
            assert message in (log.stats().failure or "")
        assert log.read("t", 0, 0)[0].value == b"0"
    with SqliteLog(tmp_path / "log.db") as log:
        expected = [b"0", b"2"] if recovers else [b"0"]
        assert [r.value for r in log.read("t", 0, 0)] == expected


class Disk:
    """A connection whose next commit of records fails once."""

    def __init__(self, db: sqlite3.Connection, message: str) -> None:
        self._db = db
        self._message: str | None = message

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._db, name)  # type: ignore[no-any-return]

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql == "COMMIT" and self._message is not None:
            message, self._message = self._message, None
            raise sqlite3.OperationalError(message)
        return self._db.execute(sql, *parameters)  # type: ignore[arg-type]

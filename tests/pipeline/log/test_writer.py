"""Appends confirmed by the writer are durable, even after a kill or a disk error."""

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

import pytest

from pipeline.errors import LogCorrupt, LogError, LogFailed, LogFull
from pipeline.log.commands import Command
from pipeline.log.locallog import SqliteLog
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
def test_records_confirmed_before_a_kill_are_there_after_it(
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


def test_a_failed_writer_waits_for_commands_only(tmp_path: Path) -> None:
    """Maintenance is due for ever and must not keep the thread busy."""
    with SqliteLog(tmp_path / "log.db", partitions=1, maintenance_ms=1) as log:
        log.append([NewRecord("t", b"0")]).result()
        writer = log._writer
        writer.fail(LogFailed("the disk is gone"))
        turns = 0
        next_batch = writer._next_batch

        def count() -> list[Command] | None:
            nonlocal turns
            turns += 1
            return next_batch()

        writer._next_batch = count  # type: ignore[method-assign]
        time.sleep(0.3)
        assert turns <= 2  # the one that was waiting, and one after it
        with pytest.raises(LogFailed, match="the disk is gone"):
            log.append([NewRecord("t", b"1")]).result()
        with pytest.raises(LogFailed, match="the disk is gone"):
            log.commit("g", {("t", 0): 1}).result()


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

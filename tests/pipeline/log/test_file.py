"""Opening the file of the local log: foreign, damaged, locked, unreachable."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import LogCorrupt, LogError
from pipeline.log import repair as logrepair
from pipeline.log.file import file_error
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from tests.pipeline.log.logs import make_log


def test_a_large_file_is_checked_behind_the_opening(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    data = path.read_bytes()
    page = data.index(b"<000200>" * 3) // 8192
    path.write_bytes(data[: page * 8192] + b"\xff" * 8192 + data[(page + 1) * 8192 :])
    with SqliteLog(path, check_bytes=0) as log:
        deadline = time.monotonic() + 120
        while log.stats().failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(LogCorrupt, match=r"log\.repair"):
            log.append([NewRecord("readings", b"")]).result()


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
        ("database or disk is full", "free some space"),
        ("attempt to write a readonly database", "permissions"),
        ("unable to open database file", "permissions"),
        ("database is locked", "another program"),
        ("disk I/O error", "free space"),
        ("something new", "check the disk"),
    ],
)
@pytest.mark.parametrize("place", ["connect", "pragma", "check"])
def test_an_error_that_prevents_opening_is_not_reported_as_damage(
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


def test_a_folder_that_is_not_writable_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LogError, match="cannot open or read the log"):
        SqliteLog(tmp_path / "file" / "log.db")
    assert "permissions" in str(file_error(tmp_path, PermissionError(13, "Permission denied")))
    assert "free some space" in str(file_error(tmp_path, OSError(28, "No space left on device")))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path, 1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LogError, match="upgrade kpstream"):
        SqliteLog(path)

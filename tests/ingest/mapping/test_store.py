"""The file of waiting values: one owner, damage and older copies renamed, bounded by its writer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ingest.decoderfile import StoreUnusable
from ingest.errors import LogUnavailable
from ingest.mapping.store import JoinCheckpoint, JoinStore
from ingest.topics import Address

KEY = ("plugs", Address("hall", "plug-1", "meter"))
OTHER = ("plugs", Address("hall", "plug-2", "meter"))


def test_rows_come_back_and_go(tmp_path: Path) -> None:
    store = JoinStore(tmp_path / "m.db")
    store.write(JoinCheckpoint({KEY: b"1", OTHER: b"2"}))
    store.write(JoinCheckpoint({KEY: b"3"}, [OTHER]))
    store.close()
    store = JoinStore(tmp_path / "m.db")
    assert dict(store.rows()) == {KEY: b"3"}
    store.close()


def test_a_second_process_is_refused_with_advice(tmp_path: Path) -> None:
    first = JoinStore(tmp_path / "m.db")
    first.write(JoinCheckpoint({KEY: b"1"}))
    with pytest.raises(StoreUnusable, match="each bridge its own file"):
        JoinStore(tmp_path / "m.db")
    first.close()


def test_a_damaged_row_is_ignored_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = JoinStore(tmp_path / "m.db")
    store.write(JoinCheckpoint({KEY: b"1", OTHER: b"2"}))
    store._db.execute("UPDATE joins SET state = x'00' WHERE device = 'plug-1'")
    assert dict(store.rows()) == {OTHER: b"2"}
    assert "is damaged and ignored" in caplog.text
    store.close()


@pytest.mark.parametrize("damage", ["bytes", "older copy"])
def test_a_file_that_is_not_the_newest_is_renamed_and_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.db"
    store = JoinStore(path)
    store.write(JoinCheckpoint({KEY: b"1"}))
    store.close()
    shutil.copy(path, tmp_path / "copy")
    store = JoinStore(path)
    store.write(JoinCheckpoint({KEY: b"2"}))
    store.close()
    if damage == "bytes":
        path.write_bytes(b"not a database, though long enough for one" * 100)
    else:
        shutil.copy(tmp_path / "copy", path)
    store = JoinStore(path)
    assert dict(store.rows()) == {}
    store.close()
    assert "values that were waiting for the rest of their reading are lost" in caplog.text
    assert (tmp_path / "m.db.damaged").is_file()


def test_a_failing_disk_raises_log_unavailable(tmp_path: Path) -> None:
    store = JoinStore(tmp_path / "m.db")
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(LogUnavailable, match="readonly"):
        store.write(JoinCheckpoint({KEY: b"1"}))
    store._db.execute("PRAGMA query_only = 0")
    store.write(JoinCheckpoint({KEY: b"1"}))
    assert dict(store.rows()) == {KEY: b"1"}
    store.close()

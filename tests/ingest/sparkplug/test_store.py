"""The state file: one owner, bounded digests, damage renamed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ingest.decoderfile import StoreUnusable
from ingest.errors import LogUnavailable
from ingest.sparkplug.store import Checkpoint, SparkplugStore

ROWS = Checkpoint([("g", "n", b"1")], [("g", "n", "", b"2")], [("g", "n", "", b"3")], [b"d" * 8])


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = SparkplugStore(tmp_path / "s.db")
    first.write(ROWS)
    with pytest.raises(StoreUnusable, match="each bridge its own file"):
        SparkplugStore(tmp_path / "s.db")
    first.close()


def test_digests_are_bounded(tmp_path: Path) -> None:
    store = SparkplugStore(tmp_path / "s.db", remembered=5)
    for n in range(20):
        store.write(Checkpoint(seen=[b"%08d" % n]))
    assert store.seen() == [b"%08d" % n for n in range(15, 20)]
    store.close()


def test_a_failing_disk_raises_log_unavailable(tmp_path: Path) -> None:
    store = SparkplugStore(tmp_path / "s.db")
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(LogUnavailable, match="readonly"):
        store.write(ROWS)
    store._db.execute("PRAGMA query_only = 0")
    store.write(ROWS)
    assert list(store.nodes()) == [("g", "n", b"1")]
    assert list(store.devices()) == [("g", "n", "", b"2", b"3")]
    store.close()


def test_an_unusable_file_is_reported_or_renamed(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnusable, match="upgrade kpstream"):
        SparkplugStore(newer)
    with pytest.raises(StoreUnusable, match="check the folder"):
        SparkplugStore(newer / "sparkplug.db")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"not a database, though long enough for one" * 100)
    store = SparkplugStore(damaged)
    assert list(store.nodes()) == []
    store.close()
    assert (tmp_path / "damaged.db.damaged").is_file()


def _older_copy(tmp_path: Path, commits: int) -> Path:
    """A file from before `commits` commits, in place of the newest."""
    path = tmp_path / "s.db"
    store = SparkplugStore(path)
    store.write(ROWS)
    store.close()
    older = path.read_bytes()
    store = SparkplugStore(path)
    for _ in range(commits):
        store.write(ROWS)
    store.close()
    path.write_bytes(older)
    return path


@pytest.mark.parametrize("commits", [1, 255, 256, 512])
def test_an_older_copy_is_renamed_whatever_the_sequence_numbers_say(
    tmp_path: Path, commits: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = SparkplugStore(_older_copy(tmp_path, commits))
    assert list(store.nodes()) == []
    store.write(ROWS)
    store.close()
    assert f"it has 1 of {1 + commits} commits" in caplog.text
    caplog.clear()
    store = SparkplugStore(tmp_path / "s.db")
    assert list(store.nodes()) == [("g", "n", b"1")]
    store.close()
    assert caplog.text == ""


def test_a_file_that_is_gone_or_another_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    for found in (b"", None):
        store = SparkplugStore(path)
        store.write(ROWS)
        store.close()
        path.unlink() if found is None else path.write_bytes(found)
        caplog.clear()
        SparkplugStore(path).close()
        assert "is gone: asking every node for a new birth" in caplog.text
    other = SparkplugStore(tmp_path / "other" / "s.db")
    other.write(ROWS)
    other.close()
    store = SparkplugStore(path)
    store.write(ROWS)
    store.close()
    other.path.replace(path)
    store = SparkplugStore(path)
    assert list(store.nodes()) == []
    store.close()
    assert "it is not the file that was here before" in caplog.text


def test_a_file_without_a_mark_is_one_of_an_earlier_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    store = SparkplugStore(path)
    store.write(ROWS)
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE commits")
    db.close()
    (tmp_path / "s.db.mark").unlink()
    for _ in range(2):
        store = SparkplugStore(path)
        assert list(store.nodes()) == [("g", "n", b"1")]
        store.close()
    assert caplog.text == ""

"""Repairing a damaged log."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import LogCorrupt
from pipeline.log import repair as logrepair
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from tests.pipeline.log.logs import flip, make_log


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
    reported = capsys.readouterr().out
    assert "lost readings[0] 100: checksum" in reported
    assert "308 records kept, 2 lost" in reported
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

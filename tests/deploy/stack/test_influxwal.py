"""The write-ahead log of a killed InfluxDB, cut to whole entries before the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.stack.influxwal import cut_torn_entries


def entry(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(4, "big") + body


WHOLE = entry(1, b"first") + entry(3, b"") + entry(2, b"third" * 100)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (WHOLE, len(WHOLE)),
        (WHOLE + b"\x01", len(WHOLE)),
        (WHOLE + entry(1, b"lost")[:4], len(WHOLE)),
        (WHOLE + entry(1, b"lost")[:-1], len(WHOLE)),
        (entry(1, b"lost")[:-1], 0),
        (b"", 0),
        (WHOLE + b"\0" * 7, len(WHOLE) + 7),  # another form: left to InfluxDB
    ],
)
def test_an_incomplete_last_entry_is_cut(tmp_path: Path, content: bytes, left: int) -> None:
    shard = tmp_path / "wal" / "bucket" / "autogen" / "1"
    shard.mkdir(parents=True)
    older, newest = shard / "_00001.wal", shard / "_00002.wal"
    older.write_bytes(content)
    newest.write_bytes(content)
    assert cut_torn_entries(tmp_path) == ([] if left == len(content) else [newest])
    assert newest.read_bytes() == content[:left]
    assert older.read_bytes() == content  # InfluxDB appends to the newest segment only


def test_an_engine_without_a_write_ahead_log_is_left_alone(tmp_path: Path) -> None:
    assert cut_torn_entries(tmp_path / "engine") == []

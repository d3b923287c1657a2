"""A file that is replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.statefile import replace_file


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_nothing_beside_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()  # a name that no file can take
    with pytest.raises(OSError):
        replace_file(path, b"one")
    assert list(tmp_path.iterdir()) == [path]

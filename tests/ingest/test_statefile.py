"""Files of state: regular files only, read within bounds, replaced as a whole."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from ingest.statefile import (
    NotRegular,
    StateFileUnusable,
    check_database,
    open_regular,
    read_object,
    read_regular,
    replace_file,
    write_object,
)

VALUES = {"running": {"a": 1}, "names": ["x", "y"]}


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


ODD: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a symbolic link": lambda path: path.symlink_to(path.with_name("elsewhere")),
    "a socket": _socket,
}


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failure_leaves_nothing_beside_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()  # a name that no file can take
    with pytest.raises(OSError):
        replace_file(path, b"one")
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_under_either_name_is_replaced_and_never_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    os.mkfifo(tmp_path / "a.json.new")
    replace_file(path, b"one")
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize("what", ODD)
def test_anything_but_a_regular_file_is_refused_by_its_kind(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.db"
    (tmp_path / "elsewhere").write_bytes(b"{}")
    ODD[what](path)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT):
        with pytest.raises(NotRegular, match=f"a.db is {what}, not a regular file"):
            open_regular(path, flags)
    with pytest.raises(StateFileUnusable, match=f"ignored: .*a.db is {what}"):
        read_object(path)
    with pytest.raises(NotRegular, match=what):
        check_database(path)
    path.rename(tmp_path / "b.db-wal")
    with pytest.raises(NotRegular, match=f"b.db-wal is {what}"):
        check_database(tmp_path / "b.db")


def test_a_large_file_is_refused_before_it_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 10**10)
    with pytest.raises(StateFileUnusable, match="more than"):
        read_object(path)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular(path, limit=10)


def test_an_object_is_read_back_and_a_missing_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_object(path) is None
    write_object(path, VALUES)
    assert read_object(path) == VALUES
    path.write_bytes(b'{"running": {"a": 1}}')  # of an earlier version
    assert read_object(path) == {"running": {"a": 1}}


@pytest.mark.parametrize(
    ("content", "is_sound"),
    [
        (b'{"crc32":2701918824,"brokers":{"127.0.0.1:21883":"5"}}', True),
        (
            b'{"crc32":3610328050,"sessions":{"127.0.0.1:21883/kpstream-bridge":["sensors/#"]},'
            b'"confirmed":["127.0.0.1:21883/kpstream-bridge"]}',
            True,
        ),
        (b'{"crc32":2701918824,"brokers":{"127.0.0.1:21883":"4"}}', False),
        (b'{"crc32":2701918824}', False),
    ],
)
def test_a_file_with_the_checksum_of_an_earlier_version_is_read(
    tmp_path: Path, content: bytes, is_sound: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    if is_sound:
        assert read_object(path) == {
            name: value for name, value in orjson.loads(content).items() if name != "crc32"
        }
    else:
        with pytest.raises(StateFileUnusable, match="its checksum does not match"):
            read_object(path)


def test_every_flipped_bit_of_an_object_is_told_or_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_object(path, VALUES)
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_object(path) or {}
        except StateFileUnusable:
            continue
        unknown = found.keys() - VALUES.keys()
        assert len(unknown) <= 1, "only the name of the checksum may have changed"
        assert {name: found[name] for name in VALUES} == VALUES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b'{"a": 1',
        b"\0" * 100,
        b"[" * 100_000,
        b'{"crc32": 1, "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_content_of_any_other_kind_is_one_typed_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StateFileUnusable, match=r"a\.json is unusable and ignored"):
        read_object(path)

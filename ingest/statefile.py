"""Files of state: opened as regular files only, read within bounds, replaced as a whole.

Every file in a state folder passes here, because anybody may have put something else under its
name: a named pipe makes an ordinary `open` wait for ever, a link leads elsewhere, a huge or deeply
nested file exhausts memory or stack. The rule for the small ones, which only save time or remember
a choice:

1. `write_object` replaces the file; it holds a JSON object with a checksum over the rest, `crc32`.
2. `read_object` returns the object, or None without a file, or raises `StateFileUnusable`.
3. The caller says in the log what it does without the file, and goes on; or it does not go on, and
   tells the `reason` alone.

The registry has a reader of its own for artifacts (`models.artifact.open_plain_file`), because
`models` imports nothing of kpstream.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from ingest.errors import IngestError
from ingest.secrettext import error_text

__all__ = [
    "NotRegular",
    "StateFileUnusable",
    "check_database",
    "open_regular",
    "read_object",
    "read_regular",
    "reason_of",
    "replace_file",
    "write_object",
]

_CHECKSUM = "crc32"
_MOST_BYTES = 32 * 1024**2
"""Above the largest state file, the hundred thousand notes on dead letters."""
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """Something else than a regular file has the name of a state file."""


class StateFileUnusable(IngestError):
    """A small state file cannot be read, or is damaged; the message names file and reason.

    Attributes:
        reason: The reason alone, for callers that do not go on without the file.
    """

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path} is unusable and ignored: {reason}")
        self.reason = str(reason)


def reason_of(exc: Exception) -> str:
    """Return why a state file is unusable, without its name and what becomes of it."""
    return exc.reason if isinstance(exc, StateFileUnusable) else error_text(exc)


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a regular file by its own name and return the descriptor; never waits.

    Args:
        path: The file.
        flags: Flags of `os.open`, such as `os.O_RDONLY`.
        mode: Mode of a new file.

    Raises:
        NotRegular: Something else has this name.
        OSError: The file cannot be opened.
    """
    try:
        found = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError:
        _check_regular(path)
        raise
    kind = stat.S_IFMT(os.fstat(found).st_mode)
    if kind != stat.S_IFREG:
        os.close(found)
        raise _not_regular(path, kind)
    return found


def check_database(path: Path) -> None:
    """Check the names of the files that SQLite opens for a database: regular files, or free.

    Raises:
        NotRegular: Something else has one of these names.
        OSError: The folder cannot be examined.
    """
    for end in ("", "-wal", "-shm", "-journal"):
        _check_regular(path.with_name(path.name + end))


def read_regular(path: Path, limit: int = _MOST_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        NotRegular: Something else has this name.
        OSError: The file is missing, too large, or cannot be read.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        msg = f"{path} has more than {limit:,} bytes, more than kpstream writes: move it away"
        raise OSError(msg)
    return data


def read_object(path: Path) -> dict[str, Any] | None:
    """Read the JSON object of a small state file; None without a file.

    A file of an earlier version has no checksum, or one over its first value only, and is returned
    as it is. The caller refuses keys that it does not know, so that damage to the name of the
    checksum does not pass for that.

    Raises:
        StateFileUnusable: The file is no regular file, too large, damaged, or cannot be read.
    """
    try:
        found = orjson.loads(read_regular(path))
        if not isinstance(found, dict):
            msg = "it does not hold a JSON object"
            raise ValueError(msg)
        checksum = found.pop(_CHECKSUM, None)
        if checksum is not None and checksum not in (_checksum(found), _first_checksum(found)):
            msg = "its checksum does not match"
            raise ValueError(msg)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as exc:
        raise StateFileUnusable(path, exc) from exc
    return found


def write_object(path: Path, values: Mapping[str, Any], *, is_synced: bool = True) -> None:
    """Replace a small state file by a JSON object, with a checksum; see `replace_file`.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    data = orjson.dumps({_CHECKSUM: _checksum(values), **values}) + b"\n"
    replace_file(path, data, is_synced=is_synced)


def replace_file(path: Path, data: bytes, *, is_synced: bool = True) -> None:
    """Write a file under another name and rename it, so that nobody ever sees half of it.

    The content is on disk before the name points to it. The folder is created.

    Args:
        path: The file.
        data: Its content.
        is_synced: False: do not wait for the disk. After a power cut the file may be damaged, so
            only what comes back by itself is written so.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    partial = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # whatever it is, a named pipe included
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(open_regular(partial, flags), "wb") as file:
            file.write(data)
            file.flush()
            if is_synced:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(orjson.dumps(values))


def _first_checksum(values: Mapping[str, Any]) -> int:
    """The checksum of an earlier version."""
    return zlib.crc32(orjson.dumps(next(iter(values.values()), None)))


def _check_regular(path: Path) -> None:
    with suppress(FileNotFoundError):
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind != stat.S_IFREG:
            raise _not_regular(path, kind)


def _not_regular(path: Path, kind: int) -> NotRegular:
    what = _KINDS.get(kind, "something else")
    return NotRegular(f"{path} is {what}, not a regular file: move it away")

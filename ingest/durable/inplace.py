"""Whether the files of an open database are still the ones that were opened.

A process goes on writing into a file that was deleted or replaced, and everything it confirms from
then on is gone at its end. `OpenFiles` compares device and inode of every file, and the sizes
that only this process changes; it costs some microseconds, so it can precede every confirmation.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

__all__ = ["OpenFiles"]


class OpenFiles:
    """The files of one open database; used by its writing thread only.

    Args:
        path: The database, open in WAL mode with at least one transaction done.
        others: Further files that must stay in place.
    """

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        self._own = [str(path), f"{path}-wal"]
        self._opened = {
            name: _identity(os.stat(name))  # noqa: PTH116
            for name in (*self._own, f"{path}-shm", *map(str, others))
            if os.path.exists(name)  # noqa: PTH110  (paths as text: this runs at every commit)
        }
        self._others = [name for name in self._opened if name not in self._own]
        self._sizes = [0, 0]
        self._wal = os.open(self._own[1], os.O_RDONLY | os.O_CLOEXEC)
        self.note()

    def note(self) -> tuple[Path, str] | None:
        """Note the sizes after a transaction; returns the first of both files that is gone."""
        for number, name in enumerate(self._own):
            try:
                status = os.stat(name)  # noqa: PTH116
            except OSError as exc:
                return Path(name), _what(exc)
            if _identity(status) != self._opened.get(name):
                return Path(name), "replaced by another file"
            self._sizes[number] = status.st_size
        return None

    def salts(self) -> tuple[int, ...]:
        """The salts of the write-ahead file (`ingest.durable.wal`); () before its first frame."""
        raw = os.pread(self._wal, 8, 16)
        return struct.unpack(">2I", raw) if len(raw) == 8 else ()

    def close(self) -> None:
        """Close what is open; idempotent."""
        if self._wal >= 0:
            os.close(self._wal)
            self._wal = -1

    def gone(self) -> tuple[Path, str] | None:
        """The first of all files that is no longer in place, and what happened; None: all are."""
        for name in (*self._own, *self._others):
            try:
                status = os.stat(name)  # noqa: PTH116
            except OSError as exc:
                return Path(name), _what(exc)
            if _identity(status) != self._opened.get(name):
                return Path(name), "replaced by another file"
        return None

    def cut(self) -> Path | None:
        """The first file that is smaller than this process left it; None if none is."""
        for number, name in enumerate(self._own):
            try:
                if os.stat(name).st_size < self._sizes[number]:  # noqa: PTH116
                    return Path(name)
            except OSError:
                continue  # `gone` tells
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _what(exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return "deleted or moved away"
    return f"made unreachable ({exc.strerror})"

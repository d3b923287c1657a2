"""A small state file that several processes change: a command, and the gateway itself.

`ingest.statefile` reads and replaces it; here changes wait for each other under a lock, so that
none is lost, and a reader finds out cheaply whether there is anything new.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ingest.statefile import open_regular, read_object, write_object

__all__ = ["SharedState"]


class SharedState:
    """One JSON object in a file.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Prepare; nothing is read.

        Args:
            path: The file.
        """
        self.path = path
        self._stamp: tuple[int, ...] | None = None

    def has_changed(self) -> bool:
        """Whether the file differs from what it was at the last call; True at the first one."""
        try:
            found = self.path.lstat()
            stamp: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = ()
        has_changed = stamp != self._stamp
        self._stamp = stamp
        return has_changed

    def read(self) -> dict[str, Any]:
        """The object; empty without a file.

        Raises:
            StateFileUnusable: The file cannot be read, or is damaged.
        """
        return read_object(self.path) or {}

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the object; what the block makes of it is written when it ends without an error.

        Raises:
            StateFileUnusable: The file cannot be read, or is damaged.
            OSError: It cannot be locked or written; it is as it was.
        """
        flags = os.O_RDWR | os.O_CREAT
        descriptor = open_regular(self.path.with_name(self.path.name + ".lock"), flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            values = self.read()
            yield values
            write_object(self.path, values)
        finally:
            with suppress(OSError):
                os.close(descriptor)

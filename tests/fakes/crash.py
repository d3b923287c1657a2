"""A process that is killed at one of its changes to the disk, for tests of interrupted work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Killed", "killed_at"]

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """The process ends here: no handler of exceptions runs in the place of a kill."""


class _Countdown:
    def __init__(self) -> None:
        self.folder: str | None = None
        self.left = 0

    def step(self, path: Any) -> bool:
        """Whether the process ends at this change."""
        if self.folder is None or not isinstance(path, str | os.PathLike):
            return False
        if not os.fspath(path).startswith(self.folder):
            return False
        self.left -= 1
        return self.left < 0

    def kill(self) -> None:
        self.folder = None
        raise Killed


_countdown = _Countdown()
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _countdown.folder is None:
        return
    changes = event in _CHANGES
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        changes = bool(flags & _WRITING)
    if changes and _countdown.step(arguments[0]):
        _countdown.kill()


@contextmanager
def killed_at(change: int, folder: Path) -> Iterator[None]:
    """Raise `Killed` at the change to a folder with this number, counted from 0.

    Changes are: opening a file to write, fsync, rename, remove, make a folder. At an fsync, half of
    the file is on disk.
    """
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    real = os.fsync

    def fsync(file: int) -> None:
        if _countdown.step(Path(f"/proc/self/fd/{file}").readlink()):
            _countdown.folder = None
            with suppress(OSError):  # a folder
                os.ftruncate(file, os.fstat(file).st_size // 2)
            _countdown.kill()
        real(file)

    _countdown.folder, _countdown.left = str(folder.resolve()), change
    os.fsync = fsync
    try:
        yield
    finally:
        os.fsync = real
        _countdown.folder = None

"""A power cut at the n-th system call that writes below some folders; for a forked child.

Counted are opening for writing, renaming, removing, making folders and links, truncating (by
Python's audit events) and `fsync`. At the chosen one the process ends without cleaning up, after
the disk has forgotten what was not synced:

- `kept`: nothing is forgotten, as after a kill.
- `half` and `lost`: files that were not synced keep half of their bytes, or none.
- `undone`: as `lost`, and renames in folders that were not synced have not happened.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOSSES = ("kept", "half", "lost", "undone")
EXIT_CODE = 99
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_COUNTED = {"os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"}


class PowerCut:
    """Install it in a child process; it stays until the process ends.

    Args:
        folders: Where calls count.
        cut_at: Number of the call at which the power fails, from 1; 0 for never.
        loss: One of `LOSSES`.
    """

    def __init__(self, folders: tuple[Path, ...], cut_at: int, loss: str) -> None:
        self._roots = tuple(f"{folder}/" for folder in folders)
        self._cut_at, self._loss = cut_at, loss
        self.calls = 0
        self._dirty: set[str] = set()
        self._renames: list[tuple[str, str, bytes | None]] = []
        self._inside = False
        self._fsync: Callable[[int], None] = os.fsync

    def install(self) -> None:
        sys.addaudithook(self._on_event)
        os.fsync = self._on_fsync

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if self._inside or not (event in ("open", "os.rename") or event in _COUNTED):
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
        if event == "os.symlink":
            path = os.fsdecode(args[1])
        if not path.startswith(self._roots) or (event == "open" and not args[2] & _WRITES):
            return
        self._inside = True
        try:
            self._step()
            if event == "open":
                self._dirty.add(path)
            elif event == "os.rename":
                self._note_rename(path, os.fsdecode(args[1]))
            elif event == "os.remove":
                self._dirty.discard(path)
        finally:
            self._inside = False

    def _note_rename(self, source: str, target: str) -> None:
        known = Path(target).read_bytes() if Path(target).is_file() else None
        self._renames.append((source, target, known))
        for path in [path for path in self._dirty if f"{path}/".startswith(f"{source}/")]:
            self._dirty.remove(path)
            self._dirty.add(target + path[len(source) :])

    def _on_fsync(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if path.startswith(self._roots) or f"{path}/" in self._roots:
            self._step()
            self._dirty.discard(path)
            self._renames = [each for each in self._renames if str(Path(each[1]).parent) != path]
        self._fsync(descriptor)

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self._cut_at:
            self._inside = True
            self._forget()
            os._exit(EXIT_CODE)

    def _forget(self) -> None:
        if self._loss == "kept":
            return
        for path in map(Path, self._dirty):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, path.stat().st_size // 2 if self._loss == "half" else 0)
        if self._loss != "undone":
            return
        for source, target, known in reversed(self._renames):
            if os.path.lexists(target):
                Path(target).rename(source)
            if known is not None:
                Path(target).write_bytes(known)


def run_until_cut(
    work: Callable[[], None], folders: tuple[Path, ...], cut_at: int, loss: str
) -> tuple[int, int]:
    """Run `work` in a forked child with a power cut; return its exit code and the calls so far.

    The code is 0 if the work ended before the cut, and 1 if it raised.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            cut = PowerCut(folders, cut_at, loss)
            cut.install()
            work()
            os.write(writing, str(cut.calls).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        calls = int(pipe.read() or cut_at)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), calls


def copied(source: Path, target: Path) -> Path:
    """A fresh copy of a folder, links kept."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target

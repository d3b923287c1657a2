"""The folder of a centre: its paths, its lock, and writing that survives a kill at any moment.

```
{folder}/repository/      the static files, for any web server; see `deploy.rollout.metadata`
{folder}/keys/            private keys; never served
{folder}/inventory/       what the gateways reported
{folder}/*.next.json      a root or a timestamp that is about to appear
{folder}/incoming/        a copy that is being taken over
{folder}/ceremony.json    a ceremony of keys that is under way
{folder}/.lock            held by one command at a time
```

Files of the repository never change, except `timestamp.json`. Whatever a file names is on disk
before it appears. A root or a timestamp is complete and on disk as `*.next.json` first, then
renamed: a command that finds one finishes the move, so a version that a gateway may have seen is
never made a second time with another content, even after a power cut.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.rollout.errors import CentreBusy, RepositoryDamaged
from deploy.rollout.metadata import (
    SignedState,
    read_root,
    read_roots,
    read_state,
    root_path,
    verify_next_root,
)
from models.artifact import open_plain_file, sync_directory, write_durably

__all__ = ["CentreFolder", "make_folder"]

_LOCK_SECONDS = 30.0
_NEXT_ROOT = "root.next.json"
_NEXT_TIMESTAMP = "timestamp.next.json"


@dataclass(frozen=True, slots=True)
class CentreFolder:
    """The folder of a centre.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def repository(self) -> Path:
        """The static files."""
        return self.path / "repository"

    @property
    def metadata(self) -> Path:
        """The signed files of the repository."""
        return self.repository / "metadata"

    @property
    def keys(self) -> Path:
        """The private keys."""
        return self.path / "keys"

    @property
    def inventory(self) -> Path:
        """What the gateways reported."""
        return self.path / "inventory"

    @property
    def incoming(self) -> Path:
        """A copy that is being taken over; see `deploy.rollout.transfer`."""
        return self.path / "incoming"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, and finish what a killed command has left.

        Raises:
            CentreBusy: Another command has held the lock for too long.
        """
        make_folder(self.path, mode=0o700)
        lock = open_plain_file(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            self._wait_for(lock)
            self._remove_leftovers()
            self._finish_root()
            self._finish_timestamp()
            yield
        finally:
            os.close(lock)  # releases the lock

    def write_static(self, path: Path, data: bytes | Iterable[bytes]) -> None:
        """Write a file of the repository that nothing names yet; it is on disk afterwards."""
        make_folder(path.parent)
        write_durably(path, data)

    def publish_root(self, version: int, data: bytes) -> None:
        """Have a new root appear."""
        make_folder(self.metadata)
        write_durably(self.path / _NEXT_ROOT, data)
        self._move(_NEXT_ROOT, root_path(self.repository, version))

    def publish_timestamp(self, data: bytes) -> SignedState:
        """Replace `timestamp.json`, and so show everything that it names, once that verifies.

        Raises:
            RepositoryDamaged: It does not verify; `timestamp.json` is as it was.
        """
        path = self.path / _NEXT_TIMESTAMP
        write_durably(path, data)
        try:
            state = read_state(self.repository, path)
        except RepositoryDamaged:
            path.unlink()
            raise
        self._move(_NEXT_TIMESTAMP, self.metadata / "timestamp.json")
        return state

    def _move(self, name: str, path: Path) -> None:
        (self.path / name).replace(path)
        sync_directory(path.parent)
        sync_directory(self.path)

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    msg = (
                        f"another command has held the lock of {self.path} for "
                        f"{_LOCK_SECONDS:.0f} s: try again later"
                    )
                    raise CentreBusy(msg) from exc
                time.sleep(0.02)
            else:
                return

    def _remove_leftovers(self) -> None:
        if (self.incoming / "old").exists() and not self.metadata.exists():
            (self.incoming / "metadata").rename(self.metadata)
            sync_directory(self.repository)
        shutil.rmtree(self.incoming, ignore_errors=True)
        for folder in (self.path, self.repository):
            pattern = ".*.tmp" if folder is self.path else "**/.*.tmp"
            for leftover in folder.glob(pattern):
                leftover.unlink(missing_ok=True)

    def _finish_root(self) -> None:
        path = self.path / _NEXT_ROOT
        if not path.exists():
            return
        known = read_roots(self.repository) if root_path(self.repository, 1).exists() else []
        with suppress(RepositoryDamaged):
            root = verify_next_root(known[-1] if known else None, read_root(path), path)
            self._move(_NEXT_ROOT, root_path(self.repository, root.version))
            return
        path.unlink()

    def _finish_timestamp(self) -> None:
        path = self.path / _NEXT_TIMESTAMP
        if not path.exists():
            return
        with suppress(RepositoryDamaged):
            read_state(self.repository, path)
            self._move(_NEXT_TIMESTAMP, self.metadata / "timestamp.json")
            return
        path.unlink()


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and its parents; their names are on disk afterwards."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=mode, exist_ok=True)
        sync_directory(folder.parent)

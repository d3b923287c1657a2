"""The mark of a database: a small file beside it that says how far it certainly reached.

A database that lost its end, or was replaced by an older copy, is sound in itself. Only something
kept elsewhere can tell, so every confirmed transaction is noted in ``<name>.mark`` before its
future resolves.

- **The mark never leads**: it is written after the transaction is durable. A log that ends below
  its mark has lost confirmed records.
- **The mark may lag**: it is written without a sync (some microseconds) and synced every
  `SYNC_S` seconds and at the clean end. It survives a killed process completely; a loss of power
  takes at most the seconds since the last sync. A missing or damaged mark is written anew.
- With ``durability="normal"`` a loss of power may take confirmed transactions too, and the mark may
  reach the disk before them. The boot id tells that case apart: only an end below a mark of the
  same boot is damage then.

The file has two halves of equal size, written in turn, each with a checksum; a torn write therefore
leaves the half before it.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ingest.statefile import read_regular

__all__ = ["SYNC_S", "Mark", "MarkFile", "boot_id", "mark_path", "read_mark", "sync_folder"]

log = logging.getLogger(__name__)

SYNC_S = 30.0
"""Seconds between two syncs of a mark that changes."""
_MAGIC = b"kpmark1 "
_HEAD_BYTES = len(_MAGIC) + 8 + 1 + 8 + 1 + 8 + 1  # magic, checksum, number, length
_LEAST_HALF_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a database certainly reached.

    Attributes:
        identity: Random name of the database, also stored in it.
        boot: Boot id of the machine at the last write.
        syncs_commits: Whether every commit was synced before its mark was written.
        ends: Topic to end offsets, one per partition; for another database, name to counters.
        accepted_lost: Records whose loss was accepted since the database exists.
        wal: Salts of the write-ahead file; () before its first frame.
    """

    identity: str
    boot: str
    syncs_commits: bool
    ends: Mapping[str, Sequence[int]] = field(default_factory=dict)
    accepted_lost: int = 0
    wal: Sequence[int] = ()

    def lost(self, ends: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], range]:
        """Offsets that the mark has and a database with `ends` has not, by topic and partition.

        >>> Mark("a", "b", True, {"readings": (3, 7), "scores": (0,)}).lost({"readings": (3, 5)})
        {('readings', 1): range(5, 7)}
        """
        lost = {}
        for name, reached in self.ends.items():
            found = ends.get(name, ())
            for partition, end in enumerate(reached):
                at = found[partition] if partition < len(found) else 0
                if at < end:
                    lost[name, partition] = range(at, end)
        return lost

    def may_have_lost_power(self, boot: str) -> bool:
        """Whether the machine was started again since the mark was written."""
        return not boot or self.boot != boot


class MarkFile:
    """Writes the mark of one database; used by one thread at a time.

    Every method succeeds or logs a warning: a mark that lags only makes a later check weaker, which
    is no reason to stop.

    Args:
        path: The file, see `mark_path`.
        mark: What to write first; its `ends` are replaced by each `write`.
    """

    def __init__(self, path: Path, mark: Mark) -> None:
        self._path = path
        self._fixed = {
            name: value for name, value in asdict(mark).items() if name not in ("ends", "wal")
        }
        self._file = -1
        self._half_bytes = 0
        self._number = 0
        self._is_synced = False
        self._sync_at = 0.0
        self._has_failed = False

    def write(self, ends: Mapping[str, Sequence[int]], wal: Sequence[int] = ()) -> None:
        """Note how far the database reached; call it after the transaction is durable."""
        body = orjson.dumps({**self._fixed, "ends": ends, "wal": wal})
        try:
            self._write(body)
            if time.monotonic() >= self._sync_at:
                self.sync()
        except OSError as exc:
            if not self._has_failed:
                log.warning(
                    "cannot write %s (%s): a loss of records after this moment would go unnoticed",
                    self._path,
                    exc,
                )
            self._has_failed = True
            self.close()
        else:
            self._has_failed = False

    def _write(self, body: bytes) -> None:
        is_there = self._file >= 0 and os.fstat(self._file).st_nlink > 0
        if not is_there or _HEAD_BYTES + len(body) > self._half_bytes:
            self._create(body)
            return
        self._number += 1
        os.pwrite(self._file, _sealed(self._number, body), self._number % 2 * self._half_bytes)
        self._is_synced = False

    def _create(self, body: bytes) -> None:
        """Write a new file with room for twice the body, and put it in place at once."""
        self.close()
        half = _LEAST_HALF_BYTES
        while half < 2 * (_HEAD_BYTES + len(body)):
            half *= 2
        fresh = self._path.with_name(self._path.name + ".new")
        with suppress(FileNotFoundError):
            fresh.unlink()
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._number += 2 - self._number % 2  # the first half
            os.pwrite(file, _sealed(self._number, body).ljust(2 * half, b"\0"), 0)
            os.fsync(file)
            fresh.replace(self._path)
            sync_folder(self._path.parent)
        except BaseException:
            os.close(file)
            raise
        self._file, self._half_bytes = file, half
        self._is_synced, self._sync_at = True, time.monotonic() + SYNC_S

    def sync(self) -> None:
        """Make the last mark durable.

        Raises:
            OSError: The disk fails.
        """
        if self._file >= 0 and not self._is_synced:
            os.fdatasync(self._file)
            self._is_synced = True
        self._sync_at = time.monotonic() + SYNC_S

    def close(self) -> None:
        """Sync and close the file; idempotent."""
        if self._file >= 0:
            with suppress(OSError):
                self.sync()
            os.close(self._file)
            self._file = -1


def mark_path(path: Path) -> Path:
    """The mark of a database."""
    return path.with_name(path.name + ".mark")


def read_mark(path: Path) -> Mark | None:
    """Read a mark; None if there is none, or none that is intact.

    Raises:
        OSError: The file cannot be read, or something else than a regular file has its name.
    """
    try:
        raw = read_regular(path)
    except FileNotFoundError:
        return None
    found: list[tuple[int, Mark]] = []
    half = len(raw) // 2
    for at in (0, half):
        with suppress(ValueError, TypeError, KeyError):
            found.append(_opened(raw[at : at + half]))
    if not found:
        log.warning("%s is damaged: it is ignored and written anew", path)
        return None
    return max(found, key=lambda each: each[0])[1]


def boot_id() -> str:
    """Name of this run of the machine; "" if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sealed(number: int, body: bytes) -> bytes:
    rest = b"%08x %08x %s" % (number & 0xFFFFFFFF, len(body), body)
    return b"%s%08x %s" % (_MAGIC, zlib.crc32(rest), rest)


def _opened(half: bytes) -> tuple[int, Mark]:
    """Number and mark of a half.

    Raises:
        ValueError: The half is damaged or was never written.
        TypeError: As before.
        KeyError: As before.
    """
    if not half.startswith(_MAGIC):
        msg = "no mark"
        raise ValueError(msg)
    seal, number, size = (int(half[at : at + 8], 16) for at in (8, 17, 26))
    body = half[_HEAD_BYTES : _HEAD_BYTES + size]
    if zlib.crc32(b"%08x %08x %s" % (number, size, body)) != seal:
        msg = "damaged mark"
        raise ValueError(msg)
    values: dict[str, Any] = orjson.loads(body)
    ends = {str(name): tuple(map(int, each)) for name, each in values.pop("ends").items()}
    return number, Mark(ends=ends, **values)

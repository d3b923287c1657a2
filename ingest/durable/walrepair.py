"""Mend a damaged write-ahead file, so that SQLite replays what stands behind the damage.

A frame whose checksum does not fit breaks the chain for SQLite only. The checksum stored in the
broken frame was right when it was written, so the frames behind can still be verified with it:

1. Most single flipped bits in a frame are found and corrected, because the checksum is linear: the
   difference of the sums names the word and the bit.
2. Another damaged frame is kept as it is if the next frame continues its stored checksum; the
   checksums of the records in the page then tell which of them are lost.
3. A frame that nothing continues is the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ingest.durable.mark import sync_folder
from ingest.durable.wal import (
    FRAME,
    HEADER,
    MAGIC,
    WAL_FORMAT,
    Frame,
    checksum,
    frames_of,
    wal_path,
    weights,
)

__all__ = ["MendReport", "mend_wal"]

_PAGE_BYTES = 8192
_MASK = 0xFFFFFFFF
_MOST_VERSIONS = 1024  # pages kept to compare with

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MendReport:
    """Result of `mend_wal`.

    Attributes:
        corrected: Frames that are exactly what was written.
        kept: Damaged frames that are kept as they are.
        backup: The write-ahead file as it was.
    """

    corrected: int
    kept: int
    backup: Path


def mend_wal(path: Path) -> MendReport | None:
    """Mend the write-ahead file of the database `path`; None if there is nothing to mend.

    The file as it was stays beside it as ``<name>-wal.before-repair``.

    Raises:
        OSError: A file cannot be read or written.
    """
    wal = wal_path(path)
    if not wal.exists() or wal.stat().st_size <= HEADER.size:
        return None
    fresh = wal.with_name(wal.name + ".mended")
    with wal.open("rb") as old, fresh.open("wb") as new:
        corrected, kept = _mend(old, new, _page_bytes(path))
        new.flush()
        os.fsync(new.fileno())
    if not corrected and not kept:
        fresh.unlink()
        return None
    backup = wal.with_name(wal.name + ".before-repair")
    wal.replace(backup)
    fresh.replace(wal)
    sync_folder(wal.parent)
    return MendReport(corrected, kept, backup)


def _mend(old: IO[bytes], new: IO[bytes], page_bytes: int) -> tuple[int, int]:
    """Copy header and frames with new checksums; returns the numbers of mended frames."""
    raw = old.read(HEADER.size)
    fields = HEADER.unpack(raw)
    header_sums = checksum(raw[:24], (0, 0), big_endian=bool(fields[0] & 1))
    is_good = header_sums == fields[6:] and fields[0] & ~1 == MAGIC
    frames = frames_of(old, fields[2] if is_good else page_bytes)
    first = list(_take(frames, 3))
    salts = fields[4:6] if is_good else _common_salts(first)
    begin = HEADER.pack(
        MAGIC, WAL_FORMAT, fields[2] if is_good else page_bytes, fields[3], *salts, 0, 0
    )
    new_sums = checksum(begin[:24], (0, 0))
    new.write(begin[:24] + FRAME.pack(0, 0, 0, 0, *new_sums)[16:])
    seeds = [fields[6:], header_sums] if not is_good else [fields[6:]]
    big = bool(fields[0] & 1) if is_good else False
    corrected, kept = int(not is_good), 0
    uncommitted: list[bytes] = []
    versions: dict[int, bytes] = {}
    for frame, after in _pairs(chain(first, frames)):
        before = versions.get(frame.head[0])
        found = _mended(frame, after, seeds, salts, before, big_endian=big)
        if found is None:
            break
        head, page, sums, how = found
        versions[frame.head[0]] = page
        if len(versions) > _MOST_VERSIONS:
            versions.pop(next(iter(versions)))
        corrected += how == "corrected"
        kept += how == "kept"
        seeds = [sums]
        new_sums = checksum(page, checksum(head, new_sums))
        uncommitted.append(head + FRAME.pack(0, 0, *salts, *new_sums)[8:] + page)
        if int.from_bytes(head[4:8], "big"):
            new.writelines(uncommitted)
            uncommitted.clear()
    return corrected, kept


def _mended(
    frame: Frame,
    after: Frame | None,
    seeds: list[Sums],
    salts: Sums,
    before: bytes | None,
    *,
    big_endian: bool,
) -> tuple[bytes, bytes, Sums, str] | None:
    """The frame as it is to be written: head, page, its original sums, and what was done."""
    head = FRAME.pack(*frame.head)[:8]
    stored = (frame.head[4], frame.head[5])
    is_own = frame.salts == salts
    for seed in seeds:
        found = _sums(head, frame.page, seed, big_endian)
        if found == stored and frame.head[0]:
            return head, frame.page, stored, "intact" if is_own else "corrected"
        if after is not None and _continues(after, found, salts, big_endian):
            return head, frame.page, found, "corrected"  # only its checksum was damaged
        if not is_own:
            continue
        model = None if before is None else head + before
        fixed = _corrected(head + frame.page, model, found, stored, big_endian=big_endian)
        if fixed is not None:
            return fixed[:8], fixed[8:], stored, "corrected"
    if (
        after is not None
        and is_own
        and frame.head[0]
        and _continues(after, stored, salts, big_endian)
    ):
        return head, frame.page, stored, "kept"
    return None


def _continues(frame: Frame, seed: Sums, salts: Sums, big_endian: bool) -> bool:
    if frame.salts != salts:
        return False
    return _sums(FRAME.pack(*frame.head)[:8], frame.page, seed, big_endian) == frame.head[4:]


def _sums(head: bytes, page: bytes, seed: Sums, big_endian: bool) -> Sums:
    return checksum(page, checksum(head, seed, big_endian=big_endian), big_endian=big_endian)


def _corrected(
    data: bytes, model: bytes | None, found: Sums, stored: Sums, *, big_endian: bool
) -> bytes | None:
    """The data with the one bit flipped back that explains the sums; None unless there is one.

    Of the upper bits of a word, the sums keep little, so that several words may explain them. Then
    it is the one whose correction is found in the `model`, the page as it was before.
    """
    first, second = weights(len(data) // 4)
    missing = np.uint32((stored[0] - found[0]) & _MASK), np.uint32((stored[1] - found[1]) & _MASK)
    words = np.frombuffer(data, ">u4" if big_endian else "<u4").astype(np.uint32)
    candidates = []
    for bit in range(32):
        for change in (1 << bit, -(1 << bit) & _MASK):
            step = np.uint32(change)
            for at in np.nonzero((first * step == missing[0]) & (second * step == missing[1]))[0]:
                flipped = int(words[at]) ^ (1 << bit)
                if flipped == (int(words[at]) + change) & _MASK:
                    raw = flipped.to_bytes(4, "big" if big_endian else "little")
                    candidates.append((at, raw))
    if model is not None and len(candidates) > 1:
        candidates = [(at, raw) for at, raw in candidates if model[at * 4 :][:4] == raw]
    if len(candidates) != 1:
        return None
    at, raw = candidates[0]
    return data[: at * 4] + raw + data[at * 4 + 4 :]


def _common_salts(frames: list[Frame]) -> Sums:
    """The salts of most of the frames."""
    found = [frame.salts for frame in frames]
    return max(found, key=found.count) if found else (0, 0)


def _page_bytes(path: Path) -> int:
    """Page size of the database, from its own header."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(18)[16:], "big")
    except OSError:
        return _PAGE_BYTES
    return size if size >= 512 and size & (size - 1) == 0 else _PAGE_BYTES


def _take(frames: Iterator[Frame], most: int) -> Iterator[Frame]:
    for _ in range(most):
        try:
            yield next(frames)
        except StopIteration:
            return


def _pairs(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    """Each frame with the one behind it."""
    before = None
    for frame in frames:
        if before is not None:
            yield before, frame
        before = frame
    if before is not None:
        yield before, None

"""SQLite's write-ahead file, read as bytes: where its chain of checksums ends, and why.

SQLite replays a write-ahead file (``-wal``) up to its last intact commit and takes what follows for
the remains of an interrupted write, so one flipped bit silently drops every confirmed transaction
behind it. `read_wal` walks the same chain before SQLite opens the file and tells damage from such
remains. Layout: https://sqlite.org/fileformat2.html#the_write_ahead_log.

- A header of 32 bytes has the page size, two salts, and a checksum.
- A frame has a header of 24 bytes (page number, size of the database after a commit or 0, the
  salts, a checksum) and one page. Its checksum continues that of the frame before it.
- SQLite starts the file anew with other salts, so frames with other salts are old and mean nothing.

Proof of damage (`WalState.is_damaged`): behind the first invalid frame stands a commit frame of the
same salts. A process writes frames in order, so a killed one leaves none. After a loss of power the
disk may hold the last transaction in any order; there, the proof needs a further frame behind
that commit, because SQLite syncs a commit before it writes on (``durability="full"``).
A write-ahead file of another database, or of another time, has other salts than the mark noted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ingest.statefile import open_regular

__all__ = [
    "FRAME",
    "HEADER",
    "MAGIC",
    "WAL_FORMAT",
    "Frame",
    "WalState",
    "checksum",
    "follows",
    "frames_of",
    "read_wal",
    "wal_path",
    "weights",
]

HEADER = struct.Struct(">8I")
"""Magic, format, page size, number of the checkpoint, two salts, two checksums."""
FRAME = struct.Struct(">6I")
"""Page number, database pages after a commit (0: no commit), two salts, two checksums."""
MAGIC = 0x377F0682
"""Checksums over little-endian words; with the last bit set, over big-endian words."""
WAL_FORMAT = 3007000
_FRAMES_AT_ONCE = 64
_MOST_RESTARTS = 1000  # between two marks; a stranger's salt is that close once in four million

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it is in the file, valid or not.

    Attributes:
        head: The fields of `FRAME`.
        page: The page.
    """

    head: tuple[int, ...]
    page: bytes

    @property
    def salts(self) -> tuple[int, int]:
        """The salts of the frame."""
        return self.head[2], self.head[3]


@dataclass(frozen=True, slots=True)
class WalState:
    """What a write-ahead file holds.

    Attributes:
        size_bytes: Size of the file; 0 without one.
        has_bad_header: Whether the header is invalid although frames follow it, so SQLite would
            ignore all of them.
        valid_frames: Frames of the intact chain.
        frames_behind: Frames of the same salts behind the first invalid frame.
        commits_behind: Commit frames among them.
        closed_commits: Commits behind which a further frame follows, from the first invalid frame
            on.
        salts: The salts; None without a valid header.
        pages: Pages of the database after the last commit of the chain; 0 without a commit.
    """

    size_bytes: int = 0
    has_bad_header: bool = False
    valid_frames: int = 0
    frames_behind: int = 0
    commits_behind: int = 0
    closed_commits: int = 0
    salts: Sums | None = None
    pages: int = 0

    def is_damaged(self, *, after_power_loss: bool, syncs_commits: bool = True) -> bool:
        """Whether confirmed transactions are certainly unreadable; see the module.

        Args:
            after_power_loss: Whether the machine may have lost power since the last write.
            syncs_commits: Whether every commit was synced (``durability="full"``).
        """
        if self.has_bad_header:
            return True
        if after_power_loss:
            return syncs_commits and self.closed_commits > 0
        return self.commits_behind > 0 or self.closed_commits > 0

    @property
    def finding(self) -> str:
        """The damage in words, for a file that `is_damaged`."""
        if self.has_bad_header:
            return "the header of its write-ahead file is damaged"
        return (
            f"frame {self.valid_frames + 1} of its write-ahead file is damaged, and SQLite would "
            f"drop it with {self.frames_behind} frames of confirmed transactions behind it"
        )


def wal_path(path: Path) -> Path:
    """The write-ahead file of a database."""
    return path.with_name(path.name + "-wal")


def follows(salts: Sums, before: Sums) -> bool:
    """Whether a file with these salts may be the one that had the salts `before`.

    SQLite adds one to the first salt whenever it starts the file anew.
    """
    steps = (salts[0] - before[0]) & 0xFFFFFFFF
    return salts == before or 0 < steps <= _MOST_RESTARTS


def read_wal(path: Path) -> WalState:
    """Read the write-ahead file of the database `path`, which no process may be writing.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        with os.fdopen(open_regular(wal_path(path), os.O_RDONLY), "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        return WalState()


def _read(file: IO[bytes], size_bytes: int) -> WalState:
    raw = file.read(HEADER.size)
    if len(raw) < HEADER.size:  # never written, or cut: the mark tells
        return WalState(size_bytes)
    magic, version, page_bytes, _, *salts_and_sums = HEADER.unpack(raw)
    big = bool(magic & 1)
    sums = checksum(raw[:24], (0, 0), big_endian=big)
    if magic & ~1 != MAGIC or version != WAL_FORMAT or sums != tuple(salts_and_sums[2:]):
        rest = size_bytes > HEADER.size and any(file.read(1 << 20))
        return WalState(size_bytes, has_bad_header=rest or any(raw))
    salts = (salts_and_sums[0], salts_and_sums[1])
    valid = behind = commits = closed = pages = 0
    is_chain, first_commit = True, False
    for frame in frames_of(file, page_bytes):
        if is_chain and frame.salts == salts:
            after = checksum(FRAME.pack(*frame.head)[:8], sums, big_endian=big)
            after = checksum(frame.page, after, big_endian=big)
            if after == frame.head[4:] and frame.head[0]:
                sums, valid = after, valid + 1
                pages = frame.head[1] or pages
                continue
        if is_chain:
            is_chain = False
            first_commit = frame.salts == salts and frame.head[1] > 0
            continue
        if frame.salts == salts:
            closed = commits + first_commit
            behind += 1
            commits += frame.head[1] > 0
    return WalState(size_bytes, False, valid, behind, commits, closed, salts, pages)


def frames_of(file: IO[bytes], page_bytes: int) -> Iterator[Frame]:
    """Yield the whole frames from the present place of a write-ahead file on, valid or not."""
    frame_bytes = FRAME.size + page_bytes
    while chunk := file.read(frame_bytes * _FRAMES_AT_ONCE):
        for at in range(0, len(chunk) - frame_bytes + 1, frame_bytes):
            page = chunk[at + FRAME.size : at + frame_bytes]
            yield Frame(FRAME.unpack_from(chunk, at), page)


def checksum(data: bytes, seed: Sums, *, big_endian: bool = False) -> Sums:
    """Continue SQLite's checksum over a multiple of 8 bytes.

    SQLite adds word by word: ``s0 += x[i] + s1; s1 += x[i + 1] + s0``. The sums are linear in the
    words modulo 2**32, so two dot products give the same.

    >>> checksum(struct.pack("<4I", 1, 2, 3, 4), (5, 6))
    (35, 59)
    """
    words = np.frombuffer(data, ">u4" if big_endian else "<u4").astype(np.uint32)
    first, second = weights(len(words))
    of_seed = _seed_weights(len(words) // 2)
    s0 = int((words * first).sum(dtype=np.uint32))
    s1 = int((words * second).sum(dtype=np.uint32))
    s0 += of_seed[0] * seed[0] + of_seed[1] * seed[1]
    s1 += of_seed[1] * seed[0] + of_seed[2] * seed[1]
    return s0 & 0xFFFFFFFF, s1 & 0xFFFFFFFF


@lru_cache(maxsize=8)
def weights(words: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """How often each of `words` words counts in the first and in the second sum, modulo 2**32.

    One pair of words maps the sums (s0, s1) to (s0 + s1 + a, s0 + 2 s1 + a + b).
    """
    first = np.zeros(words, np.uint32)
    second = np.zeros(words, np.uint32)
    m00, m01, m11 = 1, 0, 1  # the map of the pairs that follow: [[m00, m01], [m01, m11]]
    for pair in range(words - 2, -1, -2):
        first[pair], second[pair] = (m00 + m01) & 0xFFFFFFFF, (m01 + m11) & 0xFFFFFFFF
        first[pair + 1], second[pair + 1] = m01, m11
        m00, m01, m11 = _after_pair(m00, m01, m11)
    return first, second


@lru_cache(maxsize=8)
def _seed_weights(pairs: int) -> tuple[int, int, int]:
    """The symmetric matrix that maps the seed through `pairs` pairs of words: (m00, m01, m11)."""
    m00, m01, m11 = 1, 0, 1
    for _ in range(pairs):
        m00, m01, m11 = _after_pair(m00, m01, m11)
    return m00, m01, m11


def _after_pair(m00: int, m01: int, m11: int) -> tuple[int, int, int]:
    mask = 0xFFFFFFFF
    return (m00 + m01) & mask, (m00 + 2 * m01) & mask, (m01 + 2 * m11) & mask

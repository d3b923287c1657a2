"""Rows of readings that wait for their file, collected by stream, day and channels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.messages import Batch

__all__ = ["PartKey", "PartRows", "Rows", "day_of"]

_CHUNK_BYTES = 400
"""Memory of one message beside its numbers."""


class PartKey(NamedTuple):
    """What the rows of one file have in common."""

    stream: str
    day: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartRows:
    """The rows of one file, in the order of receipt.

    Attributes:
        key: Stream, day and channels.
        ts_ms: Event times, int64 `[n]`.
        recv_ms: Times of receipt, int64 `[n]`.
        site: Site of each row.
        device: Device of each row.
        values: Readings, float64 `[channels, n]`.
    """

    key: PartKey
    ts_ms: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    site: Sequence[str]
    device: Sequence[str]
    values: NDArray[np.float64]


@dataclass(slots=True)
class _Chunks:
    """The messages of one file."""

    senders: list[tuple[str, str, int, int]] = field(default_factory=list)
    ts_ms: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)


class Rows:
    """Collects messages until they are written.

    Attributes:
        size_bytes: Rough memory in use.
        readings: Rows collected.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.readings = 0
        self._parts: dict[PartKey, _Chunks] = {}

    def __len__(self) -> int:
        """Number of files that the rows make."""
        return len(self._parts)

    def add(self, batch: Batch) -> None:
        """Add the readings of one message."""
        names = tuple(sorted(batch.values))
        chunks = self._parts.setdefault(
            PartKey(batch.stream, day_of(batch.recv_ms), names), _Chunks()
        )
        count = len(batch.ts_ms)
        values = np.array([batch.values[name] for name in names], dtype=np.float64)
        chunks.senders.append((batch.site, batch.device, batch.recv_ms, count))
        chunks.ts_ms.append(batch.ts_ms)
        chunks.values.append(values)
        self.readings += count
        self.size_bytes += values.nbytes + batch.ts_ms.nbytes + _CHUNK_BYTES

    def parts(self) -> Iterator[PartRows]:
        """Return all rows, one item per file, made one after the other."""
        return (_joined(key, self._parts[key]) for key in sorted(self._parts))


def day_of(recv_ms: int) -> str:
    """Return the day of a time in UTC, the name of a folder.

    >>> day_of(1_700_000_000_000)
    '2023-11-14'
    """
    return datetime.fromtimestamp(min(recv_ms, _LAST_MS) / 1000, tz=timezone.utc).date().isoformat()


_LAST_MS = 253_402_300_799_000  # the end of the year 9999, beyond which Python has no dates


def _joined(key: PartKey, chunks: _Chunks) -> PartRows:
    sites, devices = [], []
    for site, device, _, count in chunks.senders:
        sites += [site] * count
        devices += [device] * count
    recv_ms = [each[2] for each in chunks.senders]
    counts = [each[3] for each in chunks.senders]
    return PartRows(
        key,
        np.concatenate(chunks.ts_ms),
        np.repeat(np.array(recv_ms, dtype=np.int64), counts),
        sites,
        devices,
        np.concatenate(chunks.values, axis=1),
    )

"""Counts over the newest windows of a stream or of one device. Pure.

Windows are counted in blocks of `BLOCK`. A block that is full pushes out the oldest, so the counts
cover the newest `SPAN` blocks, and what is judged is always made of whole blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.seen import BINS, Histogram

__all__ = ["BLOCK", "FEWEST", "LONGER", "RECENT", "SPAN", "Binner", "Counted", "Counts"]

BLOCK = 100
"""Windows in a block."""
SPAN = 10
"""Blocks over which the shape of a channel is judged: a thousand windows."""
FEWEST = 3
"""Blocks from which on it is judged."""
RECENT = 2
"""Newest blocks over which shares of windows are judged."""
LONGER = 5
"""Newest blocks over which the share of windows of no class is judged."""
_MANY = 20
"""Devices from which on a stream is judged by `Histogram.many`, measured on ten groups."""
_MOST_READINGS = 16
"""Readings of a window that are counted, at even distances: neighbours tell the same."""


@dataclass(slots=True)
class Counted:
    """Counts over some windows.

    Attributes:
        bins: Readings of each channel in each bin of the histogram, [channels, BINS].
        windows: Windows.
        flagged: Windows whose readings are doubtful.
        unknown: Windows that resemble no class.
        covered: Sum of the shares of readings that were inside their forecast interval.
        devices: Names of devices, at most `_MANY`.
    """

    bins: NDArray[np.int64]
    windows: int = 0
    flagged: int = 0
    unknown: int = 0
    covered: float = 0.0
    devices: set[str] = field(default_factory=set)

    def add(self, other: Counted) -> None:
        """Add the counts of other windows."""
        self.bins += other.bins
        self.windows += other.windows
        self.flagged += other.flagged
        self.unknown += other.unknown
        self.covered += other.covered
        for device in other.devices:
            if len(self.devices) < _MANY:
                self.devices.add(device)

    @property
    def is_fleet(self) -> bool:
        """Whether the windows are of many devices."""
        return len(self.devices) >= _MANY


class Counts:
    """The newest blocks of a stream, or of a device of it."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._blocks: deque[Counted] = deque(maxlen=SPAN)
        self._open = self._new()

    def add(self, counted: Counted) -> bool:
        """Add windows, at most a block at once; True if a block became full."""
        self._open.add(counted)
        if self._open.windows < BLOCK:
            return False
        self._blocks.append(self._open)
        self._open = self._new()
        return True

    def newest(self, blocks: int) -> Counted:
        """The sum over the newest full blocks."""
        found = self._new()
        for block in list(self._blocks)[-blocks:]:
            found.add(block)
        return found

    @property
    def blocks(self) -> int:
        """Full blocks."""
        return len(self._blocks)

    def _new(self) -> Counted:
        return Counted(np.zeros((self._channels, BINS), np.int64))


class Binner:
    """Counts the newest readings of windows in the bins of a histogram.

    Args:
        histogram: Of the manifest.
        hop: Distance of two windows in readings, so that each reading counts once.
    """

    def __init__(self, histogram: Histogram, hop: int) -> None:
        self._edges = [np.array(edges, np.float32) for edges in histogram.edges]
        self._newest = slice(-hop, None, max(1, hop // _MOST_READINGS))

    def bins(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
        """Readings of each window by channel and bin, [windows, channels, BINS]."""
        newest = np.stack([window[self._newest] for window in windows])
        count, length, channels = newest.shape
        cells = np.empty((count, length, channels), np.int64)
        for place, edges in enumerate(self._edges):
            cells[:, :, place] = np.searchsorted(edges, newest[:, :, place], side="right")
        cells += np.arange(channels) * BINS
        cells += (np.arange(count) * (channels * BINS))[:, None, None]
        found = np.bincount(cells.ravel(), minlength=count * channels * BINS)
        return found.reshape(count, channels, BINS)

"""Counts over the newest windows of a stream or of one device. Pure.

Windows are counted in blocks of `BLOCK`. A block that is full pushes out the oldest, so the counts
cover the newest `SPAN` blocks, and what is judged is always made of whole blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.seen import BINS, Histogram

__all__ = [
    "BLOCK",
    "FEWEST",
    "LONGER",
    "MANY",
    "RECENT",
    "SPAN",
    "Binner",
    "Counted",
    "Counts",
    "OpenBlocks",
    "Windows",
    "join_windows",
]

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
MANY = 20
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
        devices: Names of devices, at most `MANY`.
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
            if len(self.devices) < MANY:
                self.devices.add(device)

    @property
    def is_fleet(self) -> bool:
        """Whether the windows are of many devices."""
        return len(self.devices) >= MANY


class Counts:
    """The newest blocks of a stream, or of a device of it."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._blocks: deque[Counted] = deque(maxlen=SPAN)

    def push(self, block: Counted) -> None:
        """Add a full block, which pushes out the oldest."""
        self._blocks.append(block)

    def newest(self, blocks: int) -> Counted:
        """The sum over the newest full blocks."""
        found = Counted(np.zeros((self._channels, BINS), np.int64))
        for block in list(self._blocks)[-blocks:]:
            found.add(block)
        return found

    @property
    def blocks(self) -> int:
        """Full blocks."""
        return len(self._blocks)


@dataclass(frozen=True, slots=True)
class Windows:
    """What is counted of `n` windows, in the order in which they were scored.

    Attributes:
        senders: Site and device of each.
        newest: Their newest readings, [n, readings, channels]; no readings if none are counted.
        flagged: [n] whether the readings are doubtful.
        unknown: [n] whether the window resembles no class.
        covered: [n] float64 share of readings inside their forecast interval.
    """

    senders: list[tuple[str, str]]
    newest: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    covered: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.senders)

    def take(self, rows: slice) -> Windows:
        """Some of the windows."""
        return Windows(
            self.senders[rows],
            self.newest[rows],
            self.flagged[rows],
            self.unknown[rows],
            self.covered[rows],
        )


def join_windows(parts: Sequence[Windows]) -> Windows:
    """All windows of several, in order."""
    return Windows(
        [sender for part in parts for sender in part.senders],
        np.concatenate([part.newest for part in parts]),
        np.concatenate([part.flagged for part in parts]),
        np.concatenate([part.unknown for part in parts]),
        np.concatenate([part.covered for part in parts]),
    )


class OpenBlocks:
    """The blocks that are being filled, of several places at once; each place has a slot.

    Args:
        slots: Number of places.
        channels: Channels of the windows.
    """

    def __init__(self, slots: int, channels: int) -> None:
        self._bins = np.zeros((slots, channels, BINS), np.int32)
        self._windows = np.zeros(slots, np.int64)
        self._flagged = np.zeros(slots, np.int64)
        self._unknown = np.zeros(slots, np.int64)
        self._covered = np.zeros(slots, np.float64)

    def clear(self, slot: int | list[int]) -> None:
        """Empty the blocks of some slots."""
        for counts in (self._bins, self._windows, self._flagged, self._unknown, self._covered):
            counts[slot] = 0

    def add(
        self, slots: NDArray[np.int64], windows: Windows, cells: NDArray[np.int64]
    ) -> Iterator[tuple[int, Counted]]:
        """Count windows; yields each block that becomes full, with its slot.

        Args:
            slots: Slot of each window, `[n]`.
            windows: The windows.
            cells: Cells of their newest readings, `[n, readings]`; see `Binner.cells`.
        """
        count, width = len(self._windows), self._bins[0].size
        filled = (self._windows[slots] + _ranks(slots)) // BLOCK
        for number in range(int(filled.max(initial=-1)) + 1):
            rows = np.flatnonzero(filled == number)
            some = slots[rows]
            self._windows += np.bincount(some, minlength=count)
            self._flagged += np.bincount(some[windows.flagged[rows]], minlength=count)
            self._unknown += np.bincount(some[windows.unknown[rows]], minlength=count)
            self._covered += np.bincount(some, windows.covered[rows], minlength=count)
            which, places = np.unique(some, return_inverse=True)
            flat = (cells[rows] + places[:, None] * width).ravel()
            counted = np.bincount(flat, minlength=len(which) * width)
            self._bins[which] += counted.reshape(len(which), *self._bins.shape[1:]).astype(np.int32)
            for slot in np.flatnonzero(self._windows == BLOCK).tolist():
                yield slot, self._taken(slot)

    def _taken(self, slot: int) -> Counted:
        found = Counted(
            self._bins[slot].astype(np.int64),
            int(self._windows[slot]),
            int(self._flagged[slot]),
            int(self._unknown[slot]),
            float(self._covered[slot]),
        )
        self.clear(slot)
        return found


class Binner:
    """Finds the bins of the newest readings of windows in a histogram.

    Args:
        histogram: Of the manifest.
        hop: Distance of two windows in readings, so that each reading counts once.
    """

    def __init__(self, histogram: Histogram, hop: int) -> None:
        most = max(map(len, histogram.edges))
        self._edges = np.full((most, len(histogram.edges)), np.inf, np.float32)
        for place, edges in enumerate(histogram.edges):
            self._edges[: len(edges), place] = edges
        self._newest = slice(-hop, None, max(1, hop // _MOST_READINGS))

    def newest(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The readings that are counted, [n, readings, channels], of [n, length, channels]."""
        newest: NDArray[np.float32] = windows[:, self._newest].copy()
        return newest

    def cells(self, newest: NDArray[np.float32]) -> NDArray[np.int64]:
        """Where the readings count in [channels, BINS], laid flat: [n, readings * channels]."""
        bins = np.zeros(newest.shape, np.int8)
        for edges in self._edges:  # a pass over all readings for each edge, faster than a search
            bins += newest >= edges
        cells = bins + np.arange(newest.shape[2]) * BINS
        return cells.reshape(len(newest), -1)


def _ranks(slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many windows of the same slot come before each.

    >>> _ranks(np.array([3, 1, 3, 3])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(slots, kind="stable")
    sorted_slots = slots[order]
    ranks = np.empty(len(slots), np.int64)
    ranks[order] = np.arange(len(slots)) - np.searchsorted(sorted_slots, sorted_slots)
    return ranks

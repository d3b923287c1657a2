"""What a slab gives back: the outcome of many messages, and closed windows as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.spec import Window

__all__ = ["SlabStep", "SlabWindows", "join_parts", "join_windows"]


@dataclass(frozen=True, slots=True)
class SlabWindows:
    """`w` windows of one shape, in the order in which they closed on each row.

    Attributes:
        row: Row of each window, int32 `[w]`.
        values: Readings float32 `[w, length, channels]`, C order, read-only.
        start_ms: See `pipeline.windows.spec.Window`; int64 `[w]`, as the next four.
        end_ms: See there.
        readings: See there.
        gaps: See there.
        recv_ms: See there.
        made_up: See there; float64 `[w]`.
        rate_hz: See there; float64 `[w]`; None without resampling.
        run_ms: See there; int64 `[w]`; None without resampling.
    """

    row: NDArray[np.int32]
    values: NDArray[np.float32]
    start_ms: NDArray[np.int64]
    end_ms: NDArray[np.int64]
    readings: NDArray[np.int64]
    gaps: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    made_up: NDArray[np.float64]
    rate_hz: NDArray[np.float64] | None = None
    run_ms: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.row)


@dataclass(frozen=True, slots=True)
class SlabStep:
    """The result of `m` messages with `n` readings in all.

    Attributes:
        windowed: Number of accepted readings of each message, int64 `[m]`.
        duplicate: Number of duplicate readings of each message, int64 `[m]`.
        corrected: Number of readings that are other versions of a known reading, int64 `[m]`.
        late: Indices of the late readings among all `n`, ascending.
        future: Indices of the readings beyond the future limit among all `n`, ascending.
        windows: Windows that the messages closed, one item for each shape: none or one for count
            windows, any number for time windows.
    """

    windowed: NDArray[np.int64]
    duplicate: NDArray[np.int64]
    corrected: NDArray[np.int64]
    late: NDArray[np.intp]
    future: NDArray[np.intp]
    windows: list[SlabWindows]


def join_parts(parts: Sequence[SlabWindows]) -> list[SlabWindows]:
    """The same windows with one item for each shape."""
    groups: dict[int, list[SlabWindows]] = {}
    for part in parts:
        groups.setdefault(part.values.shape[1], []).append(part)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def join_windows(closed: Sequence[tuple[int, Window]]) -> list[SlabWindows]:
    """Windows of any rows as columns, one item for each shape, in the order of their first."""
    groups: dict[int, list[tuple[int, Window]]] = {}
    for each in closed:
        groups.setdefault(len(each[1].values), []).append(each)
    return [_as_columns(group) for group in groups.values()]


def _joined(parts: Sequence[SlabWindows]) -> SlabWindows:
    values = np.concatenate([part.values for part in parts])
    values.flags.writeable = False
    rates = [part.rate_hz for part in parts if part.rate_hz is not None]
    runs = [part.run_ms for part in parts if part.run_ms is not None]
    return SlabWindows(
        row=np.concatenate([part.row for part in parts]),
        values=values,
        start_ms=np.concatenate([part.start_ms for part in parts]),
        end_ms=np.concatenate([part.end_ms for part in parts]),
        readings=np.concatenate([part.readings for part in parts]),
        gaps=np.concatenate([part.gaps for part in parts]),
        recv_ms=np.concatenate([part.recv_ms for part in parts]),
        made_up=np.concatenate([part.made_up for part in parts]),
        rate_hz=np.concatenate(rates) if rates else None,
        run_ms=np.concatenate(runs) if runs else None,
    )


def _as_columns(group: Sequence[tuple[int, Window]]) -> SlabWindows:
    rows, windows = zip(*group, strict=True)
    values = np.stack([window.values for window in windows])
    values.flags.writeable = False
    rates = [window.rate_hz for window in windows if window.rate_hz is not None]
    runs = [window.run_ms for window in windows if window.run_ms is not None]
    return SlabWindows(
        row=np.array(rows, dtype=np.int32),
        values=values,
        start_ms=np.array([window.start_ms for window in windows], dtype=np.int64),
        end_ms=np.array([window.end_ms for window in windows], dtype=np.int64),
        readings=np.array([window.readings for window in windows], dtype=np.int64),
        gaps=np.array([window.gaps for window in windows], dtype=np.int64),
        recv_ms=np.array([window.recv_ms for window in windows], dtype=np.int64),
        made_up=np.array([window.made_up for window in windows], dtype=np.float64),
        rate_hz=np.array(rates, dtype=np.float64) if rates else None,
        run_ms=np.array(runs, dtype=np.int64) if runs else None,
    )

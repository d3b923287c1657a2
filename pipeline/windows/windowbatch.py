"""Closed windows of one stream, as columns: what the windower gives to the scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.spec import Window

__all__ = ["WindowBatch", "join_batches"]

_ARRAYS = (
    "partition",
    "values",
    "start_ms",
    "end_ms",
    "readings",
    "gaps",
    "recv_ms",
    "made_up",
    "rate_hz",
    "run_ms",
)
"""Attributes of a batch that are arrays, in order."""


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """`w` windows of one stream and of one shape, in the order in which they closed.

    Attributes:
        stream: The group of channels.
        senders: Site and device of each window, `w` of them.
        partition: Partition of the device, int32 `[w]`.
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

    stream: str
    senders: list[tuple[str, str]]
    partition: NDArray[np.int32]
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
        return len(self.senders)

    def take(self, rows: slice | NDArray[np.intp]) -> WindowBatch:
        """Some of the windows, in the order of `rows`."""
        places = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        found: list[Any] = [getattr(self, name) for name in _ARRAYS]
        arrays: list[Any] = [None if array is None else array[rows] for array in found]
        return WindowBatch(self.stream, [self.senders[place] for place in places], *arrays)

    def window(self, row: int) -> Window:
        """One of the windows; its values are a copy, so that it does not keep the others."""
        return Window(
            start_ms=int(self.start_ms[row]),
            end_ms=int(self.end_ms[row]),
            values=self.values[row].copy(),
            readings=int(self.readings[row]),
            gaps=int(self.gaps[row]),
            recv_ms=int(self.recv_ms[row]),
            made_up=float(self.made_up[row]),
            rate_hz=None if self.rate_hz is None else float(self.rate_hz[row]),
            run_ms=None if self.run_ms is None else int(self.run_ms[row]),
        )


def join_batches(batches: Sequence[WindowBatch]) -> list[WindowBatch]:
    """Batches of one stream as few batches, one for each shape, in the order of their first."""
    alike: dict[tuple[Any, ...], list[WindowBatch]] = {}
    for batch in batches:
        kind = (batch.values.shape[1:], batch.rate_hz is None, batch.run_ms is None)
        alike.setdefault(kind, []).append(batch)
    return [_joined(some) if len(some) > 1 else some[0] for some in alike.values()]


def _joined(batches: Sequence[WindowBatch]) -> WindowBatch:
    columns: list[list[Any]] = [[getattr(batch, name) for batch in batches] for name in _ARRAYS]
    arrays: list[Any] = [None if parts[0] is None else np.concatenate(parts) for parts in columns]
    senders = [sender for batch in batches for sender in batch.senders]
    return WindowBatch(batches[0].stream, senders, *arrays)

"""Closed windows of one stream, as columns: what the windower gives to the scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["WindowBatch"]


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

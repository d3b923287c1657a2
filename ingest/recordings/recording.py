"""A recording: the readings of one device, ready to be published or windowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recording"]


@dataclass(frozen=True, slots=True)
class Recording:
    """Readings of one device, ready to be published or windowed.

    Attributes:
        device: Device name.
        stream: Stream name.
        channels: Names of the columns.
        offsets_ms: Event times relative to the first reading, int64 `[n]`, strictly increasing.
        values: float32 `[n, c]`.
        windows: Indices of the windows from which the recording was rebuilt, in the order in which
            a windower closes them, int64 `[k]`; else empty.
        window_offsets_ms: Offset of each window's last reading, int64 `[k]`.
    """

    device: str
    stream: str
    channels: tuple[str, ...]
    offsets_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    windows: NDArray[np.int64]
    window_offsets_ms: NDArray[np.int64]

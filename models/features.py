"""Scaling, padding and slicing of readings: the same in training and on a gateway."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest import Scaler

__all__ = ["pad_front", "scale", "scaler_arrays", "slice_windows", "unscale"]


def scale(windows: NDArray[np.float32], scaler: Scaler) -> NDArray[np.float32]:
    """Scale raw readings channel by channel: x * scale + offset, all in float32.

    Args:
        windows: [..., channels] float32 in the units of the manifest.
        scaler: One factor and one offset per channel.

    Returns:
        A new array of the same shape. Overflow gives infinities, which the caller must refuse.
    """
    factor, offset = scaler_arrays(scaler)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(windows * factor + offset, dtype=np.float32)


def scaler_arrays(scaler: Scaler) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors and offsets of a scaler, float32 [channels] each.

    `models.session.Student` converts them once, when it is made, and scales as `scale` does.
    """
    return np.asarray(scaler.scale, np.float32), np.asarray(scaler.offset, np.float32)


def unscale(scaled: NDArray[np.float32], scaler: Scaler) -> NDArray[np.float32]:
    """Raw readings that scale to `scaled` (0 in channels whose factor is 0)."""
    factor = np.asarray(scaler.scale, dtype=np.float64)
    offset = np.asarray(scaler.offset, dtype=np.float64)
    divisor = np.where(factor == 0, 1, factor)
    raw = np.where(factor == 0, 0, (scaled - offset) / divisor)
    return np.asarray(raw, dtype=np.float32)


def pad_front(readings: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Pad a short window to `length` by repeating its first reading in front.

    >>> pad_front(np.array([[1.0], [2.0]], dtype=np.float32), 4).ravel().tolist()
    [1.0, 1.0, 1.0, 2.0]

    Raises:
        ValueError: There is no reading, or more than `length`.
    """
    if not 1 <= len(readings) <= length:
        msg = f"cannot pad {len(readings)} readings to {length}"
        raise ValueError(msg)
    missing = length - len(readings)
    return np.concatenate([np.repeat(readings[:1], missing, axis=0), readings])


def slice_windows(readings: NDArray[np.float32], length: int, hop: int) -> NDArray[np.float32]:
    """Cut one run of readings without gaps into full windows, oldest first.

    Args:
        readings: [n, channels] in event-time order.
        length: Readings per window.
        hop: Distance between the starts of two windows, in readings.

    Returns:
        [windows, length, channels] view (read-only); windows is 0 if n < length.

    >>> slice_windows(np.arange(5, dtype=np.float32)[:, None], 3, 2)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    if len(readings) < length:
        return np.empty((0, length, readings.shape[1]), dtype=readings.dtype)
    view: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(readings, length, axis=0)
    windows: NDArray[np.float32] = view[::hop].transpose(0, 2, 1)
    return windows

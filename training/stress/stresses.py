"""Stresses of windows `[batch, length, channels]` in raw units. Pure numpy.

Each function returns new windows; with an angle or a share of 0 they equal the given ones. Random
choices come from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "clipped",
    "dropped",
    "noisy",
    "padded_again",
    "shifted",
    "stuck",
    "tilted",
    "turned",
    "vertical_of",
]

_Windows = NDArray[np.float32]
Triples = Sequence[tuple[int, int, int]]
"""Places of the channels x, y and z of each vector."""


def turned(windows: _Windows, triples: Triples, angle_deg: float, seed: int = 0) -> _Windows:
    """Turn the vectors of each window about the vertical of the body, in a random sense.

    Args:
        windows: Windows, whose channels include an acceleration with gravity.
        triples: The vectors; other channels stay.
        angle_deg: Degrees.
        seed: Seed of the senses.
    """
    sense = np.where(np.random.default_rng(seed).random(len(windows)) < 0.5, -1.0, 1.0)
    axis = np.broadcast_to(vertical_of(windows, triples), (len(windows), 3))
    return _rotated(windows, triples, axis, np.radians(angle_deg) * sense)


def tilted(windows: _Windows, triples: Triples, angle_deg: float, seed: int = 0) -> _Windows:
    """Tilt the vectors of each window about a random level axis; arguments as in `turned`."""
    vertical = vertical_of(windows, triples)
    axis = np.random.default_rng(seed).normal(size=(len(windows), 3))
    axis -= (axis @ vertical)[:, None] * vertical
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return _rotated(windows, triples, axis, np.full(len(windows), np.radians(angle_deg)))


def vertical_of(windows: _Windows, triples: Triples) -> NDArray[np.float64]:
    """Unit vector of gravity for somebody upright, `[3]`: the longest median of a vector.

    The usual direction of gravity is that of somebody upright. A phone that is turned in its holder
    feels gravity elsewhere when its wearer lies down, so the gravity of one window would not do.
    """
    means = windows.mean(axis=1, dtype=np.float64)
    medians = np.stack([np.median(means[:, list(places)], axis=0) for places in triples])
    found = medians[np.linalg.norm(medians, axis=1).argmax()]
    vertical: NDArray[np.float64] = found / np.linalg.norm(found)
    return vertical


def noisy(windows: _Windows, widths: NDArray[np.float64], share: float, seed: int = 0) -> _Windows:
    """Add Gaussian noise of a share of each channel's width to every reading.

    Args:
        windows: Windows.
        widths: Width of each channel's range, `[channels]`.
        share: Standard deviation of the noise, as a share of the width.
        seed: Seed of the noise.
    """
    noise = np.random.default_rng(seed).standard_normal(windows.shape, dtype=np.float32)
    noise *= (share * widths).astype(np.float32)
    found: _Windows = windows + noise
    return found


def padded_again(windows: _Windows, before: _Windows) -> _Windows:
    """Pad stressed windows as a stream does, which pads readings that are already disturbed.

    Args:
        windows: Stressed windows.
        before: The same windows before, some padded in front by repeating their first reading.

    >>> before = np.array([[[1.0], [1.0], [1.0], [2.0]]], np.float32)
    >>> padded_again(np.array([[[7.0], [8.0], [9.0], [3.0]]], np.float32), before).ravel().tolist()
    [9.0, 9.0, 9.0, 3.0]
    """
    differs = (before != before[:, :1]).any(axis=2)
    first = np.maximum(differs.argmax(axis=1) - 1, 0)
    kept = np.maximum(np.arange(windows.shape[1])[None], first[:, None])
    found: _Windows = np.take_along_axis(windows, kept[:, :, None], axis=1)
    return found


def shifted(
    windows: _Windows, widths: NDArray[np.float64], share: float, places: Sequence[int]
) -> _Windows:
    """Add a share of its width to some channels, as a badly calibrated sensor does.

    >>> shifted(np.zeros((1, 2, 2), np.float32), np.array([4.0, 4.0]), 0.25, [1]).tolist()
    [[[0.0, 1.0], [0.0, 1.0]]]
    """
    found: _Windows = windows.copy()
    found[:, :, places] += (share * widths[list(places)]).astype(np.float32)
    return found


def stuck(windows: _Windows, share: float, places: Sequence[int]) -> _Windows:
    """Let some channels repeat one reading over the newest share of each window.

    It is the last reading before; with a share of 1, the first of the window.

    >>> rows = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    >>> stuck(rows, 0.5, [0]).ravel().tolist(), stuck(rows, 1.0, [0]).ravel().tolist()
    ([0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    """
    found: _Windows = windows.copy()
    start = _start(windows, share)
    found[:, start:, places] = windows[:, max(start - 1, 0), places][:, None]
    return found


def dropped(windows: _Windows, share: float, places: Sequence[int]) -> _Windows:
    """Let some channels be zero over the newest share of each window."""
    found: _Windows = windows.copy()
    found[:, _start(windows, share) :, places] = 0
    return found


def clipped(
    windows: _Windows, low: NDArray[np.float64], high: NDArray[np.float64], share: float
) -> _Windows:
    """Let each channel saturate: its range loses a share, half of it at either end.

    Readings of windows that are beyond the range already stay if the share is 0.

    Args:
        windows: Windows.
        low: Lower end of the range of each channel, `[channels]`.
        high: Upper end.
        share: Share of the range that is lost.
    """
    found: _Windows = windows.copy()
    if share == 0:
        return found
    cut = 0.5 * share * (high - low)
    ends = (low + cut).astype(np.float32), (high - cut).astype(np.float32)
    return np.clip(found, *ends, out=found)


def _start(windows: _Windows, share: float) -> int:
    """Place of the first reading of the newest share of a window."""
    length: int = windows.shape[1]
    return length - round(share * length)


def _rotated(
    windows: _Windows, triples: Triples, axis: NDArray[np.float64], angle: NDArray[np.float64]
) -> _Windows:
    """Rotate the vectors of each window about its axis (Rodrigues' formula)."""
    zero = np.zeros(len(axis))
    x, y, z = axis.T
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, cosine = (part[:, None, None] for part in (np.sin(angle), np.cos(angle)))
    turn = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    found: _Windows = windows.copy()
    for places in map(list, triples):
        found[:, :, places] = windows[:, :, places] @ turn.transpose(0, 2, 1)
    return found

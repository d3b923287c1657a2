"""Plain statistics of windows, beside the features of a student. Pure.

A student learns features that tell its own classes apart, and what distinguishes a class that it
has never seen may be lost in them. Ten statistics per channel keep it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PER_CHANNEL", "window_statistics"]

PER_CHANNEL = 10
"""Statistics per channel."""
_FIFTH = 5


def window_statistics(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute mean, deviation, lowest, highest, newest, newest fifth, slope, step, and two bands.

    They are those of the classical baselines (`training.students.statistics`).

    Args:
        windows: `[n, length, channels]` float32; a reading that is not finite counts as 0.

    Returns:
        `[n, 10 * channels]`, each statistic of all channels side by side.
    """
    windows = np.nan_to_num(windows, nan=0.0, posinf=0.0, neginf=0.0)
    length = windows.shape[1]
    centred = windows - windows.mean(axis=1, keepdims=True)
    amplitudes = np.abs(np.fft.rfft(centred, axis=1))
    split = max(2, amplitudes.shape[1] // 6)
    time = np.linspace(-1, 1, length, dtype=np.float32)
    steps = np.abs(np.diff(windows, axis=1)) if length > 1 else np.zeros_like(windows)
    slow = amplitudes[:, 1:split] if amplitudes.shape[1] > 1 else amplitudes
    fast = amplitudes[:, split:] if amplitudes.shape[1] > split else amplitudes[:, -1:]
    parts = [
        windows.mean(axis=1),
        windows.std(axis=1),
        windows.min(axis=1),
        windows.max(axis=1),
        windows[:, -1],
        windows[:, -max(1, length // _FIFTH) :].mean(axis=1),
        np.einsum("nlc,l->nc", windows, time) / np.float32((time**2).sum()),
        steps.mean(axis=1),
        np.log1p(slow.mean(axis=1)),
        np.log1p(fast.mean(axis=1)),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)

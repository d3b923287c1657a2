"""Statistics of a window that the prompt of TIME-LLM states: extremes, median, trend, lags.

Source: TIME-LLM (arXiv 2310.01728), section 3 and appendix, "prompt as prefix". All statistics are
those of one channel of one window after instance normalisation, so level and scale never reach the
prompt. Two routines find the lags: `top_lags` is ours; `official_lags` repeats the released code,
in which lag 0 always comes first and every lag ties with its mirror image. Pure NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EPSILON",
    "WindowStatistics",
    "measure_statistics",
    "normalise_windows",
    "official_lags",
    "round_statistics",
    "top_lags",
]

EPSILON = 1e-5
"""Added to the variance by the instance normalisation, as in the paper's code."""

_DIGITS = 9
"""Autocorrelations are compared after rounding to this many digits, so that equal ones stay equal
whatever order the Fourier transform adds in."""


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """Statistics of `n` normalised windows of one channel each.

    Attributes:
        minimum: Smallest value `[n]`.
        maximum: Largest value `[n]`.
        median: Median `[n]`.
        rises: Whether the last value is above the first `[n]`; the paper's sum of differences.
        lags: Most prominent lags `[n, count]` in readings, strongest first.
    """

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    median: NDArray[np.float64]
    rises: NDArray[np.bool_]
    lags: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.minimum)

    def at(self, index: NDArray[np.int64]) -> WindowStatistics:
        """Return the statistics of the windows `index`, in that order."""
        return WindowStatistics(
            self.minimum[index],
            self.maximum[index],
            self.median[index],
            self.rises[index],
            self.lags[index],
        )


def normalise_windows(windows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Subtract the mean of each window `[n, length]` and divide by its deviation.

    The deviation is sqrt(biased variance + `EPSILON`), so a constant window becomes zeros.
    """
    values = np.asarray(windows, dtype=np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + EPSILON)
    normalised: NDArray[np.float64] = centred / deviation
    return normalised


def measure_statistics(
    windows: NDArray[np.floating], count: int = 5, *, official: bool = False
) -> WindowStatistics:
    """Measure windows `[n, length]` of one channel each; they are normalised here.

    Args:
        windows: Readings in any unit.
        count: Number of lags.
        official: Find the lags as the released code does (`official_lags`).
    """
    values = normalise_windows(windows)
    find = official_lags if official else top_lags
    return WindowStatistics(
        minimum=values.min(axis=1),
        maximum=values.max(axis=1),
        median=np.median(values, axis=1),
        rises=values[:, -1] > values[:, 0],
        lags=find(values, count),
    )


def top_lags(windows: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the `count` strongest lags of normalised windows `[n, length]`, strongest first.

    The autocorrelation is linear (zero padding to twice the length), and lags run from 1 to half
    the length. Local maxima come first. Where a window has fewer than `count` of them, its other
    lags follow, strongest first, so the list always has `count` entries. Equal lags come in
    ascending order.

    Raises:
        ValueError: Half a window has fewer than `count` readings.

    >>> hours = np.arange(512)
    >>> top_lags(np.sin(2 * np.pi * hours / 24)[None], 3).tolist()
    [[24, 48, 72]]
    """
    length = windows.shape[1]
    longest = length // 2
    if not 1 <= count <= longest:
        msg = f"{count} lags of windows of {length} readings: expected 1 to {longest} lags"
        raise ValueError(msg)
    spectrum = np.fft.rfft(windows, n=2 * length, axis=1)
    products = np.fft.irfft(spectrum * spectrum.conj(), n=2 * length, axis=1)
    near = _rounded(products[:, : longest + 2])
    middle = near[:, 1:-1]
    is_peak = (middle > near[:, :-2]) & (middle > near[:, 2:])
    # lexsort: the last key is the first criterion, and equal entries keep their order.
    order = np.lexsort((-middle, ~is_peak), axis=1)
    return (order[:, :count] + 1).astype(np.int64)


def official_lags(windows: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the lags `[n, count]` that the released code prints, flaws included.

    The autocorrelation is circular, and lag 0 takes part: it always comes first, and lag t ties
    with lag length - t.

    >>> hours = np.arange(512)
    >>> official_lags(np.sin(2 * np.pi * hours / 24)[None], 5).tolist()
    [[0, 1, 511, 24, 488]]
    """
    length = windows.shape[1]
    spectrum = np.fft.rfft(windows, axis=1)
    products = _rounded(np.fft.irfft(spectrum * spectrum.conj(), n=length, axis=1))
    return np.argsort(-products, axis=1, kind="stable")[:, :count].astype(np.int64)


def round_statistics(
    statistics: WindowStatistics, step: float, lag_step: int, lags: int
) -> WindowStatistics:
    """Put statistics into buckets, so that many windows share one prompt.

    Args:
        statistics: Exact statistics.
        step: Extremes and median become multiples of it.
        lag_step: Lags become multiples of it, at least one step.
        lags: Number of lags that are kept.
    """
    first = statistics.lags[:, :lags]
    rounded = np.maximum(np.floor(first / lag_step + 0.5), 1).astype(np.int64) * lag_step
    return WindowStatistics(
        minimum=_to_step(statistics.minimum, step),
        maximum=_to_step(statistics.maximum, step),
        median=_to_step(statistics.median, step),
        rises=statistics.rises,
        lags=rounded,
    )


def _to_step(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    return np.floor(values / step + 0.5) * step + 0.0  # + 0.0: no negative zero


def _rounded(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round autocorrelations relative to that of lag 0, the largest one."""
    scale = np.maximum(products[:, :1], np.finfo(np.float64).tiny)
    rounded: NDArray[np.float64] = np.round(products / scale, _DIGITS)
    return rounded

"""What a manifest tells about the readings that a student learns from, made of them. Pure.

Training calls it with everything that a student learns from, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.features import slice_windows
from models.seen import (
    BINS,
    Histogram,
    Seen,
    VectorLength,
    count_bins,
    find_vectors,
    stability_index,
)

__all__ = ["describe_seen", "describe_series", "seen_range"]

_QUANTILES = (0.001, 0.5, 0.999)
_DIGITS = 6
_EDGE_DIGITS = 8  # an edge lies halfway between two readings, which have 7 digits
_MANY = 10
"""Groups that stand for a fleet when `Histogram.many` is measured."""
_PARTS = 3
"""Parts into which the time of a group is cut when `alone` and `many` are measured."""


def seen_range(readings: NDArray[np.float32]) -> Seen:
    """The 0.1 %, 50 % and 99.9 % quantiles of each channel, to six digits.

    >>> seen_range(np.arange(1001, dtype=np.float32)[:, None]).high
    (999.0,)

    Args:
        readings: [..., channels] finite float32 in raw units, at least one reading; windows that
            overlap are fine.
    """
    rows = readings.reshape(-1, readings.shape[-1])
    # One channel at a time: 140,000 windows of 70 readings and 17 channels are 700 MB already.
    found = [np.quantile(rows[:, channel], _QUANTILES) for channel in range(rows.shape[1])]
    low, middle, high = (_rounded(column) for column in np.stack(found, axis=1))
    return Seen(low=low, middle=middle, high=high)


def describe_seen(
    windows: NDArray[np.float32],
    groups: NDArray[np.int64],
    hop: int,
    channels: Sequence[str],
    ranges: Seen | None = None,
) -> Seen:
    """Everything that a manifest tells about the readings of training.

    A reading counts once in the histogram: with the window in which it is among the newest `hop`.

    Args:
        windows: [n, length, channels] finite float32 in raw units, in the order of time within each
            group, at least one.
        groups: [n] the engine, person or device of each window.
        hop: Distance of two windows, in readings.
        channels: Names of the channels.
        ranges: Range of the readings, if it is known already.
    """
    ranges = seen_range(windows) if ranges is None else ranges
    vectors = tuple(_length_of(windows, channels, places) for places in find_vectors(channels))
    return Seen(
        low=ranges.low,
        middle=ranges.middle,
        high=ranges.high,
        least_spread=tuple(map(_least_spread, np.moveaxis(windows, 2, 0))),
        lengths=vectors or None,
        histogram=_histogram(windows[:, -hop:], groups),
    )


def describe_series(
    series: Sequence[NDArray[np.float32]], length: int, hop: int, channels: Sequence[str]
) -> Seen:
    """What `describe_seen` tells, for whole series `[readings, channels]`, each a group."""
    windows = [slice_windows(rows, length, hop) for rows in series]
    groups = np.repeat(np.arange(len(windows)), [len(part) for part in windows])
    known = seen_range(np.concatenate(series))
    return describe_seen(np.concatenate(windows), groups, hop, channels, known)


def _rounded(numbers: Iterable[float], digits: int = _DIGITS) -> tuple[float, ...]:
    return tuple(float(f"{number:.{digits}g}") for number in numbers)


def _least_spread(windows: NDArray[np.float32]) -> float:
    """Rounded down, so that no training window is below it."""
    least = float((windows.max(axis=1) - windows.min(axis=1)).min())
    return float(f"{least * (1 - 1e-5):.{_DIGITS}g}")


def _length_of(
    windows: NDArray[np.float32], channels: Sequence[str], places: tuple[int, int, int]
) -> VectorLength:
    lengths = np.linalg.norm(windows[:, :, list(places)], axis=2).mean(axis=1)
    low, middle, high = _rounded(np.quantile(lengths, _QUANTILES))
    x, y, z = (channels[place] for place in places)
    return VectorLength(channels=(x, y, z), low=low, middle=middle, high=high)


def _histogram(newest: NDArray[np.float32], groups: NDArray[np.int64]) -> Histogram:
    edges = [_edges(newest[:, :, place].ravel()) for place in range(newest.shape[2])]
    thirds = [np.array_split(np.flatnonzero(groups == one), _PARTS) for one in np.unique(groups)]
    alone = [part for parts in thirds for part in parts if len(part)]
    many = [
        np.concatenate([parts[third] for parts in thirds[at : at + _MANY]])
        for at in range(0, max(1, len(thirds) - _MANY + 1), _MANY)
        for third in range(_PARTS)
    ]
    shares, limits = [], []
    for place, between in enumerate(edges):
        readings = newest[:, :, place]
        counts = count_bins(readings, between)
        share = counts / counts.sum()
        shares.append(_rounded(share))
        limits.append(
            [
                max(stability_index(count_bins(readings[part], between), share) for part in parts)
                for parts in (alone, [part for part in many if len(part)])
            ]
        )
    limit = np.array(limits)
    of_one, of_many = _rounded(limit.max(axis=1)), _rounded(limit[:, 1])
    return Histogram(edges=tuple(edges), shares=tuple(shares), alone=of_one, many=of_many)


def _edges(readings: NDArray[np.float32]) -> tuple[float, ...]:
    """Edges of bins with about equally many readings, each halfway between two readings.

    So a reading of a sensor with coarse steps never lies on an edge.
    """
    values = np.unique(readings)
    wanted = np.quantile(readings, np.arange(1, BINS) / BINS, method="lower")
    below = np.unique(np.searchsorted(values, wanted))
    below = below[below + 1 < len(values)]
    halfway = (values[below].astype(np.float64) + values[below + 1]) / 2
    return tuple(dict.fromkeys(_rounded(halfway, _EDGE_DIGITS)))

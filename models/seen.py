"""What a student has learned from: range, shape and movement of each channel in training. Pure.

Training writes a `Seen` into the manifest (`models.describe`). A gateway compares readings with it:
`pipeline.scoring.quality` for each window, `pipeline.drift` for a whole stream. A score itself
never depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.fields import Float32, Frozen, Growing, Name

__all__ = [
    "BINS",
    "Histogram",
    "Seen",
    "VectorLength",
    "count_bins",
    "find_vectors",
    "stability_index",
    "stability_indices",
]

BINS = 20
"""Most bins of a histogram."""
_AXES = ("x", "y", "z")

Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class Histogram(Frozen):
    """The shape of each channel in training: bins with about equally many readings.

    A reading belongs to bin i if `edges[i - 1] <= reading < edges[i]`; the first and the last bin
    are open. A channel with few different values has fewer than `BINS` bins.

    Attributes:
        edges: Edges between the bins of each channel, ascending.
        shares: Share of the training readings in each bin; one more than edges.
        alone: Largest stability index of any third of the time of one training group (an engine, a
            person) against all of training, by channel; at least `many`.
        many: The same of ten groups at once; of all, if there are fewer.
    """

    edges: Annotated[tuple[tuple[Float32, ...], ...], Field(min_length=1)]
    shares: tuple[tuple[Share, ...], ...]
    alone: tuple[Float32, ...]
    many: tuple[Float32, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Histogram:
        counts = [len(part) for part in (self.edges, self.shares, self.alone, self.many)]
        if len(set(counts)) != 1:
            msg = "edges, shares, alone and many of {}, {}, {} and {} channels".format(*counts)
            raise ValueError(msg)
        for place, (edges, shares) in enumerate(zip(self.edges, self.shares, strict=True)):
            if len(shares) != len(edges) + 1 or len(shares) > BINS:
                msg = f"channel {place} has {len(edges)} edges and {len(shares)} shares"
                raise ValueError(msg)
            if any(left >= right for left, right in pairwise(edges)):
                msg = f"the edges of channel {place} must be in ascending order"
                raise ValueError(msg)
            if abs(sum(shares) - 1) > 1e-3:
                msg = f"the shares of channel {place} add up to {sum(shares):g}, not to 1"
                raise ValueError(msg)
        return self


class VectorLength(Frozen):
    """The length of a vector of three axes, such as an acceleration: its mean over a window.

    `low`, `middle` and `high` are the 0.1 %, 50 % and 99.9 % quantiles over training windows. It
    tells a wrong unit where each axis alone does not: gravity has one length however a device lies.
    """

    channels: tuple[Name, Name, Name]
    low: Float32
    middle: Float32
    high: Float32


class Seen(Growing):
    """The readings that a student has learned from, per channel and in raw units.

    `low`, `middle` and `high` are the 0.1 %, 50 % and 99.9 % quantiles over all readings of the
    training windows. People compare readings with the range, and `models.explain` takes the middle
    for what is usual. The other fields were added later and may be missing.

    Attributes:
        low: 0.1 % quantile of each channel.
        middle: Median.
        high: 99.9 % quantile.
        least_spread: Smallest difference between the highest and the lowest reading in one window.
        lengths: Lengths of the vectors among the channels.
        histogram: Shape of each channel.
    """

    low: Annotated[tuple[Float32, ...], Field(min_length=1)]
    middle: Annotated[tuple[Float32, ...], Field(min_length=1)]
    high: Annotated[tuple[Float32, ...], Field(min_length=1)]
    least_spread: tuple[Float32, ...] | None = None
    lengths: tuple[VectorLength, ...] | None = None
    histogram: Histogram | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Seen:
        if not len(self.low) == len(self.middle) == len(self.high):
            msg = f"{len(self.low)} low, {len(self.middle)} middle and {len(self.high)} high"
            raise ValueError(msg)
        for place, (low, middle, high) in enumerate(
            zip(self.low, self.middle, self.high, strict=True)
        ):
            if not low <= middle <= high:
                msg = f"channel {place} has low {low}, middle {middle}, high {high}: sort them"
                raise ValueError(msg)
        counts = {} if self.least_spread is None else {"least_spread": len(self.least_spread)}
        if self.histogram is not None:
            counts["histogram"] = len(self.histogram.edges)
        for name, count in counts.items():
            if count != len(self.low):
                msg = f"{name} has {count} channels, low has {len(self.low)}"
                raise ValueError(msg)
        return self


def find_vectors(channels: Sequence[str]) -> list[tuple[int, int, int]]:
    """Places of channels whose names differ in a last `x`, `y`, `z` only.

    >>> find_vectors(["t", "acc_x", "acc_y", "acc_z", "gyro_x"])
    [(1, 2, 3)]
    """
    places = {name: place for place, name in enumerate(channels)}
    found = []
    for name in channels:
        axes = [places.get(name[:-1] + axis) for axis in _AXES]
        if name.endswith(_AXES[0]) and None not in axes:
            found.append(tuple(axes))
    return found  # type: ignore[return-value]  # None was excluded


def count_bins(readings: NDArray[np.float32], edges: Iterable[float]) -> NDArray[np.int64]:
    """How many readings of one channel lie in each bin of a `Histogram`.

    >>> count_bins(np.array([1, 2, 3], np.float32), [2.0]).tolist()
    [1, 2]
    """
    between = np.asarray(tuple(edges), dtype=np.float32)
    return np.bincount(
        np.searchsorted(between, readings.ravel(), side="right"), minlength=len(between) + 1
    )


def stability_index(counts: NDArray[np.int64], shares: Sequence[float]) -> float:
    """The population stability index of counted readings against the shares of training.

    It is the sum of (p - q) ln(p / q) over the bins: 0 for the same shares. Half a reading is added
    to each bin, so that an empty bin counts without being infinitely odd.

    >>> round(stability_index(np.array([500, 500]), [0.5, 0.5]), 3)
    0.0
    """
    return float(stability_indices(counts[None], [shares])[0])


def stability_indices(
    counts: NDArray[np.int64], shares: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """The `stability_index` of each channel, `[channels]`.

    Args:
        counts: Readings of each channel in each bin, `[channels, bins]`; 0 in bins that a channel
            does not have.
        shares: Shares of training, by channel; a channel may have fewer than `bins`.
    """
    wanted = np.array(list(zip_longest(*shares, fillvalue=np.nan)), dtype=np.float64)
    bins = np.array([len(each) for each in shares])
    # A bin of training is never empty, but a share may be rounded to 0.
    wanted = np.maximum(wanted, 1e-6)
    counted = counts.T[: len(wanted)]
    found = (counted + 0.5) / (counted.sum(axis=0) + 0.5 * bins)
    indices: NDArray[np.float64] = np.nansum((found - wanted) * np.log(found / wanted), axis=0)
    return indices

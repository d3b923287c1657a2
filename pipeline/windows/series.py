"""Series of times as bytes: the first value, the smallest step, and the excess of each step.

The excesses have the smallest unsigned width that holds them, so a regular series takes 18 bytes
whatever its length.
"""

from __future__ import annotations

import itertools
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Series", "cut_bytes", "decode_series", "encode_series"]

_SERIES = struct.Struct("<qqH")
_SERIES_COLUMNS = np.dtype([("first", "<i8"), ("lowest", "<i8"), ("width", "<u2")])
_WIDTHS = (0, 1, 2, 4, 8)
_LIMITS = np.array([1, 1 << 8, 1 << 16, 1 << 32])
"""First excess for which the next width is needed."""
_EMPTY = memoryview(b"")


class Series(NamedTuple):
    """`k` series of int64, one after the other.

    Attributes:
        first: First value of each, `[k]`; anything for an empty one.
        steps: Difference of each value to the one before it, `[n]`; anything for the first ones.
        counts: Number of values of each, `[k]`.
    """

    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.int64], counts: NDArray[np.int64]) -> Series:
        """Series with these values, `[n]`."""
        at = np.minimum(counts.cumsum() - counts, max(len(values) - 1, 0))
        first = values[at] if len(values) else np.zeros(len(counts), dtype=np.int64)
        return cls(first, np.diff(values, prepend=0), counts)


def encode_series(series: Series) -> tuple[list[memoryview], list[memoryview]]:
    """Encode int64 values with |step| < 2**63 as first value and smallest step, and as excesses."""
    counts = series.counts
    ends = counts.cumsum()
    filled = np.flatnonzero(counts)
    first = (ends - counts)[filled]
    heads = np.zeros(len(filled), dtype=_SERIES_COLUMNS)
    heads["first"] = series.first[filled]
    steps = series.steps
    is_single = counts[filled] == 1
    steps[first] = np.where(is_single, 0, steps[first + ~is_single])  # none leads to the first
    lowest = np.minimum.reduceat(steps, first) if len(first) else first
    highest = np.maximum.reduceat(steps, first) if len(first) else first
    width = np.array(_WIDTHS)[np.searchsorted(_LIMITS, highest - lowest, side="right")]
    heads["lowest"], heads["width"] = lowest, width
    above = steps - np.repeat(lowest, counts[filled])
    packed = {w: above.astype(f"<u{w}").data.cast("B") for w in set(width.tolist()) if w}
    excesses = [_EMPTY] * len(counts)
    for i, w, start, stop in zip(
        filled.tolist(), width.tolist(), first.tolist(), ends[filled].tolist(), strict=True
    ):
        if w:
            excesses[i] = packed[w][(start + 1) * w : stop * w]
    return cut_bytes(heads, (counts > 0).cumsum()), excesses


def cut_bytes(array: NDArray[Any], ends: NDArray[np.int64]) -> list[memoryview]:
    """The bytes of elements `[0, ends[0])`, `[ends[0], ends[1])` and so on."""
    data = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
    size = array.itemsize * (array.size // len(array)) if len(array) else 0
    at = [0, *(ends * size).tolist()]
    return [data[start:stop] for start, stop in itertools.pairwise(at)]


def decode_series(body: bytes, at: int, length: int) -> tuple[NDArray[np.int64], int]:
    """Decode the series of `length` at `at`; returns it and the start of the next one.

    Raises:
        ValueError: The body is too short.
    """
    if length == 0:
        return np.empty(0, dtype=np.int64), at
    first, lowest, width = _SERIES.unpack_from(body, at)
    at += _SERIES.size
    series = np.empty(length, dtype=np.int64)
    series[0] = first
    series[1:] = lowest
    if width:
        above = np.frombuffer(body, dtype=f"<u{width}", count=length - 1, offset=at)
        series[1:] += above.astype(np.int64)
        at += above.nbytes
    return series.cumsum(), at

"""What both stages share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from pipeline.status.counters import LatencySummary

__all__ = ["Latency"]

_PER_OCTAVE = 16  # 2 ** (1/16): a percentile is off by at most 4.5 %
_LOWEST_MS = 0.01
_BUCKETS = 36 * _PER_OCTAVE  # up to 0.01 ms * 2**36, about eight days


class Latency:
    """Histogram of the recent past with bounded memory: logarithmic buckets in a ring of slots.

    One thread records, any thread may read: a reader sees each count before or after an addition,
    never a torn one. Values older than `horizon_ms` fall out slot by slot.
    """

    def __init__(self, horizon_ms: int = 60_000, slots: int = 6) -> None:
        self._slot_ms = max(1, horizon_ms // slots)
        self._slots: deque[tuple[int, list[int], list[float]]] = deque(maxlen=slots)

    def record(self, value_ms: float, now_ms: int, count: int = 1) -> None:
        """Add `count` values of `value_ms` (negative ones count as 0: clocks differ)."""
        number = now_ms // self._slot_ms
        if not self._slots or self._slots[-1][0] < number:
            self._slots.append((number, [0] * _BUCKETS, [0.0]))
        _, counts, top = self._slots[-1]
        value = max(value_ms, 0.0)
        counts[_bucket(value)] += count
        if value > top[0]:
            top[0] = value

    def summary(self, now_ms: int) -> LatencySummary:
        """Percentiles of the values recorded within the horizon that ends at `now_ms`."""
        oldest = now_ms // self._slot_ms - (self._slots.maxlen or 1) + 1
        recent = [slot for slot in list(self._slots) if slot[0] >= oldest]
        merged = [sum(column) for column in zip(*(slot[1] for slot in recent), strict=True)]
        count = sum(merged)
        if count == 0:
            return LatencySummary()
        top = max(slot[2][0] for slot in recent)
        return LatencySummary(
            count=count,
            p50_ms=min(_percentile(merged, count, 0.50), top),
            p99_ms=min(_percentile(merged, count, 0.99), top),
            max_ms=top,
        )


def _bucket(value_ms: float) -> int:
    if value_ms <= _LOWEST_MS:
        return 0
    return min(_BUCKETS - 1, math.ceil(math.log2(value_ms / _LOWEST_MS) * _PER_OCTAVE))


def _percentile(counts: Sequence[int], total: int, share: float) -> float:
    rank = max(1, math.ceil(total * share))
    below = 0
    for bucket, count in enumerate(counts):
        below += count
        if below >= rank:
            return float(_LOWEST_MS * 2 ** (bucket / _PER_OCTAVE))
    return float(_LOWEST_MS * 2 ** (_BUCKETS / _PER_OCTAVE))

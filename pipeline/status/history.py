"""The recent past of a process, for the charts of the console."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.status.counters import Totals
from pipeline.status.progress import PartitionProgress

__all__ = ["History", "Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters and percentiles at one time; rates are differences of two samples.

    All counters begin at 0 with the process: one that survives a restart would jump when its state
    has been read, and the chart would show a rate that nobody saw.
    """

    now_ms: int
    taken: int
    scored: int
    stored: int
    backlog: int
    p50_ms: float | None
    p99_ms: float | None


class History:
    """The last samples, bounded, for the charts of the page."""

    def __init__(self, samples: int = 300) -> None:
        self._samples: deque[Sample] = deque(maxlen=samples)

    def observe(self, totals: Totals, partitions: Iterable[PartitionProgress], now_ms: int) -> None:
        """Add one sample, unless it is of the same time as the last one.

        Samples of a time that is still to come, because the clock was set back, are dropped.
        """
        while self._samples and self._samples[-1].now_ms > now_ms:
            self._samples.pop()
        if self._samples and self._samples[-1].now_ms == now_ms:
            return
        self._samples.append(
            Sample(
                now_ms=now_ms,
                taken=totals.taken,
                scored=totals.scored,
                stored=totals.stored,
                backlog=sum(p.backlog for p in partitions),
                p50_ms=totals.sensor_to_score.p50_ms,
                p99_ms=totals.sensor_to_score.p99_ms,
            )
        )

    def samples(self) -> list[dict[str, Any]]:
        """Oldest first, as JSON-able dicts."""
        return [asdict(sample) for sample in list(self._samples)]

"""The samples for the charts."""

from __future__ import annotations

from pipeline.status.counters import Totals
from pipeline.status.history import History
from pipeline.status.progress import (
    PartitionProgress,
)

BEHIND = PartitionProgress("score", "readings", 0, 10, 8, 4, last_advance_ms=1_000)


def test_history_is_bounded_and_ignores_a_clock_that_goes_back() -> None:
    history = History(samples=3)
    for now_ms in (1, 2, 2, 1, 3, 4):
        history.observe(Totals(received=now_ms), [BEHIND], now_ms)
    assert [s["received"] for s in history.samples()] == [2, 3, 4]
    assert history.samples()[0]["backlog"] == 6

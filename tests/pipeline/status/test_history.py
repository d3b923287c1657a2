"""The samples for the charts."""

from __future__ import annotations

from pipeline.status.counters import Totals
from pipeline.status.history import History
from pipeline.status.progress import (
    PartitionProgress,
)

BEHIND = PartitionProgress("score", "readings", 0, 10, 8, 4, last_advance_ms=1_000)


def test_history_is_bounded_and_has_each_time_once() -> None:
    history = History(samples=3)
    for now_ms in (1, 2, 2, 3, 4):
        history.observe(Totals(taken=now_ms), [BEHIND], now_ms)
    assert [s["taken"] for s in history.samples()] == [2, 3, 4]
    assert history.samples()[0]["backlog"] == 6


def test_a_clock_that_was_set_back_does_not_freeze_the_charts() -> None:
    history = History()
    for received, now_ms in enumerate((1_000, 121_000, 1_000, 3_000)):
        history.observe(Totals(taken=received), [BEHIND], now_ms)
    assert [(s["now_ms"], s["taken"]) for s in history.samples()] == [(1_000, 0), (3_000, 3)]


def test_state_that_is_read_after_a_restart_is_no_rate():
    """The sums over devices jump from 0 to what they were; what was taken does not."""
    history = History()
    history.observe(Totals(), [], 1000)
    history.observe(Totals(received=13_153, windowed=13_153), [], 2000)
    first, second = history.samples()
    counters = ("taken", "scored", "stored")
    assert [first[name] for name in counters] == [second[name] for name in counters] == [0, 0, 0]
    assert "received" not in second

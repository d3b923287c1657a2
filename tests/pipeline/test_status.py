"""The account, readiness and latency, with an injected clock."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.status import (
    STALL_MS,
    DeviceAccount,
    History,
    Latency,
    LatencySummary,
    PartitionProgress,
    ProgressTracker,
    Totals,
    health_report,
    stalled_partitions,
    sum_accounts,
)

BEHIND = PartitionProgress("score", "readings", 0, 10, 8, 4, last_advance_ms=1_000)


def test_an_account_balances_when_each_reading_is_in_one_term() -> None:
    account = DeviceAccount("s", "d", "x", 10, windowed=6, duplicate=1, late=2, dead_lettered=1)
    assert account.balanced
    assert replace(account, late=1).missing == 1


def test_totals_are_the_sums_of_the_accounts() -> None:
    one = DeviceAccount("s", "d", "x", 10, windowed=6, duplicate=1, late=2, dead_lettered=1)
    totals = sum_accounts([one, replace(one, device="e", received=11, gaps=3)])
    assert (totals.received, totals.gaps, totals.missing) == (21, 3, 1)


def test_a_partition_with_backlog_that_stands_still_makes_the_gateway_not_ready() -> None:
    report = health_report(
        now_ms=1_000 + STALL_MS, partitions=[BEHIND], bridge_connected=True, parts={"log": "ok"}
    )
    assert report.alive
    assert not report.ready
    assert report.problems == (
        "score has not advanced in readings[0] for 30 s with 6 records waiting",
    )


@pytest.mark.parametrize(
    "progress", [replace(BEHIND, position=10, committed=10), replace(BEHIND, last_advance_ms=1_001)]
)
def test_no_backlog_or_a_recent_advance_is_ready(progress: PartitionProgress) -> None:
    assert not stalled_partitions([progress], 1_000 + STALL_MS)


def test_bridge_writer_and_models_decide_readiness_too() -> None:
    report = health_report(
        now_ms=0,
        partitions=[],
        bridge_connected=False,
        writer_error="disk I/O error",
        tasks_without_model=["rul"],
    )
    assert not report.alive
    assert len(report.problems) == 3


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"bridge_running": False}, "bridge task has ended"),
        ({"bridge_running": False, "bridge_connected": False}, "bridge task has ended"),
        ({"bridge_connected": False}, "is the broker running"),
        ({"bridge_connected": False, "bridge_error": "not authorised"}, "not authorised"),
        ({"log_failing_since_ms": 20_000}, "the log does not confirm since 80 s"),
        ({"log_failing_since_ms": 100_900}, "the log does not confirm since 0 s"),
        ({"log_fill": 0.71}, "log is 71 % full: "),
        ({"state_problems": ["results.db is gone"]}, "results.db is gone"),
    ],
)
def test_each_thing_that_is_wrong_is_one_problem_and_the_process_still_lives(
    wrong: dict[str, Any], problem: str
) -> None:
    working: dict[str, Any] = {"now_ms": 100_000, "partitions": [], "bridge_connected": True}
    report = health_report(**working | wrong)
    assert report.alive
    assert not report.ready
    (told,) = report.problems
    assert problem in told


def test_a_log_with_room_and_an_old_error_of_a_connected_bridge_are_no_problem() -> None:
    report = health_report(
        now_ms=0, partitions=[], bridge_connected=True, bridge_error="was refused", log_fill=0.7
    )
    assert report.ready


def test_an_idle_partition_starts_its_clock_when_records_arrive() -> None:
    tracker = ProgressTracker()

    def look(end: int, position: int, committed: int | None, now_ms: int) -> int:
        return tracker.observe(
            "a", "t", 0, end_offset=end, position=position, committed=committed, now_ms=now_ms
        ).last_advance_ms

    assert look(5, 5, 5, 1_000) == 1_000
    assert look(5, 5, 5, 900_000) == 900_000  # idle for long
    assert look(6, 5, 5, 901_000) == 901_000  # backlog begins now
    assert look(9, 5, 5, 902_000) == 901_000
    assert look(9, 6, 5, 903_000) == 903_000  # read on
    assert look(9, 6, 6, 904_000) == 904_000  # committed on
    assert tracker.current()[0].backlog == 3


@given(st.lists(st.floats(0.02, 1e6), min_size=1, max_size=200))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(values: list[float]) -> None:
    latency = Latency()
    for value in values:
        latency.record(value, now_ms=0)
    summary = latency.summary(now_ms=0)
    for share, got in ((0.5, summary.p50_ms), (0.99, summary.p99_ms)):
        exact = sorted(values)[max(1, math.ceil(len(values) * share)) - 1]
        assert got is not None
        assert exact * 0.999 <= got <= exact * 1.045
    assert summary.max_ms == max(values)


def test_old_latencies_fall_out_of_the_horizon() -> None:
    latency = Latency(horizon_ms=60_000)
    latency.record(1_000.0, now_ms=0)
    latency.record(-5.0, now_ms=59_000, count=3)
    assert latency.summary(59_000).count == 4
    assert latency.summary(61_000).max_ms == 0.0
    assert latency.summary(200_000) == LatencySummary()


def test_history_is_bounded_and_ignores_a_clock_that_goes_back() -> None:
    history = History(samples=3)
    for now_ms in (1, 2, 2, 1, 3, 4):
        history.observe(Totals(received=now_ms), [BEHIND], now_ms)
    assert [s["received"] for s in history.samples()] == [2, 3, 4]
    assert history.samples()[0]["backlog"] == 6

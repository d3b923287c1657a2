"""Stalled partitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.status.progress import (
    STALL_MS,
    PartitionProgress,
    ProgressTracker,
    stalled_partitions,
)

BEHIND = PartitionProgress("score", "readings", 0, 10, 8, 4, 1_000, still_ms=STALL_MS)


@pytest.mark.parametrize(
    "progress",
    [replace(BEHIND, position=10, committed=10), replace(BEHIND, still_ms=STALL_MS - 1)],
)
def test_no_backlog_or_a_recent_advance_is_ready(progress: PartitionProgress) -> None:
    assert not stalled_partitions([progress])


def test_an_idle_partition_starts_its_clock_when_records_arrive() -> None:
    tracker = ProgressTracker()

    def look(end: int, position: int, committed: int | None, now_ms: int) -> int:
        return tracker.observe(
            "a",
            "t",
            0,
            end_offset=end,
            position=position,
            committed=committed,
            now_ms=now_ms,
            steady_ms=now_ms,
        ).last_advance_ms

    assert look(5, 5, 5, 1_000) == 1_000
    assert look(5, 5, 5, 900_000) == 900_000  # idle for long
    assert look(6, 5, 5, 901_000) == 901_000  # backlog begins now
    assert look(9, 5, 5, 902_000) == 901_000
    assert look(9, 6, 5, 903_000) == 903_000  # read on
    assert look(9, 6, 6, 904_000) == 904_000  # committed on
    assert tracker.current()[0].backlog == 3


@pytest.mark.parametrize("step_ms", [40 * 86_400_000, -120_000])
def test_a_step_of_the_clock_neither_stalls_nor_excuses_a_partition(step_ms: int) -> None:
    tracker = ProgressTracker()

    def look(now_ms: int, steady_ms: int) -> PartitionProgress:
        return tracker.observe(
            "a",
            "t",
            0,
            end_offset=9,
            position=5,
            committed=5,
            now_ms=now_ms,
            steady_ms=steady_ms,
        )

    assert look(1_000_000_000, 0).still_ms == 0
    assert look(1_000_001_000 + step_ms, 1_000).still_ms == 1_000
    assert stalled_partitions(tracker.current()) == []
    look(1_000_030_000 + step_ms, 30_000)
    assert stalled_partitions(tracker.current()) == tracker.current()

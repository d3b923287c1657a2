"""Problems that make a process not ready."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.status.health import health_report
from pipeline.status.progress import (
    STALL_MS,
    PartitionProgress,
)

BEHIND = PartitionProgress("score", "readings", 0, 10, 8, 4, 1_000, still_ms=STALL_MS)


def test_a_stalled_partition_with_a_backlog_makes_the_gateway_not_ready() -> None:
    report = health_report(partitions=[BEHIND], bridge_connected=True, parts={"log": "ok"})
    assert report.alive
    assert not report.ready
    assert report.problems == (
        "score has not advanced in readings[0] for 30 s with 6 records waiting",
    )


def test_bridge_writer_and_models_decide_readiness_too() -> None:
    report = health_report(
        partitions=[],
        bridge_connected=False,
        writer_error="disk I/O error",
        models_without_student=["rul"],
    )
    assert not report.alive
    assert len(report.problems) == 3


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"bridge_running": False}, "bridge task has ended"),
        ({"bridge_running": False, "bridge_connected": False}, "bridge task has ended"),
        ({"bridge_connected": False}, "not connected to the MQTT broker"),
        (
            {"is_starting": True, "bridge_running": False, "bridge_connected": False},
            "the gateway is starting",
        ),
        ({"bridge_connected": False, "bridge_error": "not authorised"}, "not authorised"),
        ({"log_failing_s": 80}, "the log has confirmed nothing for 80 s"),
        ({"log_failing_s": 0}, "the log has confirmed nothing for 0 s"),
        ({"clock_problem": "this machine's clock is wrong"}, "this machine's clock is wrong"),
        ({"log_fill": 0.71}, "log is 71 % full: "),
        ({"state_problems": ["results.db is gone"]}, "results.db is gone"),
    ],
)
def test_each_thing_that_is_wrong_is_one_problem_and_the_process_still_lives(
    wrong: dict[str, Any], problem: str
) -> None:
    working: dict[str, Any] = {"partitions": [], "bridge_connected": True}
    report = health_report(**working | wrong)
    assert report.alive
    assert not report.ready
    (reported,) = report.problems
    assert problem in reported


def test_a_log_with_room_and_an_old_error_of_a_connected_bridge_are_no_problem() -> None:
    report = health_report(
        partitions=[], bridge_connected=True, bridge_error="was refused", log_fill=0.7
    )
    assert report.ready

"""Whether a process is alive and ready, with the reasons if not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.status.progress import STALL_MS, PartitionProgress, stalled_partitions

__all__ = ["LOG_FILL", "HealthReport", "health_report"]

LOG_FILL = 0.7
"""Share of its disk cap above which the log makes the gateway not ready."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Health of a process.

    Attributes:
        alive: Whether the process works at all.
        ready: Whether it can do its work now.
        problems: Reasons why it is not ready.
        parts: Part (bridge, log, models, results, ...) to a JSON-able value, usually one line.
        notices: What an operator should know although it is ready, such as messages that the broker
            has lost.
    """

    alive: bool
    ready: bool
    problems: tuple[str, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def health_report(
    *,
    partitions: Iterable[PartitionProgress],
    is_starting: bool = False,
    bridge_connected: bool,
    bridge_running: bool = True,
    bridge_error: str | None = None,
    bridge_notices: Sequence[str] = (),
    clock_problem: str | None = None,
    writer_error: str | None = None,
    log_failing_s: int | None = None,
    log_fill: float | None = None,
    state_problems: Sequence[str] = (),
    models_without_student: Sequence[str] = (),
    stall_ms: int = STALL_MS,
    parts: Mapping[str, Any] | None = None,
) -> HealthReport:
    """Decide whether a gateway is alive and ready.

    Not ready while any problem is listed. Not alive only when the log writer failed, because then
    only a restart helps.

    Args:
        partitions: Progress of all groups; stalled partitions with a backlog are problems.
        is_starting: Whether the bridge has not begun yet, because the agents come first.
        bridge_connected: Whether the bridge is connected to a broker.
        bridge_running: Whether the bridge's task still runs.
        bridge_error: Reason why the log does not confirm, or else why the bridge is not connected;
            None if unknown.
        bridge_notices: What limits the delivery promise without making the gateway unready.
        clock_problem: Why messages wait for this machine's clock; None while it agrees with the
            devices.
        writer_error: Reason why the log writer stopped; it does not recover.
        log_failing_s: Seconds without a confirmed append, because the disk is full or fails; None
            while the log works.
        log_fill: Share of the log's disk cap in use, 0 to 1; a problem above `LOG_FILL`.
        state_problems: Problems of the state files, one line each.
        models_without_student: Models whose stream no student scores.
        stall_ms: Milliseconds without progress after which a partition counts as stalled.
        parts: See `HealthReport`.
    """
    problems = []
    if writer_error is not None:
        problems.append(f"log writer failed: {writer_error}; restart the gateway")
    if clock_problem is not None:
        problems.append(clock_problem)
    if log_failing_s is not None:
        why = bridge_error or "check its disk"
        problems.append(f"the log has confirmed nothing for {log_failing_s} s; {why}")
    if log_fill is not None and log_fill > LOG_FILL:
        problems.append(
            f"log is {100 * log_fill:.0f} % full: at 100 % readings wait in the broker; see which "
            "group is behind, or raise KPSTREAM_GATEWAY_LOG_MAX_MB"
        )
    problems.extend(state_problems)
    if is_starting:
        problems.append(
            "the gateway is starting: it connects to the broker once its agents run, and readings "
            "wait in the broker until then"
        )
    elif not bridge_running:
        problems.append("bridge task has ended: no reading is taken; restart the gateway")
    elif not bridge_connected:
        problems.append(bridge_error or "bridge is not connected to the MQTT broker")
    problems.extend(
        f"no student runs for model {name}; publish a version to the registry"
        for name in models_without_student
    )
    stalled = stalled_partitions(partitions, stall_ms)
    problems.extend(progress.describe_stall() for progress in stalled)
    return HealthReport(
        alive=writer_error is None,
        ready=not problems,
        problems=tuple(problems),
        parts=dict(parts or {}),
        notices=tuple(bridge_notices),
    )

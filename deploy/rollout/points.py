"""Reports of gateways as points: the state of each student, and marks of what happened to it. Pure.

The gateway writes them for its own InfluxDB, the centre for its own. A mark is made from the report
alone, at the time that the report names, so both write the same point.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.rollout.controller import Move
from deploy.rollout.release import Release
from deploy.rollout.report import GatewayReport, StudentReport
from pipeline.points.measurements import RELEASE, ROLLOUT_STATE
from pipeline.points.points import FieldValue, Point, rollout_point

__all__ = ["release_point", "report_points"]


def report_points(report: GatewayReport, time_s: int) -> list[Point]:
    """The points of a report.

    Args:
        report: The report.
        time_s: Time of the states, epoch seconds; marks have the time of their event.
    """
    return [*_states(report, time_s), *_marks(report)]


def release_point(release: Release, move: Move, gateways: int, time_s: int) -> Point:
    """How far a release has come.

    Args:
        release: The release.
        move: The decision about it, with the standing of its members.
        gateways: Number of gateways that the centre knows.
        time_s: Time of the decision, epoch seconds.
    """
    step = release.plan.steps[release.step]
    fields: dict[str, FieldValue] = {
        "number": release.number,
        "version": release.version,
        "state": release.state,
        "reason": _one_line(release.reason or move.reason),
        "step": release.step + 1,
        "steps": len(release.plan.steps),
        "percent": step.percent,
        "step_since_ms": release.step_since_s * 1000,
        "gateways": gateways,
        "members": len(move.members),
        "healthy": move.count("healthy"),
        "waiting": move.count("waiting"),
        "failed": move.count("failed"),
        "held": move.count("held"),
        "silent": move.count("silent"),
    }
    tags = (("model", release.name),)
    return Point(RELEASE.name, tags, tuple(fields.items()), time_s * 1_000_000_000)


def _states(report: GatewayReport, time_s: int) -> Iterator[Point]:
    for student in report.students:
        tags = (("gateway", report.gateway), ("model", student.name))
        measured = student.evidence.model_dump(exclude_none=True)
        fields: dict[str, FieldValue] = {
            "group": report.group,
            "release": student.release,
            "phase": student.phase,
            "version": student.version or 0,
            "candidate": student.candidate or 0,
            "since_ms": student.since_s * 1000,
            **measured,
            "reason": _one_line(student.reason),
            "fetch": report.fetch,
            "software": _one_line(report.software),
            "disk_free_mb": report.disk_free_mb,
        }
        yield Point(ROLLOUT_STATE.name, tags, tuple(fields.items()), time_s * 1_000_000_000)


def _marks(report: GatewayReport) -> Iterator[Point]:
    for student in report.students:
        version = student.candidate or student.version
        if not (student.release and student.since_s and version):
            continue
        if student.phase == "probation":
            yield _mark(report.gateway, student, "took_over", version, "took over")
        elif student.phase == "failed":
            yield _mark(report.gateway, student, "fell_back", version, "failed")


def _mark(gateway: str, student: StudentReport, event: str, version: int, what: str) -> Point:
    why = f": {student.reason}" if student.reason else ""
    text = _one_line(f"{student.name} v{version} {what} on {gateway}{why}")
    stream = student.stream or "unknown"
    at_ms = student.since_s * 1000
    return rollout_point(gateway, student.name, stream, event, version, text, at_ms)


def _one_line(text: str) -> str:
    return " ".join(text.split())

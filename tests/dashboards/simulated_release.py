"""A release of the simulated site: three gateways compare, one falls back, the release pauses."""

from __future__ import annotations

from deploy.rollout.controller import move_all
from deploy.rollout.inventory import Known
from deploy.rollout.points import release_point, report_points
from deploy.rollout.release import WHOLE, Plan, Release, ReleaseIndex
from deploy.rollout.report import Evidence, GatewayReport, StudentReport
from pipeline.points.points import Point

__all__ = ["FALL_BACK_MS", "FALL_BACK_REASON", "TAKEOVER_MS", "release_points"]

TAKEOVER_MS = 90_000
FALL_BACK_MS = 180_000
FALL_BACK_REASON = "12 of 200 scores are not finite, more than 0 permille"
_GATEWAYS = ("press-hall-1", "press-hall-2", "press-hall-3")


def release_points(at_ms: int, start_ms: int) -> list[Point]:
    """The points that the centre writes after `at_ms` milliseconds of the run."""
    start_s, now_s = start_ms // 1000, (start_ms + at_ms) // 1000
    known = [Known(name, _report(name, at_ms, start_s), now_s) for name in _GATEWAYS]
    release = Release(
        number=4,
        name="rul-fd001",
        version=3,
        digest="ab" * 32,
        plan=Plan(),
        step_since_s=start_s,
        cutoff=WHOLE,
        created_s=start_s,
    )
    index = ReleaseIndex(made_s=start_s, releases=(release,))
    index, moves = move_all(index, known, now_s)
    points = [release_point(index.releases[0], moves["rul-fd001"], len(known), now_s)]
    for each in known:
        assert each.report is not None
        points += report_points(each.report, now_s)
    return points


def _report(name: str, at_ms: int, start_s: int) -> GatewayReport:
    is_first = name == _GATEWAYS[0]
    phase, since_ms = "shadow", 0
    if is_first and at_ms >= FALL_BACK_MS:
        phase, since_ms = "failed", FALL_BACK_MS
    elif at_ms >= TAKEOVER_MS:
        phase, since_ms = "probation", TAKEOVER_MS
    runs_new = phase == "probation"
    student = StudentReport(
        name="rul-fd001",
        stream="engine",
        version=3 if runs_new else 2,
        digest=("ab" if runs_new else "cd") * 32,
        release=4,
        phase=phase,
        candidate=3,
        since_s=start_s + since_ms // 1000,
        evidence=Evidence(windows=at_ms // 1000, disagreement_permille=120, psi_permille=80),
        reason=FALL_BACK_REASON if phase == "failed" else "",
    )
    return GatewayReport(
        gateway=name,
        group="north",
        sent_s=start_s + at_ms // 1000,
        software="0.9.0",
        disk_free_mb=12_000,
        fetch="ok",
        students=(student,),
    )

"""Releases, and gateways as their reports show them, for tests of the centre."""

from __future__ import annotations

from deploy.rollout.inventory import Known
from deploy.rollout.release import WHOLE, Plan, Release, SoftwareRelease
from deploy.rollout.report import Evidence, GatewayReport, SoftwareReport, StudentReport

DIGEST = "ab" * 32
FORMER = "cd" * 32
NOW_S = 1_700_000_000


def release(**changes: object) -> Release:
    """A release of three steps, whose first step has just ended its time."""
    content = {
        "number": 5,
        "name": "rul-fd001",
        "version": 2,
        "digest": DIGEST,
        "plan": Plan().model_dump(),
        "step_since_s": NOW_S - 3600,
        "cutoff": WHOLE,
        "created_s": NOW_S - 3600,
    }
    return Release.model_validate(content | changes)


def student(standing: str = "healthy", **changes: object) -> StudentReport:
    """What a gateway reports of its student: healthy, champion, shadow, failed, held, unaware."""
    runs_new = standing in ("healthy", "champion")
    phases = {"healthy": "probation", "unaware": "champion"}
    content = {
        "name": "rul-fd001",
        "stream": "cycle",
        "version": 2 if runs_new else 1,
        "digest": DIGEST if runs_new else FORMER,
        "release": 0 if standing == "unaware" else 5,
        "phase": phases.get(standing, standing),
        "candidate": None if standing == "unaware" else 2,
        "since_s": NOW_S - 600,
        "evidence": Evidence(windows=0 if standing == "champion" else 200),
        "reason": "12 of 200 scores are not finite" if standing == "failed" else "",
    }
    return StudentReport.model_validate(content | changes)


def known(name: str, standing: str = "healthy", *, age_s: int = 5, **changes: object) -> Known:
    """A gateway that reported `age_s` seconds ago."""
    report = GatewayReport(
        gateway=name, sent_s=NOW_S - age_s, students=(student(standing, **changes),)
    )
    return Known(name, report, NOW_S - age_s)


def software(**changes: object) -> SoftwareRelease:
    """A release of the software, whose first step has just ended its time."""
    bundle = {"target": "software/kpstream-2.0.0-x86_64-py311.tar", "sha256": DIGEST, "size": 9}
    content = release().model_dump(exclude={"name", "version", "digest"})
    content |= {"version": "2.0.0", "bundles": [bundle]}
    return SoftwareRelease.model_validate(content | changes)


def runs(
    name: str, version: str, phase: str = "", reason: str = "", *, number: int = 5, age_s: int = 5
) -> Known:
    """A gateway that reports its software, and what its updater says if there is a phase."""
    update = None
    if phase:
        content = {"release": number, "version": "2.0.0", "phase": phase, "reason": reason}
        update = SoftwareReport.model_validate(content)
    report = GatewayReport(gateway=name, sent_s=NOW_S - age_s, software=version, update=update)
    return Known(name, report, NOW_S - age_s)

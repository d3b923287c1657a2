"""The report of a gateway, from what its agent, its memory and its running students say."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from deploy.rollout.report import (
    MAX_REPORT_BYTES,
    GatewayReport,
    Phase,
    SoftwareReport,
    StudentReport,
    encode_report,
)
from deploy.updates.agent import RolloutAgent
from deploy.updates.progress import Progress
from pipeline.status.view import Measure, ModelStatus

__all__ = ["build_report", "encode_bounded", "rollout_measures", "shown_phase", "student_reports"]

MOST_STUDENTS = 100
_SHORT = 80


def shown_phase(progress: Progress | None) -> Phase:
    """The phase for people: a student in shadow that may not take over yet waits."""
    if progress is None:
        return "champion"
    if progress.phase == "shadow" and progress.reason:
        return "waiting"
    return progress.phase


def student_reports(
    agent: RolloutAgent, models: Sequence[ModelStatus]
) -> tuple[StudentReport, ...]:
    """One report for each student that runs here or follows a release, sorted by name."""
    running = {model.name: model for model in models}
    names = sorted({*running, *agent.memory.names()})
    found = (_student(agent, name, running.get(name)) for name in names)
    return tuple(each for each in found if each is not None)[:MOST_STUDENTS]


def build_report(
    agent: RolloutAgent,
    models: Sequence[ModelStatus],
    *,
    gateway: str,
    group: str,
    state_dir: Path,
    sent_s: int,
    update: SoftwareReport | None = None,
) -> GatewayReport:
    """The report of this moment; asks the file system for the free disk."""
    index = agent.index
    return GatewayReport(
        gateway=gateway,
        group=group,
        sent_s=sent_s,
        software=metadata.version("kpstream")[:64],
        python=platform.python_version(),
        machine=platform.machine(),
        disk_free_mb=_free_mb(state_dir),
        fetch=agent.plan.state,
        fetch_detail="; ".join(filter(None, (agent.plan.detail, agent.memory.problem)))[:500],
        index_made_s=0 if index is None else index.made_s,
        students=student_reports(agent, models),
        update=update,
    )


def encode_bounded(report: GatewayReport, key: bytes | None) -> bytes:
    """The payload of a report; with very many students, reasons are shortened, then students go."""
    payload = encode_report(report, key)
    if len(payload) > MAX_REPORT_BYTES:
        short = [s.model_copy(update={"reason": s.reason[:_SHORT]}) for s in report.students]
        report = report.model_copy(update={"students": tuple(short)})
        payload = encode_report(report, key)
    while len(payload) > MAX_REPORT_BYTES:
        half = len(report.students) // 2
        report = report.model_copy(update={"students": report.students[:half]})
        payload = encode_report(report, key)
    return payload


def rollout_measures(agent: RolloutAgent) -> list[Measure]:
    """Numbers for `/metrics`."""
    phases: list[str] = [shown_phase(agent.memory.progress(n)) for n in agent.memory.names()]
    index = agent.index
    counts = {
        "shadow": "Students that are compared in shadow.",
        "probation": "Students on probation after they took over.",
        "failed": "Students that failed here in their newest release.",
        "held": "Students that are held, pinned, or were moved by hand.",
        "waiting": "Students that wait for their step, their files or their window.",
    }
    return [
        Measure(
            "rollout_centre_ok",
            "1 if the last look at the centre found a valid repository.",
            float(agent.plan.state == "ok"),
        ),
        Measure(
            "rollout_index_made_seconds",
            "Time of the newest verified index, epoch; 0 without one.",
            0 if index is None else index.made_s,
        ),
        Measure(
            "rollout_notes_total", "Notes of the centre that came.", agent.plan.notes_total, True
        ),
        *(
            Measure(f"rollout_{phase}", about, phases.count(phase))
            for phase, about in counts.items()
        ),
    ]


def _student(agent: RolloutAgent, name: str, model: ModelStatus | None) -> StudentReport | None:
    progress = agent.memory.progress(name)
    version = None if model is None else model.version
    if progress is None and version is None:
        return None
    running = StudentReport(
        name=name,
        stream="" if model is None else model.stream[:200],
        version=version,
        digest="" if model is None or version is None else model.digest or "",
    )
    if progress is None:
        return running
    follows = {
        "phase": shown_phase(progress),
        "release": progress.release,
        "candidate": progress.version,
        "since_s": progress.since_s,
        "evidence": agent.evidence(name, progress),
        "reason": progress.reason,
    }
    return running.model_copy(update=follows)


def _free_mb(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free // 1_000_000
    except OSError:
        return 0

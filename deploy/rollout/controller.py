"""Which way a release goes next: a decision on the reports of its gateways. Pure.

The state of a release is in the signed index, and what the gateways do is in the inventory; so the
process that decides may end anywhere and begin again. The rules, the first that applies:

1. A release that is paused or aborted stays so until an operator changes it. A running one pauses
   when its version is rejected at the centre, or another one is held or pinned there.
2. It pauses when more gateways than `max_failed` judged it unhealthy, also after a later step and
   after the last one; or when every member of the step that is not held did.
3. It waits until the step has lasted its time.
4. It waits for every member of the step that is neither held nor failed: each must run it on
   probation or as its champion, and must have compared enough windows. Members that are silent are
   left out and named; but at least half of the members must have judged, and one must be healthy.
5. It goes to the next step, one at a time; after the last one it is complete.

The software goes by the same rules. Its member is healthy when a report that came after the step
began names the version, and its updater, if there is one, does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, TypeVar

from deploy.rollout.inventory import Known
from deploy.rollout.release import (
    AnyRelease,
    Release,
    ReleaseIndex,
    SoftwareRelease,
    cutoff_of,
    is_member,
)
from deploy.rollout.report import GatewayReport, SoftwareReport, StudentReport

__all__ = ["SILENT_S", "Member", "Move", "members_of", "move_all", "next_move"]

SILENT_S = 3600
"""Seconds without a new report after which a gateway is silent."""

_MAX_REASON = 500
_LAST_S = 253_402_300_799  # 9999-12-31

_AnyRelease = TypeVar("_AnyRelease", Release, SoftwareRelease)

Standing = Literal["healthy", "waiting", "failed", "held", "silent"]
Action = Literal["stay", "wait", "next", "pause", "complete"]


@dataclass(frozen=True, slots=True)
class Member:
    """A gateway of the current step, or one that judged the release unhealthy.

    Attributes:
        gateway: Its name.
        standing: What the controller makes of its newest report.
        detail: Why, in words; "" for a healthy one.
    """

    gateway: str
    standing: Standing
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A decision about one release.

    Attributes:
        action: What happens to the release.
        reason: Why, in words.
        members: The gateways on which it was decided.
    """

    action: Action
    reason: str
    members: tuple[Member, ...] = ()

    def count(self, standing: Standing) -> int:
        """Number of members of this standing."""
        return sum(member.standing == standing for member in self.members)


def members_of(
    release: AnyRelease, known: Iterable[Known], now_s: int, silent_s: int = SILENT_S
) -> tuple[Member, ...]:
    """The members of the current step, sorted by name, and whoever judged the release unhealthy.

    Gateways on the hold list of the plan are left out, whatever they report.
    """
    found = []
    for each in known:
        if each.gateway in release.plan.hold:
            continue
        member = _member(release, each, now_s, silent_s)
        if member.standing == "failed" or is_member(release, each.gateway, each.group):
            found.append(member)
    return tuple(sorted(found, key=lambda member: member.gateway))


def next_move(
    release: AnyRelease,
    known: Iterable[Known],
    now_s: int,
    silent_s: int = SILENT_S,
    obstacle: str = "",
) -> Move:
    """Decide about a release.

    Args:
        release: The release, as the signed index has it.
        known: What the centre knows of its gateways.
        now_s: Time of the centre, epoch seconds.
        silent_s: Seconds without a new report after which a gateway is left out.
        obstacle: Why people do not want the version any more; "" if they do.
    """
    members = members_of(release, known, now_s, silent_s)
    if release.state in ("paused", "aborted"):
        return Move("stay", f"{release.state}: {release.reason or 'by hand'}", members)
    if obstacle and release.state == "running":
        return Move("pause", obstacle[:_MAX_REASON], members)
    failed = [member for member in members if member.standing == "failed"]
    if len(failed) > release.plan.max_failed:
        return Move("pause", _failures(failed, release.plan.max_failed), members)
    if release.state == "complete":
        return Move("stay", "complete", members)
    if failed and {member.standing for member in members} <= {"failed", "held"}:
        names = _names([member.gateway for member in failed])
        return Move("pause", f"it failed on every member of the step: {names}", members)
    step = release.plan.steps[release.step]
    ends_s = release.step_since_s + step.seconds
    if now_s < ends_s:
        return Move("wait", f"the step lasts until {_time(ends_s)}", members)
    missing = _missing(members)
    if missing:
        return Move("wait", missing, members)
    left_out = [member.gateway for member in members if member.standing == "silent"]
    reason = f"left out, because silent: {_names(left_out)}" if left_out else "all members healthy"
    is_last = release.step == len(release.plan.steps) - 1
    return Move("complete" if is_last else "next", reason, members)


def move_all(
    index: ReleaseIndex,
    known: Sequence[Known],
    now_s: int,
    silent_s: int = SILENT_S,
    obstacles: Mapping[str, str] | None = None,
) -> tuple[ReleaseIndex, dict[str, Move]]:
    """Decide about every release, and return the index that follows and the moves by name.

    The index is the same object if nothing moves; whoever signs it sets its time. `obstacles` has
    the reasons for which people do not want a version any more, by the title of its release.
    """
    against = obstacles or {}
    moves = {
        each.name: next_move(each, known, now_s, silent_s, against.get(each.title, ""))
        for each in index.rollouts
    }
    releases = tuple(_moved(each, moves[each.name], known, now_s) for each in index.releases)
    software = index.software
    if software is not None:
        software = _moved(software, moves[software.name], known, now_s)
    if (releases, software) == (index.releases, index.software):
        return index, moves
    return index.model_copy(update={"releases": releases, "software": software}), moves


def _moved(release: _AnyRelease, move: Move, known: Sequence[Known], now_s: int) -> _AnyRelease:
    if move.action == "pause":
        return release.model_copy(update={"state": "paused", "reason": move.reason})
    if move.action == "complete":
        return release.model_copy(update={"state": "complete", "reason": ""})
    if move.action != "next":
        return release
    step = release.step + 1
    gateways = [(each.gateway, each.group) for each in known]
    cutoff = cutoff_of(release.number, release.plan, step, gateways)
    # A gateway that was retired or renamed since must not put a member out of the release.
    changes = {"step": step, "step_since_s": now_s, "cutoff": max(cutoff, release.cutoff)}
    return release.model_copy(update=changes)


def _member(release: AnyRelease, known: Known, now_s: int, silent_s: int) -> Member:
    settled = _settled(release, known)
    if settled is not None:
        return settled
    if known.report is None:
        return Member(known.gateway, "silent", "it has never reported")
    if now_s - known.seen_s > silent_s:
        return Member(known.gateway, "silent", f"no report for {now_s - known.seen_s} s")
    if isinstance(release, SoftwareRelease):
        lacks = _software_lacks(release, known.report, known.seen_s)
    else:
        student = known.student(release.name)
        if student is None:
            return Member(known.gateway, "waiting", f"it does not report {release.name}")
        lacks = _lacks(release, student)
    return Member(known.gateway, "waiting" if lacks else "healthy", lacks)


def _settled(release: AnyRelease, known: Known) -> Member | None:
    """A member that failed or is held, also a silent one; None for another one."""
    says: SoftwareReport | StudentReport | None
    if isinstance(release, SoftwareRelease):
        says = None if known.report is None else known.report.update
    else:
        says = known.student(release.name)
    # What it reported of an earlier release says nothing about this.
    if says is not None and says.release == release.number:
        if says.phase == "failed":
            return Member(known.gateway, "failed", says.reason or "no reason given")
        if says.phase == "held":
            return Member(known.gateway, "held", says.reason)
    return None


def _software_lacks(release: SoftwareRelease, report: GatewayReport, seen_s: int) -> str:
    """What the report of a gateway lacks for good health of its software; "" for nothing."""
    update = report.update
    if update is not None and update.release == release.number and update.phase != "done":
        return f"{update.phase}: {update.reason}" if update.reason else update.phase
    if report.software != release.version:
        return f"it runs {report.software or 'an unknown version'}"
    if seen_s < release.step_since_s:
        return "no report since the step began"
    return ""


def _lacks(release: Release, student: StudentReport) -> str:
    """What the report of a student lacks for good health; "" for nothing."""
    runs_it = student.version == release.version and student.digest == release.digest
    if student.phase not in ("probation", "champion") or not runs_it:
        why = f": {student.reason}" if student.reason else ""
        if student.release != release.number:
            return f"it has not seen release {release.number}{why}"
        return f"{student.phase}{why}"
    windows = release.plan.steps[release.step].windows
    # As its champion it has passed probation; a restart forgets what was counted there.
    if student.phase == "probation" and student.evidence.windows < windows:
        return f"{student.evidence.windows} of {windows} windows compared"
    return ""


def _missing(members: Sequence[Member]) -> str:
    """What the step still waits for; "" for nothing."""
    active = [member for member in members if member.standing != "held"]
    if not active:
        return "all members are held" if members else "no known gateway is a member of this step"
    waiting = [member for member in active if member.standing == "waiting"]
    if waiting:
        first = waiting[0]
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        return f"waiting for {first.gateway} ({first.detail}){more}"
    silent = [member.gateway for member in active if member.standing == "silent"]
    if 2 * len(silent) > len(active):
        return f"more than half of the members are silent: {_names(silent)}"
    if not any(member.standing == "healthy" for member in active):
        return "no member is healthy"
    return ""


def _failures(failed: Sequence[Member], limit: int) -> str:
    count = f"{len(failed)} gateway" + ("s" if len(failed) > 1 else "")
    text = f"{count} failed, more than {limit}: "
    for number, member in enumerate(failed):
        more = len(failed) - number
        part = f"{member.gateway}: {member.detail}"
        if len(text) + len(part) > _MAX_REASON - 20:
            part = part[: max(0, _MAX_REASON - 20 - len(text))]
            return f"{text}{part} ..." + (f" and {more - 1} more" if more > 1 else "")
        text += part + ("; " if more > 1 else "")
    return text


def _time(epoch_s: int) -> str:
    """A time as people read it, within the years that a date can have."""
    moment = datetime.fromtimestamp(min(epoch_s, _LAST_S), timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _names(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

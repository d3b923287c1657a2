"""What a gateway does next with the newest release of one student: a pure state machine.

```
            member, fetched          enough evidence, window open        time over
  waiting --------------> shadow -----------------------> probation -------------> champion
     |                      | unhealthy                       | unhealthy              |
     |                      v                                 v                        |
     |                    failed                 failed, back to the former one        |
     +---- hold, pin -----> held <------ release aborted, pointer moved by hand -------+
```

`decide` gets the facts (`Case`) and answers with one action and with what is to be remembered. The
agent remembers it durably, then acts; a power cut between the two is a case of its own. The rules:

1. A move of the pointer that was interrupted is completed, if it leads back, or begun anew.
2. On probation, going back comes before everything else, and needs neither centre nor window.
3. Nothing new starts without a verified index, and the student that runs stays.
4. Hold and pin stop what has not taken over; the maintenance window delays a takeover only.
5. A newer release begins when the older one is not on probation any more.
6. A pointer that a person has moved stays where it is until the next release.
7. A student with which the process keeps dying has failed, in shadow too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from deploy.rollout.release import Policy, Release
from deploy.rollout.report import Phase
from deploy.updates.progress import Failure, Progress
from models.pointer import Pointer

__all__ = ["Action", "Case", "Decision", "Limits", "decide", "limits_of", "window_is_open"]

Action = Literal["none", "fetch", "shadow", "take_over", "watch", "fall_back", "stop"]
"""Fetch the student; start to compare it in shadow; move the pointer to it; let the former student
watch it; move the pointer back to the former student; stop the comparison."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one student on this gateway.

    Attributes:
        hold: Why nothing new is taken; "" if it is.
        pin: Version that stays; None for any.
        window: Maintenance window in UTC, `HH:MM-HH:MM`; "" for any time.
    """

    hold: str = ""
    pin: int | None = None
    window: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """The facts of one student.

    Attributes:
        now_s: Time, epoch seconds.
        release: Its newest release; None if the index has none.
        is_index_known: Whether a verified index was read since the process started.
        no_moves: Why nothing new may start now, such as expired metadata; "" if it may.
        is_included: Whether the plan includes this gateway.
        is_member: Whether this gateway takes part in the current step.
        limits: Hold, pin and window.
        progress: What is remembered; None for nothing.
        failure_before: The failure of this release, or of the same student in a later one, here.
        took_over_from: The version before the last move of the pointer, if that move was made for
            this release. The registry knows it when the memory is lost.
        running: The version that scores; None if the name has no student here.
        pointer: The version that the pointer names.
        refused: Why the version of the release was refused at the swap; "" if it was not.
        is_fetched: Whether the registry has the version of the release.
        obstacle: Why the fetched student can never run here; "" if it can.
        contest: The comparison that runs; `other`: that of another student, such as of an older
            release.
        elapsed_s: Seconds in this phase.
        windows: Windows compared in this phase.
        verdict: The threshold that broke; "" for none.
        failure: What the scoring stage saw, such as scores that are not finite; "" for nothing.
    """

    now_s: int
    release: Release | None
    is_index_known: bool = True
    no_moves: str = ""
    is_included: bool = True
    is_member: bool = True
    limits: Limits = Limits()
    progress: Progress | None = None
    failure_before: Failure | None = None
    took_over_from: Pointer | None = None
    running: Pointer | None = None
    pointer: Pointer | None = None
    refused: str = ""
    is_fetched: bool = False
    obstacle: str = ""
    contest: Literal["", "shadow", "probation", "other"] = ""
    elapsed_s: int = 0
    windows: int = 0
    verdict: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One action, and what is to be remembered before it.

    Attributes:
        action: The action.
        progress: The new memory; None forgets it.
    """

    action: Action
    progress: Progress | None


def decide(case: Case) -> Decision:
    """The next action for one student; the same facts give the same decision."""
    case = _recovered(case)
    known = case.progress
    if known is not None and known.move:
        return _resume_move(case, known)
    if known is not None and known.phase == "probation":
        return _on_probation(case, known)
    if known is not None and known.is_crashing:
        return Decision(_end(case), known.enter("failed", case.now_s, known.crash_reason))
    if not case.is_index_known:
        return _without_index(case)
    release = case.release
    if release is None:
        is_final = known is not None and known.phase in ("champion", "failed")
        return Decision(_end(case), known if is_final else None)
    if known is not None and known.release != release.number:
        if case.contest:
            return Decision("stop", None)
        known = None
    return _settled(case, release, known) or _on_its_way(case, release, known)


def limits_of(
    name: str,
    policies: Iterable[Policy],
    gateway: str,
    group: str,
    *,
    hold: bool | None = None,
    pin: Mapping[str, int] | None = None,
    window: str = "",
) -> Limits:
    """The limits of a student: the gateway's own, else its policy, else that of its group.

    Args:
        name: Name of the student.
        policies: Policies of the centre.
        gateway: Name of this gateway.
        group: Its group; "" for none.
        hold: Own setting; None: the centre decides.
        pin: Own pins.
        window: Own maintenance window; "": the centre decides.
    """
    mine = [each for each in policies if each.gateway == gateway]
    mine += [each for each in policies if group and each.group == group]
    held = ""
    if hold is None:
        held = "a policy of the centre holds this gateway" if any(p.hold for p in mine) else ""
    elif hold:
        held = "KPSTREAM_ROLLOUT_HOLD holds this gateway"
    pins = [pin or {}, *(policy.pin for policy in mine)]
    windows = [window, *(policy.window for policy in mine)]
    return Limits(
        hold=held,
        pin=next((found[name] for found in pins if name in found), None),
        window=next(filter(None, windows), ""),
    )


def window_is_open(window: str, now_s: int) -> bool:
    """Whether a maintenance window in UTC is open; it includes its start and excludes its end.

    >>> window_is_open("22:00-02:00", 23 * 3600), window_is_open("22:00-02:00", 2 * 3600)
    (True, False)
    """
    if not window:
        return True
    start, end = (60 * int(text[:2]) + int(text[3:]) for text in window.split("-"))
    minute = now_s % 86_400 // 60
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


# -- an interrupted move, and a lost memory ------------------------------------------------------


def _recovered(case: Case) -> Case:
    """The case with what the registry's history knows, if the memory has nothing."""
    release, former = case.release, case.took_over_from
    if case.progress is not None or release is None or former is None:
        return case
    begun = Progress.of(release, "probation", case.now_s)
    found = begun.model_copy(update={"former": former, "is_taken": True})
    return replace(case, progress=found)


def _resume_move(case: Case, known: Progress) -> Decision:
    is_there = _is_same(case.pointer, known.digest)
    if known.move == "back":
        if is_there:
            return Decision("fall_back", known)
        return Decision("none", known.model_copy(update={"move": ""}))
    if is_there:
        return _on_probation(case, known.model_copy(update={"move": "", "is_taken": True}))
    anew = known.enter("waiting", case.now_s, "the takeover was interrupted")
    return Decision("none", anew.model_copy(update={"move": "", "former": None}))


# -- the phases ----------------------------------------------------------------------------------


def _on_probation(case: Case, known: Progress) -> Decision:
    reason = _fault(case) or case.refused
    if not reason and known.is_crashing:
        reason = known.crash_reason
    if reason:
        return _fall_back(case, known, "failed", reason)
    release = case.release
    if release is not None and release.number == known.release and release.state == "aborted":
        if case.limits.pin != known.version:
            return _fall_back(case, known, "held", _aborted(release))
    if not _is_same(case.pointer, known.digest):
        return Decision(_end(case), known.enter("held", case.now_s, _moved(case)))
    if not _is_same(case.running, known.digest):
        return Decision("none", known)
    if case.elapsed_s >= known.probation_seconds:
        return Decision(_end(case), known.enter("champion", case.now_s))
    is_watched = case.contest == "probation" or known.former is None
    return Decision("none" if is_watched else "watch", known)


def _without_index(case: Case) -> Decision:
    known = case.progress
    if known is not None and known.phase == "shadow":
        reason = "the centre has not been reached since the start"
        known = known.enter("waiting", case.now_s, reason)
    return Decision("none", known)


def _settled(case: Case, release: Release, known: Progress | None) -> Decision | None:
    """The decision for a release that is over here; None if it is not."""
    if known is not None and known.phase == "failed":
        return Decision(_end(case), known)
    if case.failure_before is not None:
        return Decision(_end(case), _enter(case, release, "failed", case.failure_before.reason))
    is_taken = known is not None and known.is_taken
    is_running = _is_same(case.running, release.digest)
    is_unwanted = release.state == "aborted" and case.limits.pin != release.version
    if known is not None and is_running and is_taken and is_unwanted:
        return _fall_back(case, known, "held", _aborted(release))
    if is_running:
        return Decision(_end(case), _enter(case, release, "champion"))
    if release.state == "aborted":
        return Decision(_end(case), _enter(case, release, "held", _aborted(release)))
    if is_taken:
        return Decision(_end(case), _enter(case, release, "held", _moved(case)))
    return None


def _on_its_way(case: Case, release: Release, known: Progress | None) -> Decision:
    """The decision for a release that has not taken over here."""
    if not case.is_included:
        return Decision(_end(case), None)
    held = case.limits.hold or _pinned(case.limits, release)
    if held:
        return Decision(_end(case), _enter(case, release, "held", held))
    if case.obstacle:
        return Decision(_end(case), _enter(case, release, "failed", case.obstacle))
    if known is not None and known.phase == "shadow" and case.contest == "shadow":
        return _in_shadow(case, release, known)
    reason = _not_yet(case, release)
    if reason:
        return Decision("none", _enter(case, release, "waiting", reason))
    if not case.is_fetched:
        return Decision("fetch", _enter(case, release, "waiting", "not fetched yet"))
    if case.running is not None:
        return Decision("shadow", _enter(case, release, "shadow"))
    reason = _outside_window(case)
    if reason:
        return Decision("none", _enter(case, release, "waiting", reason))
    return _take_over(case, _enter(case, release, "waiting"))


def _in_shadow(case: Case, release: Release, known: Progress) -> Decision:
    reason = _fault(case)
    if reason:
        return Decision("stop", known.enter("failed", case.now_s, reason))
    plan = release.plan
    if case.windows < plan.shadow_windows or case.elapsed_s < plan.shadow_seconds:
        return Decision("none", known.enter("shadow", case.now_s))
    reason = _not_yet(case, release) or _outside_window(case)
    if reason:
        return Decision("none", known.enter("shadow", case.now_s, reason))
    return _take_over(case, known)


def _take_over(case: Case, known: Progress) -> Decision:
    changes = {"former": case.running, "move": "to", "starts": 0, "is_stopped": False}
    return Decision("take_over", known.enter("probation", case.now_s).model_copy(update=changes))


def _fall_back(
    case: Case, known: Progress, phase: Literal["failed", "held"], reason: str
) -> Decision:
    if known.former is None:
        after = known.enter(
            phase, case.now_s, f"{reason}; there is no former student to go back to"
        )
        return Decision(_end(case), after)
    after = known.enter(phase, case.now_s, reason)
    if not _is_same(case.pointer, known.digest):
        return Decision(_end(case), after)
    return Decision("fall_back", after.model_copy(update={"move": "back"}))


# -- reasons -------------------------------------------------------------------------------------


def _fault(case: Case) -> str:
    return case.failure or case.verdict


def _not_yet(case: Case, release: Release) -> str:
    """Why nothing new starts now; "" if it may."""
    if release.state == "paused":
        return f"release {release.number} is paused" + (release.reason and f": {release.reason}")
    if not case.is_member:
        step, steps = release.step + 1, len(release.plan.steps)
        return f"release {release.number} is at step {step} of {steps}, without this gateway"
    if case.no_moves:
        return case.no_moves
    if case.running is not None and not _is_same(case.pointer, case.running.digest):
        named = "no version" if case.pointer is None else f"v{case.pointer.version}"
        return f"the pointer names {named}, but v{case.running.version} scores"
    return ""


def _outside_window(case: Case) -> str:
    window = case.limits.window
    return "" if window_is_open(window, case.now_s) else f"the maintenance window is {window} UTC"


def _pinned(limits: Limits, release: Release) -> str:
    if limits.pin in (None, release.version):
        return ""
    return f"pinned to v{limits.pin}; release {release.number} brings v{release.version}"


def _aborted(release: Release) -> str:
    return f"release {release.number} was aborted" + (release.reason and f": {release.reason}")


def _moved(case: Case) -> str:
    if case.refused:
        return case.refused
    if case.pointer is None:
        return "the registry's pointer is gone"
    return f"the pointer names v{case.pointer.version} since the takeover; the next release counts"


# -- parts ---------------------------------------------------------------------------------------


def _enter(case: Case, release: Release, phase: Phase, reason: str = "") -> Progress:
    known = case.progress
    if known is None or known.release != release.number:
        return Progress.of(release, phase, case.now_s, reason)
    return known.enter(phase, case.now_s, reason)


def _is_same(pointer: Pointer | None, digest: str) -> bool:
    return pointer is not None and pointer.digest == digest


def _end(case: Case) -> Action:
    return "stop" if case.contest else "none"

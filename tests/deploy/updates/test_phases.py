"""What a gateway does next in a release, as a table of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from deploy.rollout.release import WHOLE, Plan, Policy, Release, Step
from deploy.updates.phases import (
    Action,
    Case,
    Limits,
    decide,
    limits_of,
    window_is_open,
)
from deploy.updates.progress import Failure, Progress
from models.pointer import Pointer
from pipeline.scoring.thresholds import Thresholds

NOW = 1_700_000_000
OLD = Pointer(version=1, digest="a" * 64)
NEW = Pointer(version=2, digest="b" * 64)
THIRD = Pointer(version=3, digest="c" * 64)
PLAN = Plan(
    steps=(Step(percent=100),),
    shadow_seconds=60,
    shadow_windows=100,
    probation_seconds=600,
    thresholds=Thresholds(windows=50),
)


def release(number: int = 7, **changes: Any) -> Release:
    values: dict[str, Any] = {
        "number": number,
        "name": "rul-x",
        "version": NEW.version,
        "digest": NEW.digest,
        "plan": PLAN,
        "step_since_s": NOW - 1000,
        "cutoff": WHOLE,
        "created_s": NOW - 1000,
    }
    return Release.model_validate(values | changes)


THIS = release()


def progress(phase: str, **changes: Any) -> Progress:
    found = Progress.of(THIS, phase, NOW - 100)  # type: ignore[arg-type]
    return found.model_copy(update=changes)


IN_SHADOW = progress("shadow")
ON_PROBATION = progress("probation", former=OLD, is_taken=True)
CHAMPION = progress("champion", former=OLD, is_taken=True)

IDLE = Case(now_s=NOW, release=THIS, running=OLD, pointer=OLD, is_fetched=True)
SHADOW = replace(
    IDLE, progress=IN_SHADOW, contest="shadow", elapsed_s=100, windows=150, running=OLD
)
PROBATION = replace(
    IDLE,
    progress=ON_PROBATION,
    contest="probation",
    running=NEW,
    pointer=NEW,
    elapsed_s=100,
    windows=10,
)
FINISHED = replace(IDLE, progress=CHAMPION, running=NEW, pointer=NEW)
FAILED = Failure(release=7, version=2, digest=NEW.digest, reason="it is slow", at_s=NOW - 5)

A_NEWER = release(8, version=3, digest=THIRD.digest)
ABORTED = release(state="aborted", reason="wrong labels")
PAUSED = release(state="paused", reason="by hand")

# name of the case, the case, the action, phase (None: no progress), part of the reason
TABLE: Sequence[tuple[str, Case, Action, str | None, str]] = [
    # -- before anything has begun
    ("no index yet", replace(IDLE, release=None, is_index_known=False), "none", None, ""),
    ("no release", replace(IDLE, release=None), "none", None, ""),
    ("a new release", replace(IDLE, is_fetched=False), "fetch", "waiting", "not fetched"),
    ("fetched", IDLE, "shadow", "shadow", ""),
    ("not in this step", replace(IDLE, is_member=False), "none", "waiting", "step 1 of 1"),
    ("not in its groups", replace(IDLE, is_included=False), "none", None, ""),
    ("on its hold list", replace(IDLE, limits=Limits(hold="held")), "none", "held", "held"),
    ("pinned", replace(IDLE, limits=Limits(pin=1)), "none", "held", "pinned to v1"),
    ("pinned to it", replace(IDLE, limits=Limits(pin=2)), "shadow", "shadow", ""),
    ("paused", replace(IDLE, release=PAUSED), "none", "waiting", "paused: by hand"),
    ("aborted", replace(IDLE, release=ABORTED), "none", "held", "aborted: wrong labels"),
    ("it runs already", replace(IDLE, running=NEW, pointer=NEW), "none", "champion", ""),
    (
        "it runs already, outside the step",
        replace(IDLE, running=NEW, pointer=NEW, is_member=False),
        "none",
        "champion",
        "",
    ),
    ("it failed before", replace(IDLE, failure_before=FAILED), "none", "failed", "it is slow"),
    (
        "another student scores the stream",
        replace(IDLE, obstacle="model b already scores the stream"),
        "none",
        "failed",
        "model b already",
    ),
    (
        "the centre is not in order",
        replace(IDLE, is_fetched=False, no_moves="the metadata expired"),
        "none",
        "waiting",
        "the metadata expired",
    ),
    ("nothing runs yet", replace(IDLE, running=None, pointer=None), "take_over", "probation", ""),
    (
        "nothing runs yet, window closed",
        replace(IDLE, running=None, pointer=None, limits=Limits(window="00:00-00:01")),
        "none",
        "waiting",
        "00:00-00:01",
    ),
    (
        "memory lost after a takeover",
        replace(IDLE, took_over_from=OLD, running=NEW, pointer=NEW),
        "watch",
        "probation",
        "",
    ),
    ("pointer moved by hand, before", replace(IDLE, pointer=THIRD), "none", "waiting", "v3"),
    # -- in shadow
    ("enough evidence", SHADOW, "take_over", "probation", ""),
    ("too few windows", replace(SHADOW, windows=99), "none", "shadow", ""),
    ("too little time", replace(SHADOW, elapsed_s=59), "none", "shadow", ""),
    ("unhealthy", replace(SHADOW, verdict="7 of 50 not finite"), "stop", "failed", "7 of 50"),
    (
        "unhealthy, too early",
        replace(SHADOW, windows=60, elapsed_s=1, verdict="7 of 50"),
        "stop",
        "failed",
        "7 of 50",
    ),
    ("failed at once", replace(SHADOW, failure="it crashed"), "stop", "failed", "it crashed"),
    (
        "window closed",
        replace(SHADOW, limits=Limits(window="00:00-00:01")),
        "none",
        "shadow",
        "00:00-00:01",
    ),
    (
        "window closed, unhealthy",
        replace(SHADOW, limits=Limits(window="00:00-00:01"), verdict="bad"),
        "stop",
        "failed",
        "bad",
    ),
    ("paused in shadow", replace(SHADOW, release=PAUSED), "none", "shadow", "paused"),
    ("aborted in shadow", replace(SHADOW, release=ABORTED), "stop", "held", "aborted"),
    ("held in shadow", replace(SHADOW, limits=Limits(hold="held here")), "stop", "held", "held"),
    ("pinned in shadow", replace(SHADOW, limits=Limits(pin=1)), "stop", "held", "pinned"),
    ("expired in shadow", replace(SHADOW, no_moves="expired"), "none", "shadow", "expired"),
    ("a newer one in shadow", replace(SHADOW, release=A_NEWER, is_fetched=False), "stop", None, ""),
    ("gone in shadow", replace(SHADOW, release=None), "stop", None, ""),
    ("restarted in shadow", replace(SHADOW, contest="", windows=0), "shadow", "shadow", ""),
    (
        "restarted in shadow, centre away",
        replace(SHADOW, contest="", release=None, is_index_known=False),
        "none",
        "waiting",
        "not been reached",
    ),
    ("pointer moved by hand in shadow", replace(SHADOW, pointer=THIRD), "none", "shadow", "v3"),
    ("taken by hand in shadow", replace(SHADOW, running=NEW, pointer=NEW), "stop", "champion", ""),
    # -- between shadow and probation, after a power cut
    (
        "killed before the pointer moved",
        replace(IDLE, progress=progress("probation", former=OLD, move="to")),
        "none",
        "waiting",
        "interrupted",
    ),
    (
        "killed after the pointer moved",
        replace(PROBATION, progress=progress("probation", former=OLD, move="to"), contest=""),
        "watch",
        "probation",
        "",
    ),
    # -- on probation
    ("healthy", PROBATION, "none", "probation", ""),
    ("long enough", replace(PROBATION, elapsed_s=600), "stop", "champion", ""),
    ("not swapped yet", replace(PROBATION, running=OLD, contest=""), "none", "probation", ""),
    ("not watched yet", replace(PROBATION, contest=""), "watch", "probation", ""),
    ("a threshold broke", replace(PROBATION, verdict="slow"), "fall_back", "failed", "slow"),
    ("failed while it scored", replace(PROBATION, failure="nan"), "fall_back", "failed", "nan"),
    (
        "refused at the swap",
        replace(PROBATION, running=OLD, refused="no graph"),
        "fall_back",
        "failed",
        "no graph",
    ),
    (
        "failed as its time ended",
        replace(PROBATION, elapsed_s=600, verdict="slow"),
        "fall_back",
        "failed",
        "slow",
    ),
    (
        "failed, window closed",
        replace(PROBATION, verdict="slow", limits=Limits(window="00:00-00:01")),
        "fall_back",
        "failed",
        "slow",
    ),
    (
        "failed while held",
        replace(PROBATION, verdict="slow", limits=Limits(hold="x", pin=2)),
        "fall_back",
        "failed",
        "slow",
    ),
    (
        "failed, centre away",
        replace(PROBATION, verdict="slow", release=None, is_index_known=False),
        "fall_back",
        "failed",
        "slow",
    ),
    (
        "first unexpected start",
        replace(PROBATION, contest="", progress=ON_PROBATION.model_copy(update={"starts": 1})),
        "watch",
        "probation",
        "",
    ),
    (
        "second unexpected start",
        replace(PROBATION, contest="", progress=ON_PROBATION.model_copy(update={"starts": 2})),
        "fall_back",
        "failed",
        "2 times",
    ),
    (
        "failed without a former one",
        replace(PROBATION, progress=progress("probation", is_taken=True), verdict="slow"),
        "stop",
        "failed",
        "slow",
    ),
    (
        "healthy, centre away",
        replace(PROBATION, release=None, is_index_known=False),
        "none",
        "probation",
        "",
    ),
    ("healthy, paused", replace(PROBATION, release=PAUSED), "none", "probation", ""),
    ("healthy, expired", replace(PROBATION, no_moves="expired"), "none", "probation", ""),
    ("a newer one on probation", replace(PROBATION, release=A_NEWER), "none", "probation", ""),
    ("aborted on probation", replace(PROBATION, release=ABORTED), "fall_back", "held", "aborted"),
    (
        "aborted, but pinned to it",
        replace(PROBATION, release=ABORTED, limits=Limits(pin=2)),
        "none",
        "probation",
        "",
    ),
    (
        "moved by hand on probation",
        replace(PROBATION, running=THIRD, pointer=THIRD),
        "stop",
        "held",
        "v3",
    ),
    # -- falling back, after a power cut
    (
        "killed before the pointer moved back",
        replace(
            FINISHED,
            progress=progress("failed", former=OLD, is_taken=True, move="back", reason="slow"),
        ),
        "fall_back",
        "failed",
        "slow",
    ),
    (
        "killed after the pointer moved back",
        replace(
            IDLE, progress=progress("failed", former=OLD, is_taken=True, move="back", reason="slow")
        ),
        "none",
        "failed",
        "slow",
    ),
    # -- afterwards
    ("finished", FINISHED, "none", "champion", ""),
    ("finished, aborted", replace(FINISHED, release=ABORTED), "fall_back", "held", "aborted"),
    (
        "finished, aborted, held",
        replace(FINISHED, release=ABORTED, limits=Limits(hold="x")),
        "fall_back",
        "held",
        "aborted",
    ),
    (
        "finished, aborted, window closed",
        replace(FINISHED, release=ABORTED, limits=Limits(window="00:00-00:01")),
        "fall_back",
        "held",
        "aborted",
    ),
    (
        "finished, aborted, memory lost",
        replace(FINISHED, release=ABORTED, progress=None, took_over_from=OLD),
        "fall_back",
        "held",
        "aborted",
    ),
    (
        "gone back after the abort",
        replace(IDLE, release=ABORTED, progress=progress("held", former=OLD, is_taken=True)),
        "none",
        "held",
        "aborted",
    ),
    (
        "finished, moved by hand",
        replace(FINISHED, running=THIRD, pointer=THIRD),
        "none",
        "held",
        "v3",
    ),
    (
        "moved by hand and back",
        replace(FINISHED, progress=progress("held", former=OLD, is_taken=True)),
        "none",
        "champion",
        "",
    ),
    ("finished, held", replace(FINISHED, limits=Limits(hold="x")), "none", "champion", ""),
    ("finished, gone from the index", replace(FINISHED, release=None), "none", "champion", ""),
    ("finished, a newer one", replace(FINISHED, release=A_NEWER), "shadow", "shadow", ""),
    ("failed", replace(IDLE, progress=progress("failed", reason="slow")), "none", "failed", "slow"),
    (
        "failed, complete",
        replace(
            IDLE, progress=progress("failed", reason="slow"), release=release(state="complete")
        ),
        "none",
        "failed",
        "slow",
    ),
    (
        "failed, then run by hand",
        replace(FINISHED, progress=progress("failed", former=OLD, is_taken=True, reason="slow")),
        "none",
        "failed",
        "slow",
    ),
    (
        "failed, a newer one",
        replace(IDLE, progress=progress("failed"), release=A_NEWER),
        "shadow",
        "shadow",
        "",
    ),
    (
        "failed, released again",
        replace(IDLE, progress=progress("failed"), release=release(8)),
        "shadow",
        "shadow",
        "",
    ),
    (
        "held, released again",
        replace(IDLE, progress=progress("held", reason="held")),
        "shadow",
        "shadow",
        "",
    ),
    (
        "complete, away for a month",
        replace(IDLE, release=release(state="complete")),
        "shadow",
        "shadow",
        "",
    ),
]


@pytest.mark.parametrize(
    ("case", "action", "phase", "reason"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_case(case: Case, action: Action, phase: str | None, reason: str) -> None:
    found = decide(case)
    assert found.action == action
    if phase is None:
        assert found.progress is None
        return
    assert found.progress is not None
    assert found.progress.phase == phase
    assert reason in found.progress.reason
    assert reason or not found.progress.reason


def test_pointer_move_is_written_down_before_it_is_made() -> None:
    taking = decide(SHADOW).progress
    assert taking is not None
    assert (taking.move, taking.former, taking.since_s) == ("to", OLD, NOW)
    back = decide(replace(PROBATION, verdict="slow")).progress
    assert back is not None
    assert (back.move, back.former) == ("back", OLD)


def test_finished_move_is_no_longer_written_down() -> None:
    done = decide(replace(PROBATION, progress=ON_PROBATION.model_copy(update={"move": "to"})))
    assert done.progress is not None
    assert done.progress.move == ""
    assert done.progress.is_taken
    gone = decide(replace(IDLE, progress=progress("failed", former=OLD, move="back")))
    assert gone.progress is not None
    assert gone.progress.move == ""


def test_phase_keeps_its_beginning_while_it_lasts() -> None:
    for case in (SHADOW, replace(SHADOW, windows=1), PROBATION, FINISHED):
        after = decide(replace(case, limits=Limits(window="00:00-00:01"))).progress
        assert after is not None
        assert case.progress is not None
        assert after.since_s == case.progress.since_s


def act(case: Case, action: Action, done: Progress | None) -> Case:
    """The facts after an action of a gateway that works."""
    former = None if done is None else done.former
    match action:
        case "fetch":
            return replace(case, is_fetched=True)
        case "shadow":
            return replace(case, contest="shadow")
        case "watch":
            return replace(case, contest="probation")
        case "stop":
            return replace(case, contest="")
        case "take_over" if done is not None:
            taken = Pointer(version=done.version, digest=done.digest)
            return replace(case, pointer=taken, running=taken, contest="")
        case "fall_back":
            return replace(case, pointer=former, running=former, contest="")
    return case


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_gateway_comes_to_rest(row: tuple[str, Case, Action, str | None, str]) -> None:
    case = row[1]
    for _ in range(8):
        found = decide(case)
        before, case = (
            case,
            replace(act(case, found.action, found.progress), progress=found.progress),
        )
        if case == before:
            return
    pytest.fail(f"still changes: {found}")


def test_running_student_is_never_replaced_without_evidence() -> None:
    facts = product(
        (THIS, ABORTED, PAUSED, A_NEWER, None),
        (None, IN_SHADOW, progress("waiting"), progress("held"), progress("failed"), CHAMPION),
        ("", "shadow", "probation"),
        (True, False),
        (True, False),
    )
    taken = 0
    for offered, before, contest, is_fetched, is_member in facts:
        case = replace(
            IDLE,
            release=offered,
            progress=before,
            contest=contest,
            is_fetched=is_fetched,
            is_member=is_member,
            windows=99,
            elapsed_s=10_000,
        )
        taken += decide(case).action == "take_over"
        good = decide(replace(case, windows=100)).action == "take_over"
        assert not good or (offered is THIS and before == IN_SHADOW and contest == "shadow")
    assert taken == 0


@pytest.mark.parametrize(
    ("window", "minute", "is_open"),
    [
        ("", 0, True),
        ("01:00-03:00", 59, False),
        ("01:00-03:00", 60, True),
        ("01:00-03:00", 179, True),
        ("01:00-03:00", 180, False),
        ("22:00-02:00", 22 * 60, True),
        ("22:00-02:00", 119, True),
        ("22:00-02:00", 120, False),
        ("22:00-02:00", 12 * 60, False),
        ("05:00-05:00", 7 * 60, True),
    ],
)
def test_maintenance_window(window: str, minute: int, is_open: bool) -> None:
    day_s = 19_000 * 86_400
    assert window_is_open(window, day_s + minute * 60) is is_open
    assert window_is_open(window, day_s + minute * 60 + 59) is is_open


POLICIES = (
    Policy(gateway="gw-1", hold=True, pin={"rul-x": 4}),
    Policy(group="north", pin={"rul-x": 3}, window="01:00-02:00"),
    Policy(gateway="gw-2", window="03:00-04:00"),
    Policy(group="south", hold=True),
)


@pytest.mark.parametrize(
    ("gateway", "group", "own", "expected"),
    [
        ("gw-9", "", {}, Limits()),
        ("gw-1", "north", {}, Limits(hold="the centre", pin=4, window="01:00-02:00")),
        ("gw-2", "north", {}, Limits(pin=3, window="03:00-04:00")),
        ("gw-2", "south", {}, Limits(hold="the centre", window="03:00-04:00")),
        ("gw-1", "", {"hold": False, "pin": {"rul-x": 9}}, Limits(pin=9)),
        ("gw-9", "", {"hold": True}, Limits(hold="KPSTREAM_ROLLOUT_HOLD")),
        ("gw-2", "north", {"window": "05:00-06:00"}, Limits(pin=3, window="05:00-06:00")),
        ("gw-2", "", {"pin": {"other": 9}}, Limits(window="03:00-04:00")),
    ],
)
def test_own_limits_win_over_policies(
    gateway: str, group: str, own: dict[str, Any], expected: Limits
) -> None:
    found = limits_of("rul-x", POLICIES, gateway, group, **own)
    assert (found.pin, found.window) == (expected.pin, expected.window)
    assert expected.hold in found.hold
    assert bool(expected.hold) == bool(found.hold)

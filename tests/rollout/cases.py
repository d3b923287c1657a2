"""What is released to the fleet, and what must hold afterwards."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.rollout.release import Plan, Release, is_member
from models.artifact import Artifact
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task
from tests.fakes.badstudents import Trap, write_bad
from tests.rollout.fleet import ACTIVITY, RUL, Fleet, FleetFailed
from tests.rollout.ledger import unbalanced

__all__ = ["BAD", "BadCase", "BadOutcome", "GoodOutcome", "Trouble", "run_bad", "run_good"]

MOST_BACK_S = 30.0
"""Seconds from the evidence until the champion scores again."""
_TRAP = Trap(channel=0, low=50.0, high=1000.0)
"""Around `tests.rollout.feed.TRAPPED`, after the scaler of the dummy students."""
_BEGUN = ("shadow", "probation", "failed")


@dataclass(frozen=True, slots=True)
class BadCase:
    """A bad student.

    Attributes:
        name: What is wrong with it, in words.
        fault: Its fault, of `tests.fakes.badstudents.FAULTS`.
        student: Name of the student that it takes the place of.
        trap: Traps in the windows: "" for none, "always", or the number of windows that the new
            student has scored when the traps begin.
        phase: The phase in which it must be found out.
    """

    name: str
    fault: str
    student: str = RUL
    trap: str = ""
    phase: str = "shadow"


BAD = (
    BadCase("NaN for some windows", "nan", trap="always"),
    BadCase("NaN once it has taken over", "nan", trap="1", phase="probation"),
    BadCase("constant", "constant"),
    BadCase("ten times slower", "slow"),
    BadCase("scores shifted by two interval widths", "shifted"),
    BadCase("wrong order of the labels", "labels", student=ACTIVITY),
    BadCase("crash at the thousandth window", "raises", trap="1000", phase="probation"),
)


@dataclass(slots=True)
class BadOutcome:
    """What a bad student has done to the fleet.

    Attributes:
        case: The student.
        members: Gateways of the canary step.
        touched: Gateways on which it was compared or took over.
        failed: Gateways that judged it unhealthy.
        scored: Windows that it scored as the running student.
        back_s: Longest time from the evidence to its last window, on any gateway.
        reason: Why the first gateway refused it.
    """

    case: BadCase
    members: list[str]
    touched: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    scored: int = 0
    back_s: float = 0.0
    reason: str = ""


def bad_student(fleet: Fleet, case: BadCase, version: int) -> Artifact:
    """The student of a case."""
    sound = fleet.sound[case.student]
    shift = 0.0
    interval = getattr(sound.manifest, "interval", None)
    if isinstance(find_task(sound.manifest.task).answer, NumberAnswer) and interval is not None:
        shift = 2.0 * (interval.high - interval.low)
    path = fleet.students / f"{case.fault}-{version}"
    return write_bad(path, sound, case.fault, version=version, trap=_TRAP, shift=shift, work=1500)


def run_bad(fleet: Fleet, case: BadCase, version: int, plan: Plan) -> BadOutcome:
    """Release a bad student, wait until every canary has judged it, and abort the release.

    Raises:
        FleetFailed: It went further than its step, or did not end where it must.
    """
    with fleet.trap(case.trap or "0"):
        release = fleet.release(bad_student(fleet, case, version), plan)
        outcome = BadOutcome(case, _members(fleet, release))
        _require(0 < len(outcome.members) < len(fleet.names), "the canary is a part of the fleet")
        fleet.until(
            lambda: fleet.now(case.student).state == "paused", f"{case.name}: the release pauses"
        )
        # What is in shadow goes on, and fails by its own evidence.
        fleet.until(
            lambda: not _undecided(fleet, release, outcome.members),
            f"{case.name}: {outcome.members} judge it",
        )
    _examine(fleet, release, outcome)
    fleet.abort(case.student)
    return outcome


def _undecided(fleet: Fleet, release: Release, members: Sequence[str]) -> list[str]:
    """Members that have begun with a release and have not judged it."""
    found = []
    for name in members:
        phases = [each.phase for each in fleet.phases(name) if each.release == release.number]
        if any(phase in ("shadow", "probation") for phase in phases) and phases[-1] != "failed":
            found.append(name)
    return found


def _examine(fleet: Fleet, release: Release, outcome: BadOutcome) -> None:
    case = outcome.case
    states = fleet.history(case.student, release.number)
    _require({each.step for each in states} == {0}, f"{case.name}: no step after the canary")
    for name in fleet.names:
        phases = [each.phase for each in fleet.phases(name) if each.release == release.number]
        windows = [
            (batch.ms, batch.stream)
            for batch in fleet.batches(name)
            for _, version in batch.scored
            if version == release.version and batch.stream == _stream(fleet, case)
        ]
        if windows or any(phase in _BEGUN for phase in phases):
            outcome.touched.append(name)
        if "failed" not in phases:
            _require(not windows, f"{case.name}: {name} still scores with it")
            continue
        outcome.failed.append(name)
        _require(
            case.phase in phases, f"{case.name}: {name} judged it in {phases}, not in {case.phase}"
        )
        _require(
            (case.phase == "shadow") == ("probation" not in phases),
            f"{case.name}: {name} went through {phases}",
        )
        evidence = [
            each
            for each in fleet.events(name, "failed")
            if each["student"] == case.student and isinstance(each["ms"], int)
        ][-1]
        outcome.scored += len(windows)
        outcome.reason = outcome.reason or str(evidence["reason"])
        last_ms = max((ms for ms, _ in windows), default=0)
        outcome.back_s = max(outcome.back_s, (last_ms - int(str(evidence["ms"]))) / 1000)
    _require(bool(outcome.failed), f"{case.name}: somebody judged it")
    outside = sorted(set(outcome.touched) - set(outcome.members))
    _require(not outside, f"{case.name}: it touched {outside}, which are not in its step")
    _require(outcome.back_s <= MOST_BACK_S, f"{case.name}: back after {outcome.back_s} s")
    balance(fleet)


@dataclass(frozen=True, slots=True)
class Trouble:
    """How much is done to the fleet while a good student comes.

    Attributes:
        controls: Kills of the control process.
        gateways: Gateways killed, paused and cut off, each.
        seed: Which gateways, in which order.
    """

    controls: int = 10
    gateways: int = 5
    seed: int = 0


@dataclass(slots=True)
class GoodOutcome:
    """What became of a good student.

    Attributes:
        steps: Step and time at which it began, epoch seconds.
        shares: Members of each step.
        controls_killed: Kills of the control process.
        troubled: What was done to which gateway.
        champions: Gateways that run it as their champion or on probation, as the centre knows.
        scored: Windows that it scored.
        windows: Windows of all gateways, all cases.
    """

    steps: list[tuple[int, int]] = field(default_factory=list)
    shares: list[int] = field(default_factory=list)
    controls_killed: int = 0
    troubled: list[str] = field(default_factory=list)
    champions: list[str] = field(default_factory=list)
    scored: int = 0
    windows: int = 0


def run_good(fleet: Fleet, version: int, plan: Plan, trouble: Trouble) -> GoodOutcome:
    """Release a good student while processes die, and wait until all gateways run it.

    Raises:
        FleetFailed: It did not reach all of them, or a step was too short.
    """
    sound = fleet.sound[RUL]
    path = fleet.students / f"good-{version}"
    good = write_bad(path, sound, "shifted", version=version, shift=1e-3)
    killed_before = fleet.controls_killed
    release = fleet.release(good, plan)
    outcome = GoodOutcome()
    disturbance = _disturb(fleet, trouble, outcome)
    until_step = len(plan.steps) - 1

    def is_done() -> bool:
        now = fleet.now(RUL)
        _require(now.state in ("running", "complete"), f"the release is {now.state}: {now.reason}")
        next(disturbance, None)
        return now.state == "complete"

    fleet.until(is_done, "the release is complete", 1800.0)
    for _ in disturbance:  # what is paused or cut comes back in any case
        fleet.until(lambda: True, "")
    fleet.until(
        lambda: len(_running(fleet, good)) == len(fleet.names),
        f"all gateways report v{version}, not only {len(_running(fleet, good))}",
    )
    outcome.champions = _running(fleet, good)
    outcome.controls_killed = fleet.controls_killed - killed_before
    _check_steps(fleet, release, plan, outcome)
    _require(outcome.steps[-1][0] == until_step, "the last step was reached")
    for name in fleet.names:
        scored = [v for batch in fleet.batches(name) for _, v in batch.scored]
        outcome.scored += scored.count(version)
        outcome.windows += len(scored)
    balance(fleet)
    return outcome


def balance(fleet: Fleet) -> None:
    """Check that no window of any gateway is lost, doubled, unscored or without a finite score.

    Raises:
        FleetFailed: One is.
    """
    for name in fleet.names:
        odd = unbalanced(fleet.batches(name))
        _require(not odd, f"{name}: {len(odd)} windows, such as {odd[:3]}")


def _disturb(fleet: Fleet, trouble: Trouble, outcome: GoodOutcome):  # type: ignore[no-untyped-def]
    """Do one thing at each step of the iteration, spread over the release."""
    chance = random.Random(trouble.seed)
    acts = ["control"] * trouble.controls
    acts += [kind for kind in ("kill", "pause", "cut") for _ in range(trouble.gateways)]
    chance.shuffle(acts)
    victims = chance.sample(fleet.names, k=min(len(fleet.names), 3 * trouble.gateways))
    for act in acts:
        if act == "control":
            fleet.kill_control()
            yield
            fleet.start_control()
        else:
            name = victims[len(outcome.troubled) % len(victims)]
            outcome.troubled.append(f"{act} {name}")
            if act == "kill":
                fleet.kill(name)
            elif act == "pause":
                fleet.send(name, signal.SIGSTOP)
            else:
                fleet.lines.cut(name)
            yield from _looks(10)
            if act == "pause":
                fleet.send(name, signal.SIGCONT)
            elif act == "cut":
                fleet.lines.mend(name)
        yield from _looks(10)


def _looks(count: int):  # type: ignore[no-untyped-def]
    for _ in range(count):
        yield


def _members(fleet: Fleet, release: Release) -> list[str]:
    return [name for name in fleet.names if is_member(release, name)]


def _running(fleet: Fleet, artifact: Artifact) -> list[str]:
    """Gateways that run a student, as the centre knows."""
    name = artifact.manifest.name
    return [
        known.gateway
        for known in fleet.known()
        if (student := known.student(name)) is not None and student.digest == artifact.digest
    ]


def _check_steps(fleet: Fleet, release: Release, plan: Plan, outcome: GoodOutcome) -> None:
    """Each step came once, in order, and lasted its time, whoever was killed."""
    states = fleet.history(RUL, release.number)
    for state in states:
        if not outcome.steps or outcome.steps[-1][0] != state.step:
            outcome.steps.append((state.step, state.step_since_s))
            outcome.shares.append(len(_members(fleet, state)))
    steps = [step for step, _ in outcome.steps]
    _require(steps == list(range(len(plan.steps))), f"the steps were {steps}")
    for (step, since_s), (_, next_s) in zip(outcome.steps, outcome.steps[1:], strict=False):
        seconds = plan.steps[step].seconds
        _require(next_s - since_s >= seconds, f"step {step} took {next_s - since_s} s")
    for name in fleet.names:  # nobody began before its step
        began = [
            batch.ms // 1000
            for batch in fleet.batches(name)
            if any(version == release.version for _, version in batch.scored)
        ]
        first = next(state for state in states if is_member(state, name))
        _require(
            not began or began[0] >= first.step_since_s,
            f"{name} scored with it before its step began",
        )


def _stream(fleet: Fleet, case: BadCase) -> str:
    return fleet.sound[case.student].manifest.stream


def _require(is_so: bool, what: str) -> None:
    if not is_so:
        raise FleetFailed(what)

"""Whether a new student is published: one rule for every task, the same for every way of training.

The first of these that applies decides:

1. It gives the same scores as the running student: the same graph, read in the same way.
2. It is not clearly better than every rival (the running student, baselines): the 90 % interval of
   the gain over held-out groups reaches zero.
3. Its gain in the headline measure is below the smallest one that matters. By default that is the
   noise of the measurement: the standard error of the gain over the held-out groups, and at least
   0.1 % of the rival's value, so that rounding is never a gain.
4. It gives the same scores as a version that was rejected, or is equal to one within the interval.
5. Its name is held or pinned.

Otherwise it is published. Nothing here reads or writes files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from models.manifest import Manifest, gives_same_scores
from models.tasks.registry import find_task
from training.classical import BASELINES
from training.evaluate import MEASURE_TITLES, Rival
from training.recipes import labelled_tasks

__all__ = [
    "HELD",
    "NOT_BETTER",
    "REJECTED",
    "Decision",
    "RejectedVersion",
    "decide",
    "format_gain",
    "headline_title",
]

NOT_BETTER = 3
"""Exit code: not better than the running student, or not clearly."""
HELD = 6
"""Exit code: the name is held or pinned."""
REJECTED = 7
"""Exit code: equal to a version that was rejected."""

_LEAST_SHARE = 0.001
"""Float32 scores of one student differ by less than 4e-5 between processors."""

Outcome = Literal["first", "better", "same", "not better", "too small", "rejected", "held"]
_CODES: Mapping[Outcome, int] = {"first": 0, "better": 0, "held": HELD, "rejected": REJECTED}


@dataclass(frozen=True, slots=True)
class RejectedVersion:
    """A version that was rejected.

    Attributes:
        manifest: Its manifest.
        why: When, by whom and why it was rejected.
        rival: The new student against it; None if the two cannot be compared.
    """

    manifest: Manifest
    why: str
    rival: Rival | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a new student.

    Attributes:
        outcome: The rule that applied.
        reason: Why, as a sentence.
        smallest: The smallest gain that matters over each rival, by its name.
    """

    outcome: Outcome
    reason: str
    smallest: Mapping[str, float]

    @property
    def publishes(self) -> bool:
        """Whether the student may be published."""
        return self.outcome in ("first", "better")

    @property
    def exit_code(self) -> int:
        """Exit code of the run, unless a centre does not release what it published."""
        return _CODES.get(self.outcome, NOT_BETTER)


def decide(
    new: Manifest,
    running: Manifest | None,
    rivals: Sequence[Rival],
    rejected: Sequence[RejectedVersion] = (),
    *,
    obstacle: str = "",
    min_gain: float | None = None,
) -> Decision:
    """Decide about a new student; see the module.

    Args:
        new: Its manifest.
        running: Manifest of the running student; None for none.
        rivals: Everything that it has to beat, the running student among them.
        rejected: The rejected versions of its name.
        obstacle: Why nothing may be published under its name; "" if it may.
        min_gain: Smallest gain that matters, in the unit of the headline measure; None for the
            noise of the measurement.
    """
    smallest = {rival.name: _smallest_gain(rival, min_gain) for rival in rivals}
    outcome, reason = _judge(new, running, rivals, rejected, obstacle, smallest)
    return Decision(outcome, reason, smallest)


def headline_title(new: Manifest) -> str:
    """Title of the headline measure."""
    name = find_task(new.task).headline.name
    return MEASURE_TITLES.get(name, name)


def format_gain(new: Manifest, value: float) -> str:
    """A gain in the headline measure, with the unit if it has one."""
    unit = find_task(new.task).answer.unit(new.decoding)
    return f"{value:.3g}" + ("" if unit in ("", "1") else f" {unit}")


def _judge(
    new: Manifest,
    running: Manifest | None,
    rivals: Sequence[Rival],
    rejected: Sequence[RejectedVersion],
    obstacle: str,
    smallest: Mapping[str, float],
) -> tuple[Outcome, str]:
    if running is not None and gives_same_scores(running, new):
        text = f"the same graph as that of the running {running.name} v{running.version}"
        return "same", f"It is {text}, so it gives the same scores."
    ahead = [rival for rival in rivals if not rival.comparison.is_better]
    if ahead:
        is_worse = all(rival.comparison.high < 0 for rival in ahead)
        word = "worse" if is_worse else "not clearly better"
        names = " and ".join(
            f"{rival.name} (90 % interval of the gain [{rival.comparison.low:.4g}, "
            f"{rival.comparison.high:.4g}])"
            for rival in ahead
        )
        hint = ""
        is_labelled = find_task(new.task) in labelled_tasks()  # a forecast has no such option
        if is_labelled and {rival.name for rival in ahead} <= set(BASELINES[1:]):
            hint = " To publish it all the same, add --despite-baselines."
        return "not better", f"It is {word} than {names}.{hint}"
    for rival in rivals:
        if rival.gain < smallest[rival.name]:
            return "too small", (
                f"Its {headline_title(new)} is better than that of {rival.name} by "
                f"{format_gain(new, rival.gain)}, which is less than the smallest gain that "
                f"matters, {format_gain(new, smallest[rival.name])}."
            )
    for one in rejected:
        title = f"v{one.manifest.version}, which was rejected ({one.why})"
        if gives_same_scores(one.manifest, new):
            return "rejected", f"It gives the same scores as {title}."
        if one.rival is not None and _is_equal(one.rival):
            gain = one.rival.comparison
            return "rejected", (
                f"It is equal to {title}: 90 % interval of the gain over it [{gain.low:.4g}, "
                f"{gain.high:.4g}]."
            )
    if obstacle:
        return "held", f"It is better, but {obstacle}."
    if running is None:
        ahead_of_all = ", and this one is better than every rival" if rivals else ""
        return "first", f"No student scores the stream yet{ahead_of_all}."
    return "better", "It is better than every rival."


def _smallest_gain(rival: Rival, min_gain: float | None) -> float:
    """The smallest gain over a rival that matters, in the unit of the headline measure.

    Args:
        rival: The rival.
        min_gain: What the user chose; None for the noise of the measurement.
    """
    if min_gain is not None:
        return min_gain
    return max(rival.noise, _LEAST_SHARE * abs(rival.value))


def _is_equal(rival: Rival) -> bool:
    """Whether neither of the two is clearly better."""
    return rival.comparison.low <= 0 <= rival.comparison.high

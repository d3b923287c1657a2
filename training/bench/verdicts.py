"""What paired differences of a teacher say: one rule for the teachers and for their students.

A teacher with a language model has two controls: the same net with random weights in its language
model, and the same net without one. It `helps` only if it is better than what it is compared with
first (`none`) and than every control, each with its whole interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.bench.stats import interval_95

__all__ = ["Difference", "controls_of", "crossed", "over_seeds", "verdict"]

_FEWEST = 3  # values of an interval
_METHODS = ("llata", "timellm")
_WITHOUT_MODEL = ("none", "ridge", "ensemble")
_CONTROLS = ("-random", "-none", "-shuffled")


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference, and how sure it is.

    Attributes:
        mean: Mean of the differences; negative is better.
        half: Half of its 95 % interval; nan if there are fewer than three values.
    """

    mean: float
    half: float

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.mean + self.half < 0

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.mean - self.half > 0

    def __str__(self) -> str:
        half = "" if math.isnan(self.half) else f" ± {self.half:.4f}"
        return f"{self.mean:+.4f}{half}"


def over_seeds(values: Sequence[float]) -> Difference | None:
    """Describe one difference for each seed; None for no values.

    >>> print(over_seeds([-0.01, -0.011, -0.012]), over_seeds([0.5]))
    -0.0110 ± 0.0025 +0.5000
    """
    if not values:
        return None
    half = interval_95(values) if len(values) >= _FEWEST else math.nan
    return Difference(float(np.mean(values)), half)


def crossed(values: Mapping[tuple[int, int], float]) -> Difference | None:
    """Describe differences by (training of the teacher, seed of the student).

    Only the seeds that every training has count. Both the trainings and the seeds are samples, so
    the variance of the mean is that over trainings (of their means) plus that over seeds (of
    theirs), and so are the squares of the halves. That counts the luck of a single run twice: the
    interval is too wide rather than too narrow.

    >>> print(crossed({(t, s): t + 10 * s for t in range(3) for s in range(3)}))
    +11.0000 ± 24.9673
    """
    trainings = sorted({training for training, _ in values})
    seeds = sorted({seed for _, seed in values})
    seeds = [s for s in seeds if all((training, s) in values for training in trainings)]
    if not seeds:
        return None
    table = np.array([[values[training, seed] for seed in seeds] for training in trainings])
    if min(table.shape) < _FEWEST:
        return Difference(float(table.mean()), math.nan)
    halves = (interval_95(list(table.mean(axis=axis))) for axis in (0, 1))
    return Difference(float(table.mean()), math.hypot(*halves))


def controls_of(teacher: str) -> tuple[str, ...]:
    """Name the controls of a teacher with a language model; none for another teacher.

    A teacher of students is named by its method (`llata`), a trial of a teacher by its language
    model (`smollm2, text`), because the method has a table of its own.

    >>> controls_of("llata"), controls_of("llata-random"), controls_of("ensemble")
    (('llata-random', 'llata-none'), (), ())
    >>> controls_of("smollm2, text"), controls_of("minilm"), controls_of("random prototypes")
    (('random', 'none'), ('minilm random', 'none'), ())
    """
    method = teacher.partition("-")[0]
    is_random = "random" in teacher.partition(",")[0].split()
    if teacher in _WITHOUT_MODEL or teacher.endswith(_CONTROLS) or is_random:
        return ()
    if method in _METHODS:
        return (f"{teacher}-random", f"{method}-none")
    return ("minilm random" if teacher.startswith("minilm") else "random", "none")


def verdict(
    teacher: str, over_none: Difference | None, over_controls: Sequence[Difference | None]
) -> str:
    """Say what the differences of a teacher show.

    Args:
        teacher: Name of the teacher.
        over_none: Difference from `none`.
        over_controls: Differences from each of `controls_of(teacher)`; None: not measured.

    Returns:
        `helps`, `hurts` or `not shown`; `lower, a control` if the teacher is a control and has a
        lower error; empty if there are too few values, or nothing to compare.

    >>> low = Difference(-0.01, 0.001)
    >>> verdict("llata", low, [low, None]), verdict("llata", low, [low, low])
    ('not shown', 'helps')
    >>> verdict("ensemble", low, []), verdict("llata-shuffled", low, [])
    ('helps', 'lower, a control')
    """
    if over_none is None or math.isnan(over_none.half):
        return ""
    if over_none.is_above:
        return "hurts"
    if not all(one is not None and one.is_below for one in (over_none, *over_controls)):
        return "not shown"
    is_control = teacher.endswith(_CONTROLS) or "random" in teacher.split()
    return "lower, a control" if is_control else "helps"

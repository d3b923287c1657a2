"""One row of the table: a stress, the scores of the students, and what a gateway says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.session import Student
from models.tasks.contract import Scores
from models.tasks.quality import GOOD
from models.tasks.registry import find_task
from pipeline.scoring.quality import QualityCheck
from training.stress.plan import Material, Stress, plan_stresses
from training.stress.runs import Cut

__all__ = ["AS_IT_COMES", "Compute", "Measured", "Row", "measure_stresses"]

AS_IT_COMES = "as it comes"
"""Kind of the row without a stress."""
_FEWEST = 20  # windows from which the measure of a part says something

Compute = Callable[[NDArray[Any], NDArray[np.float32], NDArray[np.int64]], float]
"""The headline measure of truths `[n, ...]`, values `[n, ...]` and runs `[n]`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one student answered under a stress.

    Attributes:
        measure: Headline measure; None of fewer than twenty scores.
        flagged: Share of the scores with a flag, or of an unknown class.
        rest: Headline measure of the other scores, likewise.
    """

    measure: float | None
    flagged: float
    rest: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A stress and what it does to the students.

    Attributes:
        kind: See `Stress`.
        strength: See `Stress`; "" without a stress.
        channel: Channel, or sensor, that harms the first student most; "" for all.
        scores: Scores as a share of those without a stress.
        found: What each student answered, by its name.
    """

    kind: str
    strength: str
    channel: str
    scores: float
    found: dict[str, Measured]


def measure_stresses(
    students: Sequence[Student],
    material: Material,
    compute: Compute | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure students under every stress that applies to the first of them.

    Args:
        students: Forms of one student, e.g. in float32 and in eight bits: they read the same
            windows.
        material: Labelled windows and runs, which no student has learned from.
        compute: Headline measure; that of the task by default.
        on_row: Called with each row.

    Raises:
        ValueError: The manifest does not say what the student has learned from.
    """
    first = students[0].manifest
    measure = find_task(first.task).headline
    fewest = min(_FEWEST, len(material.plain))
    scorers = [_Scorer(one, compute or _headline(first.task), fewest) for one in students]
    rows: list[Row] = []
    for stress in (Stress(AS_IT_COMES, "", {"": lambda on: on.plain}), *plan_stresses(first)):
        parts = [(name, change(material)) for name, change in stress.changes.items()]
        found = [(name, cut, scorers[0].measure(cut)) for name, cut in parts]
        channel, cut, worst = found[0]
        for other in found[1:]:
            if _is_worse(other[2], worst, larger_is_better=measure.better == "larger"):
                channel, cut, worst = other
        row = Row(
            stress.kind,
            stress.strength,
            channel,
            len(cut) / len(material.plain),
            {scorers[0].name: worst} | {scorer.name: scorer.measure(cut) for scorer in scorers[1:]},
        )
        on_row(row)
        rows.append(row)
    return rows


class _Scorer:
    """Scores windows with a student as a gateway does."""

    def __init__(self, student: Student, compute: Compute, fewest: int) -> None:
        self.name = student.manifest.name
        self._student = student
        self._answer = find_task(student.manifest.task).answer
        self._check = QualityCheck(student.manifest)
        self._compute = compute
        self._fewest = fewest

    def measure(self, cut: Cut) -> Measured:
        """Measure what the student answers to windows."""
        if not len(cut):
            return Measured(None, 0.0, None)
        scores = self._student.score(cut.windows)
        lost = self._answer.unfamiliar(scores)
        qualities = self._check.flags(cut.windows, cut.rates_hz, cut.made_up, lost)
        flagged = np.array([quality != GOOD for quality in qualities]) | _unknown(scores)
        rest = scores.valid & ~flagged
        return Measured(
            self._of(cut, scores, scores.valid),
            float(np.mean(flagged[scores.valid])) if scores.valid.any() else 0.0,
            self._of(cut, scores, rest),
        )

    def _of(self, cut: Cut, scores: Scores, chosen: NDArray[np.bool_]) -> float | None:
        if chosen.sum() < self._fewest:
            return None
        return self._compute(cut.truth[chosen], scores.values[chosen], cut.run[chosen])


def _headline(task: str) -> Compute:
    measure = find_task(task).headline
    return lambda truth, values, run: measure.compute(truth, values)


def _unknown(scores: Scores) -> NDArray[np.bool_]:
    """Which scores are of no known class, `[n]`."""
    known = getattr(scores, "known", None)
    return np.zeros(len(scores), np.bool_) if known is None else ~np.asarray(known)


def _is_worse(new: Measured, old: Measured, *, larger_is_better: bool) -> bool:
    if new.measure is None or old.measure is None:
        return new.measure is None and old.measure is not None
    return new.measure < old.measure if larger_is_better else new.measure > old.measure

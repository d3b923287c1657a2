"""Task `activity`: what a person does, or the state of a machine, with the probability of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.classes import (
    PROBABILITIES,
    PROBABILITY,
    PROBABILITY_PREFIX,
    ClassAnswer,
    ClassesDecoding,
    ClassScores,
)
from models.tasks.contract import Field, Hourly, HourlyField, Measure, Task

__all__ = ["ACTIVITY", "ActivityScores", "accuracy", "confusion_matrix", "macro_f1"]


@dataclass(frozen=True, slots=True)
class ActivityScores(ClassScores):
    """Activities of a batch."""

    def activity(self, row: int) -> str:
        """Label of the most probable activity of a row; `UNKNOWN` where it is not known."""
        return self.label(row)


def confusion_matrix(
    truth: NDArray[np.int64], winners: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts `[classes, classes]`: row is the truth, column the score."""
    return np.bincount(truth * classes + winners, minlength=classes**2).reshape(classes, classes)


def accuracy(truth: NDArray[np.int64], winners: NDArray[np.int64]) -> float:
    """Share of windows whose most probable class is the true one."""
    return float(np.mean(truth == winners))


def macro_f1(truth: NDArray[np.int64], winners: NDArray[np.int64], classes: int) -> float:
    """Unweighted mean of the F1 of the classes that occur in truth or scores.

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 6)
    0.6666666666666666
    """
    counts = confusion_matrix(truth, winners, classes)
    hits = np.diag(counts)
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0]))


def _macro_f1(truth: NDArray[Any], probabilities: NDArray[np.float32]) -> float:
    return macro_f1(truth, probabilities.argmax(axis=1), probabilities.shape[1])


def _accuracy(truth: NDArray[Any], probabilities: NDArray[np.float32]) -> float:
    return accuracy(truth, probabilities.argmax(axis=1))


ACTIVITY = Task(
    name="activity",
    title="Activity",
    about="one scored window of a person, or of a machine",
    answer=ClassAnswer("activity", scores=ActivityScores),
    decoding=ClassesDecoding,
    new_decoding=lambda labels, unknown: ClassesDecoding(
        kind="classes", output="probabilities", labels=labels, unknown=unknown
    ),
    fields=(
        Field("activity", "text", "", "the most probable class"),
        Field(PROBABILITY, "float", "1", "its probability"),
        Field(
            PROBABILITY_PREFIX,
            "float",
            "1",
            "prefix: one field per class, p_{label}",
            labels_in=PROBABILITIES,
        ),
    ),
    measures=(
        Measure("macro_f1", "larger", _macro_f1),
        Measure("accuracy", "larger", _accuracy),
    ),
    error_unit="share of wrong windows",
    hourly=Hourly(
        (
            HourlyField(
                Field("windows", "int", "windows", "windows of the hour with this activity"),
                "activity",
                "values",
            ),
        ),
        "how often something was done in an hour",
    ),
    card="activity",
    subject="person",
)

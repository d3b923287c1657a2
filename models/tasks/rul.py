"""Task `rul`: remaining useful life of a machine, in the unit of its student, with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Bounds

from models.tasks.contract import Field, Hourly, HourlyField, Measure, Task
from models.tasks.familiarity import Familiarity
from models.tasks.fields import Decoding, Float32, Label
from models.tasks.number import NumberAnswer, NumberScores

__all__ = [
    "CRITICAL_RUL",
    "MAX_RUL",
    "RUL",
    "RulDecoding",
    "RulScores",
    "bias",
    "nasa_score",
    "rmse",
]

MAX_RUL = 125
"""Cap of the remaining useful life, in cycles, per C-MAPSS practice (arXiv 2406.08765)."""
CRITICAL_RUL = 20.0
"""A machine is critical if the lower end of its interval, or without one its remaining useful life,
is below this, in the unit of its student. A score that is only unfamiliar is critical if even the
upper end of its widened interval is below it: an engine worn further than those that the student
has learned from can be unfamiliar until it fails. Console, alerts and explanations use this one
rule, and tests/fakes/duecases.py holds them to it."""


class RulDecoding(Decoding):
    """Output `rul` [batch] is the remaining useful life itself, between 0 and `max_rul`.

    `familiar` was added later: with it the graph also has the output `distance` [batch].
    """

    kind: Literal["rul"]
    output: Literal["rul"]
    unit: Label
    max_rul: Annotated[Float32, Bounds(gt=0)]
    familiar: Familiarity | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """0 and `max_rul`."""
        return 0.0, self.max_rul


@dataclass(frozen=True, slots=True)
class RulScores(NumberScores):
    """Remaining useful life of a batch, in the unit of the decoding."""

    @property
    def rul(self) -> NDArray[np.float32]:
        """[batch] float32, within [0, max_rul]; the same as `values`."""
        return self.values


def rmse(truth: NDArray[Any], rul: NDArray[np.float32]) -> float:
    """Root mean squared error in cycles, `[n]` against `[n]`."""
    return float(np.sqrt(np.mean((rul.astype(np.float64) - truth) ** 2)))


def nasa_score(truth: NDArray[Any], rul: NDArray[np.float32]) -> float:
    """Sum of exp(e/10) - 1 for late and exp(-e/13) - 1 for early scores, e = rul - truth.

    >>> nasa_score(np.array([10]), np.array([10.0], dtype=np.float32))
    0.0
    """
    error = rul.astype(np.float64) - truth
    exponent = np.minimum(np.where(error >= 0, error / 10, -error / 13), 14)
    return float(np.sum(np.expm1(exponent)))


def bias(truth: NDArray[Any], rul: NDArray[np.float32]) -> float:
    """Mean of rul - truth: positive for a student that is too optimistic."""
    return float((rul.astype(np.float64) - truth).mean())


def _is_critical(fields: Mapping[str, Any]) -> Any:
    return fields.get("rul_low", fields["rul"]) < CRITICAL_RUL


def _is_surely_critical(fields: Mapping[str, Any]) -> Any:
    """Whether the whole interval, which is widened where a window is unfamiliar, is below."""
    return fields.get("rul_high", math.inf) < CRITICAL_RUL


_HOURLY = Hourly(
    (
        HourlyField(
            Field("rul_mean", "float", "cycles", "mean of the scores in the hour"), "rul", "mean"
        ),
        HourlyField(Field("rul_min", "float", "cycles", "least of them"), "rul", "min"),
        HourlyField(Field("rul_max", "float", "cycles", "greatest of them"), "rul", "max"),
        HourlyField(Field("rul_last", "float", "cycles", "last of them"), "rul", "last"),
        HourlyField(
            Field(
                "rul_low_min", "float", "cycles", "lowest lower end of an interval", always=False
            ),
            "rul_low",
            "min",
        ),
        HourlyField(
            Field(
                "rul_high_max", "float", "cycles", "highest upper end of an interval", always=False
            ),
            "rul_high",
            "max",
        ),
        HourlyField(Field("windows", "int", "windows", "how many there were"), "rul", "count"),
    ),
    "an hour of a machine",
)

RUL = Task(
    name="rul",
    title="Remaining useful life",
    about="one scored window of a machine",
    answer=NumberAnswer("rul", "rul_low", "rul_high", scores=RulScores),
    decoding=RulDecoding,
    new_decoding=lambda labels, unknown: RulDecoding(
        kind="rul", output="rul", unit="cycles", max_rul=MAX_RUL
    ),
    fields=(
        Field("rul", "float", "cycles", "remaining useful life"),
        Field("rul_low", "float", "cycles", "lower end of its interval", always=False),
        Field("rul_high", "float", "cycles", "upper end of its interval", always=False),
        Field(
            "rul_due",
            "float",
            "cycles",
            "what alerts compare: the lower end, or rul without one; no doubtful score has it, "
            "unless it is only unfamiliar and surely critical",
            always=False,
        ),
    ),
    must_match=("unit",),
    measures=(
        Measure("rmse", "smaller", rmse),
        Measure("nasa_score", "smaller", nasa_score),
        Measure("bias", None, bias),
    ),
    error_unit="squared cycles",
    hourly=_HOURLY,
    card="rul",
    needs_attention=_is_critical,
    alarms_unfamiliar=_is_surely_critical,
    due_field="rul_due",
)

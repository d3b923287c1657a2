"""The calibrated interval of a number: ends relative to the score, constant or by a table."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.fields import Float32, Frozen, Growing

__all__ = ["Interval", "IntervalTable", "interval_ends"]


class IntervalTable(Frozen):
    """Ends of the interval as functions of the score, relative to it and in its unit.

    Linear between the knots, constant outside of them. The knots are named `rul` in the file
    format, whatever number the student answers.
    """

    rul: Annotated[tuple[Float32, ...], Field(min_length=2, max_length=64)]
    low: tuple[Float32, ...]
    high: tuple[Float32, ...]

    @model_validator(mode="after")
    def _consistent(self) -> IntervalTable:
        if not len(self.rul) == len(self.low) == len(self.high):
            msg = f"{len(self.rul)} knots rul, {len(self.low)} low and {len(self.high)} high"
            raise ValueError(msg)
        if any(left >= right for left, right in zip(self.rul, self.rul[1:], strict=False)):
            msg = "the knots rul do not ascend"
            raise ValueError(msg)
        for knot, low, high in zip(self.rul, self.low, self.high, strict=True):
            if low > high:
                msg = f"low {low} is above high {high} at rul {knot}"
                raise ValueError(msg)
        return self


class Interval(Growing):
    """The truth lies in [score + low, score + high] with probability `level`.

    `low` and `high` are one pair for all scores; `table`, where present, replaces them.
    """

    level: Annotated[Float32, Field(gt=0, lt=1)]
    low: Float32
    high: Float32
    table: IntervalTable | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            msg = f"low {self.low} is above high {self.high}"
            raise ValueError(msg)
        return self


def interval_ends(
    interval: Interval, values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper end of each score, absolute and not clipped, float32 [batch]."""
    table = interval.table
    if table is None:
        return values + np.float32(interval.low), values + np.float32(interval.high)
    low, high = (
        np.interp(values, table.rul, ends).astype(np.float32) for ends in (table.low, table.high)
    )
    return values + low, values + high

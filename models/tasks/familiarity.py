"""Familiarity: how far a window is from what a student of numbers has learned. Pure numpy.

The graph gives the distance as a second output. Beyond a limit the window is unfamiliar: its score
gets the quality flag `unfamiliar`, and its interval widens with the distance, up to the whole range
of the number. The width was calibrated on made-up shifts of readings of engines that the student
had not learned from. It is no promise for a real shift: outside of what was learned a student knows
nothing, and a wider interval only says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.fields import Float32, Frozen

__all__ = ["DISTANCE", "MAX_DISTANCE", "Familiarity", "widen"]

DISTANCE = "distance"
"""Name of the graph's output `[batch]` that holds the distances."""
MAX_DISTANCE = 100.0
"""The graph cuts distances off here, so that float32 tells them apart."""


class Familiarity(Frozen):
    """The rule for windows that are unlike what the student has learned.

    Attributes:
        output: Name of the graph's second output, `[batch]` distances from 0 to `MAX_DISTANCE`.
        limit: Windows beyond this distance are unfamiliar.
        whole: Distance from which the interval is the whole range of the number.
        rejects: Share of windows beyond the limit at calibration, of engines that the student had
            not learned from.
    """

    output: Literal["distance"] = "distance"
    limit: Annotated[Float32, Field(gt=0, lt=MAX_DISTANCE)]
    whole: Annotated[Float32, Field(gt=0, le=MAX_DISTANCE)]
    rejects: Annotated[Float32, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Familiarity:
        if self.whole <= self.limit:
            msg = f"whole {self.whole} is not above limit {self.limit}"
            raise ValueError(msg)
        return self


def widen(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    distances: NDArray[np.float32],
    familiarity: Familiarity,
    bounds: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Widen intervals by distance: up to `limit` nothing changes, from `whole` on all is possible.

    In between, each end moves in a straight line to its bound, so that a larger distance never
    gives a narrower interval.

    Args:
        low: Lower ends `[n]`, within the bounds.
        high: Upper ends `[n]`, within the bounds.
        distances: Distances `[n]`, not negative.
        familiarity: Rule of the student.
        bounds: Smallest and largest number.
    """
    limit, whole = np.float32(familiarity.limit), np.float32(familiarity.whole)
    share = (distances - limit) * np.float32(1 / (whole - limit))
    np.minimum(np.maximum(share, 0, out=share), 1, out=share)  # clip takes ten times as long
    least, most = map(np.float32, bounds)
    # In this form an end that is at its bound stays there exactly.
    return low - (low - least) * share, high + (most - high) * share

"""What a gateway compares of the scores that two students give to the same windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_LABELS", "Traits"]

NO_LABELS: NDArray[np.str_] = np.empty(0, dtype=np.str_)
"""The labels of an answer that is a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """Traits of scores, one row per window; rows without a valid score mean nothing.

    Attributes:
        numbers: [n, columns] float32 numbers whose distribution is compared; no columns for
            classes.
        grain: [columns] the smallest difference of each number by which a distribution shifts.
        labels: [n] the class of each window, or `NO_LABELS`. Two students need not have their
            labels in the same order, so classes are compared by name.
        unknown: [n] whether the window resembles no class that the student has learned.
        error: [n] error that the student shows without labels; None if the answer has none.
        covered: [n] share of readings inside the student's interval; None if nothing tells.
    """

    numbers: NDArray[np.float32]
    grain: NDArray[np.float32]
    labels: NDArray[np.str_]
    unknown: NDArray[np.bool_]
    error: NDArray[np.float64] | None = None
    covered: NDArray[np.float64] | None = None

"""How far an answer moves when readings of its window are replaced; see `models.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moved", "Neutral"]

Neutral = Literal["middle", "mixed", "expected"]
"""What readings are replaced by: `middle`, the median of the channel in training, for answers that
depend on how high readings are; `mixed`, the middle for a whole channel and a straight line for a
span, for answers that also depend on the course of the readings, because a span at another height
is a step that nobody measured; `expected`, what the student itself expected of the newest readings
(`Answer.expected`), and a straight line for a span of the readings before them."""


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """One number of an answer, and how far replaced readings move it.

    Attributes:
        name: The number, as part of a sentence: `remaining useful life`, `probability of WALKING`.
        unit: Its unit; "1" for a probability or a score from 0 to 1.
        change: [n] float64, the answer as it is minus the answer of each row, so above 0 where the
            readings that the row replaces have raised the number.
        noise: Changes of at most this are rounding, and count as 0.
    """

    name: str
    unit: str
    change: NDArray[np.float64]
    noise: float

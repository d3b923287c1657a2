"""What a student says about a batch of windows, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.manifest import UNKNOWN

__all__ = ["ActivityScores", "RulScores", "Scores"]


@dataclass(frozen=True, slots=True)
class RulScores:
    """Remaining useful life of a batch.

    Attributes:
        rul: [batch] float32, in the unit of the manifest, within [0, max_rul].
        low: [batch] float32 lower end of the calibrated interval (`rul` if there is none).
        high: [batch] float32 upper end, both clipped to [0, max_rul].
        valid: [batch] False where the window or the output was not finite; such rows hold 0.
    """

    rul: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rul)


@dataclass(frozen=True, slots=True)
class ActivityScores:
    """Class probabilities of a batch.

    Attributes:
        labels: class names, in the order of the columns of `probabilities`.
        probabilities: [batch, classes] float32.
        winners: [batch] int64 index of the most probable class (the first one of a tie).
        valid: [batch] False where the window or the output was not finite; such rows hold 0.
        known: [batch] False where the largest probability is below the threshold of the manifest:
            the window looks like no activity the student has learned.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    winners: NDArray[np.int64]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.winners)

    def activity(self, row: int) -> str:
        """Label of the most probable class of one row; `UNKNOWN` where it is not known."""
        return self.labels[int(self.winners[row])] if self.known[row] else UNKNOWN

    def probability(self, row: int) -> float:
        """The largest probability, also where the activity is not known."""
        return float(self.probabilities[row, self.winners[row]])


Scores = RulScores | ActivityScores

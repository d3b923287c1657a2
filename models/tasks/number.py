"""A kind of answer: one number with a range, such as remaining useful life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.tasks.interval import Interval, interval_ends

__all__ = ["BoundedNumber", "NumberAnswer", "NumberScores"]

# How much a score may depend on the batch around it, as a share of its range: float32 sums in
# another order at another batch size.
_REPEATABLE = 1e-5


class BoundedNumber(Protocol):
    """What a decoding offers for this kind of answer."""

    @property
    def unit(self) -> str:
        """Unit of the number."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest number that the graph gives."""


@dataclass(frozen=True, slots=True)
class NumberScores:
    """Numbers of a batch.

    Attributes:
        values: [batch] float32, within the bounds of the decoding.
        low: [batch] float32 lower end of the calibrated interval (`values` if there is none).
        high: [batch] float32 upper end; both ends are clipped to the bounds.
        valid: [batch] False where the window or the output was not finite; such rows hold 0.
    """

    values: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """One number per window; the graph's output is `[batch]`.

    Attributes:
        field: Field of the score record and of the measurement that holds the number.
        low_field: Field of the lower end of its interval; "" for a task without intervals.
        high_field: Field of the upper end; "" for a task without intervals.
        scores: Class of the scores.
    """

    field: str
    low_field: str = ""
    high_field: str = ""
    scores: type[NumberScores] = NumberScores

    @property
    def has_interval(self) -> bool:
        """Whether a manifest of this task may carry an interval."""
        return bool(self.low_field)

    @property
    def headline_field(self) -> str:
        """The field that stands for the whole score."""
        return self.field

    def dims(self, decoding: BoundedNumber) -> tuple[int, ...]:
        """Dimensions of the output after `batch`: none."""
        return ()

    def unit(self, decoding: BoundedNumber) -> str:
        """Unit of the number."""
        return decoding.unit

    def labels(self, decoding: BoundedNumber) -> tuple[str, ...]:
        """A number has no labels."""
        return ()

    def tolerance(self, decoding: BoundedNumber) -> float:
        """How much a score may change with the batch around it: 1e-5 of the range."""
        low, high = decoding.bounds
        return _REPEATABLE * (high - low)

    def flaw(self, raw: NDArray[np.float32], decoding: BoundedNumber) -> str | None:
        """What is wrong with the outputs of the self-test, None if nothing is.

        The last window of the self-test is all zeros in raw units, far from what a scaler has
        seen; a finite number is enough there.
        """
        typical = raw[:-1]
        low, high = decoding.bounds
        span = high - low
        if typical.min() < low - 1e-3 or typical.max() > high + 1e-5 * span:
            return (
                f"{self.field} from {typical.min()} to {typical.max()} leaves [{low:g}, {high:g}]: "
                "clip it inside the graph"
            )
        return None

    def decode(
        self,
        raw: NDArray[np.float32],
        valid: NDArray[np.bool_],
        decoding: BoundedNumber,
        interval: Interval | None,
    ) -> NumberScores:
        """Scores of raw outputs `[batch]`, clipped to the bounds; invalid rows hold 0."""
        least, most = map(np.float32, decoding.bounds)
        values = np.where(valid, raw, np.float32(0)).clip(least, most)
        if interval is None:
            return self.scores(values, values, values, valid)
        low, high = interval_ends(interval, values)
        return self.scores(values, low.clip(least, most), high.clip(least, most), valid)

    def record_fields(self, scores: NumberScores) -> Sequence[dict[str, Any]]:
        """Fields of the score record of each row, in order."""
        if not self.has_interval:
            return [{self.field: value} for value in scores.values.tolist()]
        columns = zip(
            scores.values.tolist(), scores.low.tolist(), scores.high.tolist(), strict=True
        )
        return [
            {self.field: value, self.low_field: low, self.high_field: high}
            for value, low, high in columns
        ]

    def window_errors(
        self, truth: NDArray[Any], values: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Squared error of each window, `[n]` against `[n]`."""
        return np.asarray((values - truth) ** 2, dtype=np.float64)

    def health(self, scores: NumberScores) -> dict[str, float]:
        """Live health figures of a batch; empty without a valid score."""
        if not scores.valid.any():
            return {}
        values, low, high = (
            part[scores.valid].astype(np.float64)
            for part in (scores.values, scores.low, scores.high)
        )
        return {"mean": float(values.mean()), "interval_width": float((high - low).mean())}

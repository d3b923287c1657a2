"""A kind of answer: one number with a range, such as remaining useful life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.columns import Column
from models.tasks.familiarity import MAX_DISTANCE, Familiarity, widen
from models.tasks.fields import Float32, Frozen, Growing, Place
from models.tasks.moved import Moved, Neutral
from models.tasks.outputs import Decode, Outputs, Tolerances
from models.tasks.traits import NO_LABELS, Traits

__all__ = [
    "BoundedNumber",
    "Interval",
    "IntervalTable",
    "NumberAnswer",
    "NumberScores",
    "Switching",
]

# How much a score may depend on the batch around it, as a share of its range: float32 sums in
# another order at another batch size.
_REPEATABLE = 1e-5
_DISTANCE_REPEATABLE = 1e-5 * MAX_DISTANCE
# Two numbers disagree fully if they are an interval apart, or this share of the range if that is
# more: an interval is narrow where it meets a bound, and a task may have none.
_APART = 0.2
_GRAIN = 0.1


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
            msg = "the knots rul must be in ascending order"
            raise ValueError(msg)
        for knot, low, high in zip(self.rul, self.low, self.high, strict=True):
            if low > high:
                msg = f"low {low} is above high {high} at rul {knot}"
                raise ValueError(msg)
        return self


class Switching(Frozen):
    """The ends for windows in which operating settings switch, where a student errs otherwise.

    Attributes:
        channels: Places of the settings among the channels.
        spreads: A window switches if the difference between the largest and the smallest reading of
            one of these channels is above its spread, in raw units.
        table: The ends.
    """

    channels: Annotated[tuple[Place, ...], Field(min_length=1)]
    spreads: tuple[Float32, ...]
    table: IntervalTable

    @model_validator(mode="after")
    def _consistent(self) -> Switching:
        if len(self.channels) != len(self.spreads):
            msg = f"{len(self.channels)} channels and {len(self.spreads)} spreads"
            raise ValueError(msg)
        return self

    def switches(self, windows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the raw windows `[batch, length, channels]` switch, `[batch]`."""
        settings = windows[:, :, list(self.channels)]
        with np.errstate(all="ignore"):  # a window may not be finite
            spread = settings.max(axis=1) - settings.min(axis=1)
            found: NDArray[np.bool_] = (spread > np.array(self.spreads, np.float32)).any(axis=1)
        return found


class Interval(Growing):
    """The truth lies in [score + low, score + high] with probability `level`.

    `low` and `high` are one pair for all scores; `table`, where present, replaces them, and
    `switching` replaces `table` for the windows that it names.
    """

    level: Annotated[Float32, Field(gt=0, lt=1)]
    low: Float32
    high: Float32
    table: IntervalTable | None = None
    switching: Switching | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            msg = f"low {self.low} is above high {self.high}"
            raise ValueError(msg)
        return self


class BoundedNumber(Protocol):
    """The interface of a decoding for this kind of answer."""

    @property
    def output(self) -> str:
        """Name of the graph's output."""

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
        has_interval: Whether there is one. Without it no record has ends, because an interval
            without width would say that the student is certain.
        valid: [batch] False where the window or an output was not finite, or the distance negative;
            such rows hold 0.
        unfamiliar: [batch] True where the window is unlike what the student has learned; None if
            the student cannot tell. `low` and `high` are widened there.
        distances: [batch] float32 distances to what it has learned, 0 for rows that are not valid;
            None likewise.
    """

    values: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    valid: NDArray[np.bool_]
    has_interval: bool = True
    unfamiliar: NDArray[np.bool_] | None = None
    distances: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """One number per window; the graph's output is `[batch]`.

    With a `Familiarity` in the decoding (its field `familiar`), the graph has a second output
    `[batch]`, the distance of the window to what was learned.

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

    def outputs(self, decoding: BoundedNumber) -> dict[str, tuple[int, ...]]:
        """The number, and the distance if there is a familiarity: no dimensions after `batch`."""
        rule = _familiar(decoding)
        found: dict[str, tuple[int, ...]] = {decoding.output: ()}
        return found if rule is None else found | {rule.output: ()}

    def unit(self, decoding: BoundedNumber) -> str:
        """Unit of the number."""
        return decoding.unit

    def labels(self, decoding: BoundedNumber) -> tuple[str, ...]:
        """A number has no labels."""
        return ()

    def tolerance(self, decoding: BoundedNumber) -> Tolerances:
        """Largest change of an output with the batch around it: 1e-5 of its range."""
        rule = _familiar(decoding)
        distance = {} if rule is None else {rule.output: _DISTANCE_REPEATABLE}
        return {decoding.output: _repeatable(decoding)} | distance

    def flaw(self, raw: Outputs, decoding: BoundedNumber) -> str | None:
        """The fault in the outputs of the self-test, or None.

        The last window of the self-test is all zeros in raw units, far outside the scaler's
        training data; a finite number is enough there.
        """
        typical = raw[decoding.output][:-1]
        low, high = decoding.bounds
        span = high - low
        if typical.min() < low - 1e-3 or typical.max() > high + 1e-5 * span:
            return (
                f"{self.field} from {typical.min()} to {typical.max()} is outside "
                f"[{low:g}, {high:g}]: clip it inside the graph"
            )
        rule = _familiar(decoding)
        if rule is not None:
            far = raw[rule.output]
            if far.min() < 0 or far.max() > MAX_DISTANCE:
                return (
                    f"{rule.output} from {far.min()} to {far.max()} is outside "
                    f"[0, {MAX_DISTANCE:g}]: clip it inside the graph"
                )
        return None

    def decoder(self, decoding: BoundedNumber, interval: Interval | None) -> Decode[NumberScores]:
        """Scores of raw outputs `[batch]`, clipped to the bounds; invalid rows hold 0.

        A window beyond the limit of the familiarity is unfamiliar, and its interval widened.
        """
        least, most = map(np.float32, decoding.bounds)
        rule = _familiar(decoding)
        limit = np.float32(0 if rule is None else rule.limit)

        def decode(
            raw: Outputs, valid: NDArray[np.bool_], windows: NDArray[np.float32]
        ) -> NumberScores:
            far, unfamiliar = None, None
            if rule is not None:
                far = raw[rule.output]
                valid = valid & (far >= 0)
                if not valid.all():
                    far = np.where(valid, far, np.float32(0))
                unfamiliar = far > limit
            values = np.where(valid, raw[decoding.output], np.float32(0)).clip(least, most)
            if interval is None:
                return self.scores(values, values, values, valid, False, unfamiliar, far)
            ends = _interval_ends(interval, values, windows)
            low, high = (end.clip(least, most) for end in ends)
            if rule is not None and far is not None and unfamiliar is not None and unfamiliar.any():
                low, high = widen(low, high, far, rule, decoding.bounds)
            return self.scores(values, low, high, valid, True, unfamiliar, far)

        return decode

    def columns(self, scores: NumberScores) -> dict[str, Column]:
        """Fields of the scores, as columns."""
        if not (self.has_interval and scores.has_interval):
            return {self.field: scores.values}
        return {
            self.field: scores.values,
            self.low_field: scores.low,
            self.high_field: scores.high,
        }

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
        mean = {"mean": float(values.mean())}
        if scores.unfamiliar is not None:
            mean["unfamiliar_share"] = float(scores.unfamiliar[scores.valid].mean())
        if not scores.has_interval:
            return mean
        return mean | {"interval_width": float((high - low).mean())}

    def disagreement(
        self, champion: NumberScores, challenger: NumberScores, decoding: BoundedNumber
    ) -> NDArray[np.float64]:
        """Distance in widths of the champion's interval, at most 1."""
        low, high = decoding.bounds
        widths = np.maximum(champion.high - champion.low, np.float32(_APART * (high - low)))
        apart = np.abs(champion.values.astype(np.float64) - challenger.values) / widths
        return np.asarray(np.minimum(apart, 1.0), dtype=np.float64)

    def unfamiliar(self, scores: NumberScores) -> NDArray[np.bool_] | None:
        """The windows beyond the limit of the student's familiarity; None if it has none."""
        return scores.unfamiliar

    def traits(
        self, scores: NumberScores, decoding: BoundedNumber, windows: NDArray[np.float32]
    ) -> Traits:
        """The number itself; a difference below a tenth of its range shifts no distribution."""
        low, high = decoding.bounds
        return Traits(
            numbers=scores.values[:, None],
            grain=np.array([_GRAIN * (high - low)], dtype=np.float32),
            labels=NO_LABELS,
            unknown=np.zeros(len(scores), dtype=np.bool_),
        )

    @property
    def neutral(self) -> Neutral:
        """How high readings are tells how worn a machine is, so the middle of training."""
        return "middle"

    def expected(self, scores: NumberScores) -> None:
        """Readings are not forecast."""

    def moved(
        self, before: NumberScores, after: NumberScores, decoding: BoundedNumber
    ) -> tuple[Moved]:
        """The change of the number, in its unit."""
        change = np.asarray(before.values[0] - after.values, dtype=np.float64)
        return (Moved(self.field, decoding.unit, change, _repeatable(decoding)),)


def _familiar(decoding: BoundedNumber) -> Familiarity | None:
    """The familiarity of a student; a decoding of its task need not have the field."""
    rule: Familiarity | None = getattr(decoding, "familiar", None)
    return rule


def _repeatable(decoding: BoundedNumber) -> float:
    low, high = decoding.bounds
    return _REPEATABLE * (high - low)


def _interval_ends(
    interval: Interval, values: NDArray[np.float32], windows: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper end of each score, absolute and not clipped, float32 [batch]."""
    if interval.table is None:
        low, high = np.float32(interval.low), np.float32(interval.high)
    else:
        low, high = _table_ends(interval.table, values)
    if interval.switching is not None:
        is_there = interval.switching.switches(windows)
        others = _table_ends(interval.switching.table, values)
        low, high = np.where(is_there, others[0], low), np.where(is_there, others[1], high)
    return values + low, values + high


def _table_ends(
    table: IntervalTable, values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = (
        np.interp(values, table.rul, ends).astype(np.float32) for ends in (table.low, table.high)
    )
    return low, high

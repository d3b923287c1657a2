"""The contract of a task: everything that the rest of kpstream uses about an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from models.tasks.classes import Unknown
from models.tasks.columns import Column, Columns
from models.tasks.fields import Decoding
from models.tasks.moved import Moved, Neutral
from models.tasks.number import Interval
from models.tasks.outputs import Decode, Outputs, Tolerances
from models.tasks.quality import QUALITY, UNFAMILIAR, doubtful, is_doubtful, unfamiliar
from models.tasks.traits import Traits

__all__ = [
    "Answer",
    "DetailPoint",
    "Details",
    "Field",
    "Hourly",
    "HourlyField",
    "HourlyFunction",
    "Kind",
    "Measure",
    "Scores",
    "Subject",
    "Task",
]

Kind = Literal["float", "int", "text"]
"""Type of a field. It never changes, because InfluxDB refuses another one. A fact is an int, 0 or
1, so that it can be summed and compared."""

Subject = Literal["machine", "person"]
"""What wears the sensors of a stream."""

HourlyFunction = Literal["mean", "min", "max", "last", "count", "values"]
"""How an hour of a field becomes one value: a function of Flux; `values` counts each text
separately and makes it a tag with the name of the field."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a measurement.

    Attributes:
        name: Name as stored; a prefix of names if `labels_in` is set.
        kind: Type of the value.
        unit: Unit of the number; "" for text, "1" for a fact (0 or 1) or a share (0 to 1).
        about: Meaning.
        grows: True for a counter.
        always: True if every point of the measurement has the field.
        labels_in: Key of a score record that holds `{label: number}`; each label becomes one field
            `{name}{label}`. "" for a plain field, whose key in a record is its name.
    """

    name: str
    kind: Kind
    unit: str
    about: str
    grows: bool = False
    always: bool = True
    labels_in: str = ""


@dataclass(frozen=True, slots=True)
class HourlyField:
    """One field of the hours: `function` over an hour of the score's field `source`."""

    field: Field
    source: str
    function: HourlyFunction


@dataclass(frozen=True, slots=True)
class Hourly:
    """Aggregation of an hour's scores to one point per series, in the measurement `{task}_hourly`.

    Attributes:
        fields: The fields, each with the function that makes it.
        about: Meaning of a point.
    """

    fields: tuple[HourlyField, ...]
    about: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of scores against the truth, in plain numpy.

    Attributes:
        name: Key in a manifest's metrics.
        better: Direction; None for a figure without a better side, such as a bias.
        compute: `(truth [n], values [n] or [n, classes])` to a number.
    """

    name: str
    better: Literal["smaller", "larger"] | None
    compute: Callable[[NDArray[Any], NDArray[np.float32]], float]

    def is_better(self, new: float, old: float) -> bool:
        """Whether `new` is strictly better than `old`; False without a direction."""
        if self.better is None:
            return False
        return new < old if self.better == "smaller" else new > old


@dataclass(frozen=True, slots=True)
class DetailPoint:
    """A point of a score beside its own.

    Attributes:
        tags: Values of `Details.tags`, in order.
        time_ms: Time of the point, epoch milliseconds.
        fields: Names of `Details.fields` with their values.
    """

    tags: tuple[str, ...]
    time_ms: int
    fields: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Details:
    """Further points of a score, in a measurement of their own.

    Attributes:
        measurement: Name of the measurement.
        tags: Tags that follow those of every score.
        fields: Fields of a point; all are floats and none is always there.
        keys: Keys of a score record that hold the details; they follow the task's fields.
        points: Makes the points of a score record. It may raise KeyError, TypeError, ValueError or
            AttributeError for a record that lacks them.
        about: Meaning of one point.
    """

    measurement: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    keys: tuple[str, ...]
    points: Callable[[Mapping[str, Any]], Iterator[DetailPoint]]
    about: str


class Scores(Protocol):
    """Scores of a batch, one row per window."""

    @property
    def values(self) -> NDArray[np.float32]:
        """The numbers themselves: [batch], or [batch, classes] probabilities."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[batch] False where the window or the output was not finite; such rows hold 0."""

    def __len__(self) -> int:
        """Number of rows."""


class Answer(Protocol):
    """A kind of answer: `NumberAnswer`, `ClassAnswer` or `QuantilesAnswer`.

    They are in `models.tasks.number`, `classes` and `quantiles`. An answer reads the decodings and
    scores of its own tasks only. Code that must distinguish the kinds (a loss, a chart) checks
    `isinstance(task.answer, NumberAnswer)`, never the name of a task.
    """

    @property
    def has_interval(self) -> bool:
        """Whether a manifest may carry an interval."""

    @property
    def headline_field(self) -> str:
        """The field of a record that stands for the whole score."""

    def outputs(self, decoding: Any) -> dict[str, tuple[int, ...]]:
        """Names of the graph's outputs and their dimensions after `batch`.

        Several outputs need not agree in their dimensions.
        """

    def unit(self, decoding: Any) -> str:
        """Unit of the answer; "" if it has none."""

    def labels(self, decoding: Any) -> tuple[str, ...]:
        """Labels of the answer; () if it has none."""

    def tolerance(self, decoding: Any) -> Tolerances:
        """Largest change of each output with the batch around it."""

    def flaw(self, raw: Outputs, decoding: Any) -> str | None:
        """The fault in the self-test's outputs, or None; the last window is all zeros."""

    def decoder(self, decoding: Any, interval: Interval | None) -> Decode[Scores]:
        """Make the function from raw outputs, validity and windows to scores, once per student.

        The windows are `[batch, length, channels]` in raw units. Rows that are not valid become 0.
        """

    def columns(self, scores: Any) -> dict[str, Column]:
        """Fields of the scores, as columns; see `models.tasks.columns`."""

    def window_errors(
        self, truth: NDArray[Any], values: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Error of each window, [n], smaller is better; training compares students by it."""

    def health(self, scores: Any) -> dict[str, float]:
        """Live health figures of a batch, without labels; empty without a valid score."""

    def disagreement(self, champion: Any, challenger: Any, decoding: Any) -> NDArray[np.float64]:
        """How far two students disagree on each window, [n] from 0 to 1.

        0: they say the same. 1: one of them is of no use where the other one is right. `decoding`
        is the champion's; rows without a valid score of both mean nothing.
        """

    def unfamiliar(self, scores: Any) -> NDArray[np.bool_] | None:
        """Which windows are unlike what the student has learned, [batch].

        They get the quality flag `unfamiliar`. None if the student cannot tell, or if the answer
        itself says so.
        """

    def traits(self, scores: Any, decoding: Any, windows: NDArray[np.float32]) -> Traits:
        """What a gateway compares of the scores of two students.

        `decoding` is the champion's for both of them, so that their units agree; `windows` are the
        scored ones, [n, length, channels] in raw units.
        """

    @property
    def neutral(self) -> Neutral:
        """What `models.explain` replaces readings by, to learn what they did to the answer."""

    def expected(self, scores: Any) -> NDArray[np.float32] | None:
        """The newest readings as the student expected them, [batch, steps, channels], raw units.

        None for an answer that expects none; one whose `neutral` is `expected` does.
        """

    def moved(self, before: Any, after: Any, decoding: Any) -> Sequence[Moved]:
        """How far the answer moved from `before` (scores of one row) to each row of `after`.

        At least one number; an explanation orders channels by the first one that moves at all.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """The question that a student answers. Two tasks are equal only if they are one object.

    Attributes:
        name: Name in manifests and on the topic `scores`.
        title: Display name of the answer: a heading on the console.
        about: Meaning of one point of the measurement.
        answer: Kind of answer.
        decoding: Class of the `decoding` in a manifest; its `kind` is a literal.
        new_decoding: Makes the decoding of a new student from the labels of its data set (() for
            numbers) and from the calibrated rule for unknown classes (None without one).
        fields: Fields of a score, with type, unit and meaning; the fields that every score has are
            added by `pipeline.points.measurements`.
        own_measurement: Name of the measurement of its scores; "" for the name of the task.
        details: Further points of a score; None if there are none.
        must_match: Fields of the decoding that a student must share with the one it replaces.
        measures: Measures on labelled windows; the first is the headline measure.
        error_unit: Unit of `answer.window_errors`, for reports.
        hourly: Hours in InfluxDB; None if there are none.
        card: Card of the console: `pipeline/console/web/cards/{card}.js`.
        needs_attention: Whether the fields of a score are at alert level, so that a gateway
            explains it at once; None if no score of the task is. It is also called with the columns
            of many scores, so it compares without `and`, `or`, `not` and `if`. Ask `is_alarming`
            or `alarming`.
        trusts_doubtful: Whether a doubtful score counts as any other: where odd readings are what
            the task looks for.
        alarms_unfamiliar: Whether a score that is doubtful only because its window is unfamiliar is
            at alert level nevertheless, as for `needs_attention`; None if none of the task is.
        due_field: Field of a point, and of no score record, that holds what an alert below a limit
            compares (`due_number`); "" for none. A point whose score says neither lacks it, so the
            newest value in a store is that of the newest score that says something.
        subject: What wears the sensors, unless the manifest of a student says otherwise.
    """

    name: str
    title: str
    about: str
    answer: Answer
    decoding: type[Decoding]
    new_decoding: Callable[[tuple[str, ...], Unknown | None], Decoding]
    fields: tuple[Field, ...]
    measures: tuple[Measure, ...]
    error_unit: str
    own_measurement: str = ""
    details: Details | None = None
    must_match: tuple[str, ...] = ()
    hourly: Hourly | None = None
    card: str = "generic"
    needs_attention: Callable[[Mapping[str, Any]], Any] | None = None
    trusts_doubtful: bool = False
    alarms_unfamiliar: Callable[[Mapping[str, Any]], Any] | None = None
    due_field: str = ""
    subject: Subject = "machine"

    def __post_init__(self) -> None:
        self.field(self.answer.headline_field)
        if self.due_field:
            self.field(self.due_field)
        if not self.measures or self.measures[0].better is None:
            msg = f"the first measure of task {self.name!r} needs a direction"
            raise ValueError(msg)

    @property
    def measurement(self) -> str:
        """Name of the measurement of its scores."""
        return self.own_measurement or self.name

    @property
    def decoding_kind(self) -> str:
        """The `kind` of this task's decoding in a manifest."""
        (kind,) = get_args(self.decoding.model_fields["kind"].annotation)
        return str(kind)

    @property
    def headline(self) -> Measure:
        """The measure that a student is judged by."""
        return self.measures[0]

    def is_alarming(self, fields: Mapping[str, Any]) -> bool | None:
        """Whether a score is at alert level.

        None for a doubtful one, which says neither: it raises no alarm and ends none. One that is
        only unfamiliar raises one if `alarms_unfamiliar` says so; it never ends one.
        """
        if self.needs_attention is None:
            return False
        if is_doubtful(fields) and not self.trusts_doubtful:
            rule = self.alarms_unfamiliar
            raises = rule is not None and fields[QUALITY] == UNFAMILIAR and bool(rule(fields))
            return True if raises else None
        return bool(self.needs_attention(fields))

    def alarming(self, columns: Columns, size: int) -> NDArray[np.bool_]:
        """Which of `size` scores, given as columns, are at alert level: `[size]`.

        They are those of which `is_alarming` is True.
        """
        if self.needs_attention is None:
            return np.zeros(size, np.bool_)
        found = _spread(self.needs_attention(columns), size)
        if self.trusts_doubtful:
            return found
        return (found & ~doubtful(columns, size)) | self._surely(columns, size)

    def tells(self, columns: Columns, size: int) -> NDArray[np.bool_]:
        """Which of `size` scores, given as columns, raise or end an alarm: `[size]`.

        They are those of which `is_alarming` is not None.
        """
        if self.needs_attention is None or self.trusts_doubtful:
            return np.ones(size, np.bool_)
        return ~doubtful(columns, size) | self._surely(columns, size)

    def _surely(self, columns: Columns, size: int) -> NDArray[np.bool_]:
        """Which of `size` scores are only unfamiliar and at alert level nevertheless: `[size]`."""
        found = unfamiliar(columns, size)
        if self.alarms_unfamiliar is None or not found.any():
            return np.zeros(size, np.bool_)
        return found & _spread(self.alarms_unfamiliar(columns), size)

    def due_number(self, fields: Mapping[str, Any]) -> float | None:
        """The lower end of a number, without one the number; None if `is_alarming` is None.

        Only for a task that answers with a number.
        """
        if self.is_alarming(fields) is None:
            return None
        found = fields.get(getattr(self.answer, "low_field", ""))
        return float(fields[self.answer.headline_field] if found is None else found)

    def field(self, name: str) -> Field:
        """The field of a score with this name.

        Raises:
            KeyError: The task has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        msg = f"task {self.name!r} has no field {name!r}"
        raise KeyError(msg)

    def measure(self, truth: NDArray[Any], values: NDArray[np.float32]) -> dict[str, float]:
        """All measures on labelled windows, and how many there were."""
        found = {measure.name: measure.compute(truth, values) for measure in self.measures}
        return found | {"windows": float(len(truth))}


def _spread(found: Any, size: int) -> NDArray[np.bool_]:
    """What a rule found of all scores, or of each, as `[size]`."""
    return np.broadcast_to(np.asarray(found, np.bool_), (size,))

"""The contract of a data set, and the scaler fitted to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from models.manifest import Channel, Scaler
from models.tasks.contract import Task
from models.tasks.fields import Decoding
from models.tasks.number import BoundedNumber
from models.tasks.registry import find_task
from training.errors import DataSetError
from training.windows import WindowSet

__all__ = ["SETS_APART", "DataSet", "fit_scaler", "largest_number"]

SETS_APART = 1000
"""Distance between the numbers of the groups of joined sets."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A labelled data set and the facts a manifest states about its windows.

    Attributes:
        name: Short name, part of the student's name, e.g. `FD001`.
        title: Name as shown to people and in the lineage.
        task: Name of the task, e.g. `rul` or `activity`.
        stream: Stream that a student of this set scores.
        group_word: Noun for a group: `engine` or `subject`.
        channels: Name and unit of every column, in order.
        rate_hz: Sampling rate; None where readings are cycles.
        length: Readings in a window.
        hop: Distance between the starts of two windows of the stream, in readings.
        gap_ms: Jump of event time that breaks a window; None for no limit.
        labels: Class names in the order of the class index; None where the answer is a number.
        scaling: `minmax` to [0, 1], `zscore`, or `conditions`: the first three channels are
            operating settings, and the graph scales per condition (`training.students.conditions`).
        train: Windows to learn from.
        test: Test set (RUL: the last window of every engine); None if absent.
        digest: SHA-256 of the content of `train`.
        terms: Terms of use of the data, part of the artifact's licence text.
        min_readings: Fewest readings of a window; a shorter window than `length` is padded in front
            by repeating the first reading. None for `length`.
        decoding: Fields of the decoding that differ from those of the task, such as `max_rul`.
        subject: `machine` or `person`, where it is not what the task expects.
        group_names: Names of the groups by their numbers; a group without one is its number.
        sets: Names of the sets that are joined in this one; () where none are.
    """

    name: str
    title: str
    task: str
    stream: str
    group_word: str
    channels: tuple[Channel, ...]
    rate_hz: float | None
    length: int
    hop: int
    gap_ms: int | None
    labels: tuple[str, ...] | None
    scaling: Literal["minmax", "zscore", "conditions"]
    train: WindowSet
    test: WindowSet | None
    digest: str
    terms: str
    min_readings: int | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    subject: Literal["machine", "person"] | None = None
    group_names: Mapping[int, str] = field(default_factory=dict)
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word, part in (("training", self.train), ("test", self.test)):
            if part is not None:
                self._check(f"{self.title}, {word} set", part)

    @property
    def contract(self) -> Task:
        """The task as an object: decoding, measures, kind of answer."""
        return find_task(self.task)

    @property
    def largest(self) -> int | None:
        """Largest number that a student of this set answers; None where it names a class."""
        return None if self.labels is not None else largest_number(self.task, self.decoding)

    @property
    def num_answers(self) -> int:
        """Number of possible answers: classes, or whole numbers from 0 to `largest`."""
        return len(self.labels or ()) if self.largest is None else self.largest + 1

    @property
    def error_unit(self) -> str:
        """Unit of the error of a window."""
        return self.contract.error_unit.replace("cycles", self.decoding.get("unit", "cycles"))

    def new_decoding(self, unknown: Any = None) -> Decoding:
        """Make the decoding of a student of this set.

        Args:
            unknown: Rule for windows of no known class; None for none.
        """
        return _decoding(self.task, self.decoding, self.labels or (), unknown)

    def name_groups(self, groups: NDArray[np.int64]) -> list[str]:
        """Names of groups, in their order."""
        return [self.group_names.get(int(group), str(group)) for group in groups]

    def sets_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell the place in `sets` of each group, `[n]`; zeros where no sets are joined."""
        return groups // SETS_APART if self.sets else np.zeros_like(groups)

    def _check(self, name: str, part: WindowSet) -> None:
        shape = (self.length, len(self.channels))
        if part.windows.shape[1:] != shape or part.windows.dtype != np.float32:
            msg = (
                f"{name}: the windows are {part.windows.dtype} {part.windows.shape}, expected "
                f"float32 (n, {shape[0]}, {shape[1]})"
            )
            raise DataSetError(msg)
        if not np.isfinite(part.windows).all():
            place = np.argwhere(~np.isfinite(part.windows))[0]
            msg = (
                f"{name}: {self.channels[place[2]].name} of window {place[0]} is "
                f"{part.windows[tuple(place)]}: fill or drop missing readings first"
            )
            raise DataSetError(msg)
        for word, values in (("labels", part.labels), ("groups", part.groups)):
            if values.dtype.kind not in "iu":
                msg = f"{name}: the {word} are {values.dtype}, expected whole numbers (int64)"
                raise DataSetError(msg)
        if len(part) and not 0 <= part.labels.min() <= part.labels.max() < self.num_answers:
            msg = (
                f"{name}: the labels are {part.labels.min()} to {part.labels.max()}, expected 0 to "
                f"{self.num_answers - 1}"
            )
            raise DataSetError(msg)


def _decoding(
    task: str, changes: Mapping[str, Any], labels: tuple[str, ...] = (), unknown: Any = None
) -> Decoding:
    made = find_task(task).new_decoding(labels, unknown)
    return made.model_validate(made.model_dump() | dict(changes)) if changes else made


def largest_number(task: str, changes: Mapping[str, Any] | None = None) -> int:
    """Return the largest number that a student of this task answers.

    Args:
        task: Name of the task.
        changes: Fields of the decoding that differ from those of the task.

    Raises:
        DataSetError: The numbers of the task do not begin at 0.
    """
    low, high = cast(BoundedNumber, _decoding(task, changes or {})).bounds
    if low:
        msg = (
            f"numbers of task {task} begin at {low:g}, and training needs numbers from 0 on: shift "
            "the answer of the task"
        )
        raise DataSetError(msg)
    return int(high)


def fit_scaler(kind: str, windows: NDArray[np.float32]) -> Scaler:
    """Fit the affine scaler on windows `[n, length, channels]` that a student may see.

    `triples` is `zscore` with one factor for each three channels (x, y, z) and without offsets, so
    that a turn of the sensor is a turn of the scaled windows too.

    A channel that never moves gets factor 0 and offset 0: it carries no information, and it must
    not explode if it moves later. Where the graph scales (`conditions`), this is the identity.
    """
    if kind == "conditions":
        channels = windows.shape[2]
        return Scaler(kind="affine", scale=(1.0,) * channels, offset=(0.0,) * channels)
    values = windows.reshape(-1, windows.shape[2]).astype(np.float64)
    if kind == "minmax":
        centre, spread = values.min(axis=0), np.ptp(values, axis=0)
    else:
        centre, spread = values.mean(axis=0), values.std(axis=0)
    if kind == "triples":
        centre = np.zeros_like(centre)
        spread = np.sqrt(np.square(spread).reshape(-1, 3).mean(axis=1)).repeat(3)
    moves = spread > 0
    scale = np.where(moves, 1 / np.where(moves, spread, 1), 0.0)
    offset = np.where(moves, -centre * scale, 0.0)
    return Scaler(kind="affine", scale=tuple(scale.tolist()), offset=tuple(offset.tolist()))

"""Queries over the scores of a task that answers with a class, such as an activity. Pure."""

from __future__ import annotations

from dashboards.queries.flux import read, text
from dashboards.queries.query import ColumnType, Query, per_series, table
from dashboards.queries.scores import FLEET, NEWEST_COLUMNS, ONE_DEVICE, SERIES, newest_scores
from dashboards.queries.stages import AT_THE_END, every
from models.tasks.classes import PROBABILITY, PROBABILITY_PREFIX
from models.tasks.contract import Task
from pipeline.points.measurements import hourly_measurement, score_measurement

__all__ = [
    "certainty",
    "class_by_device",
    "class_history",
    "class_now",
    "class_shares",
    "device_class",
    "device_probabilities",
    "least_certain",
]

_IMPORT_STRINGS = 'import "strings"\n\n'


def class_now(task: Task) -> Query:
    """Newest class of every device and its probability."""
    field = task.answer.headline_field
    columns: dict[str, ColumnType] = {"site": "text", "device": "text", "model": "text"}
    columns |= {field: "text", PROBABILITY: "float"}
    return table(
        f"{task.name}_now",
        newest_scores(task, [field, PROBABILITY]),
        columns | NEWEST_COLUMNS,
        sort=["site", "device", "model"],
    )


def class_shares(task: Task) -> Query:
    """Mean probability of every class over the fleet; the shares add up to 1."""
    return per_series(
        f"{task.name}_shares",
        [
            *read(score_measurement(task), [PROBABILITY_PREFIX], *FLEET),
            every("mean"),
            'group(columns: ["_field", "_time"])',
            "mean()",
            "group()",
            _class_from_field(task),
        ],
        (task.answer.headline_field,),
        head=_IMPORT_STRINGS,
    )


def class_by_device(task: Task) -> Query:
    """Most probable class of every device over time."""
    return per_series(
        f"{task.name}_by_device",
        [*read(score_measurement(task), [task.answer.headline_field], *FLEET), every("last")],
        SERIES,
        "text",
    )


def certainty(task: Task) -> Query:
    """Mean probability of the most probable class, by model."""
    return per_series(
        f"{task.name}_certainty",
        [
            *read(score_measurement(task), [PROBABILITY], *FLEET),
            every("mean"),
            'group(columns: ["model", "_time"])',
            "mean()",
        ],
        ("model",),
    )


def least_certain(task: Task) -> Query:
    """The ten devices with the lowest mean probability of the most probable class."""
    return per_series(
        f"{task.name}_least_certain",
        [
            *read(score_measurement(task), [PROBABILITY], *FLEET),
            "mean()",
            "group()",
            'sort(columns: ["_value"])',
            "limit(n: 10)",
            AT_THE_END,
        ],
        SERIES,
    )


def device_class(task: Task) -> Query:
    """Most probable class of one device over time."""
    return per_series(
        f"device_{task.name}",
        [*read(score_measurement(task), [task.answer.headline_field], *ONE_DEVICE), every("last")],
        SERIES,
        "text",
    )


def device_probabilities(task: Task) -> Query:
    """Probability of every class of one device over time."""
    return per_series(
        f"device_{task.name}_probabilities",
        [
            *read(score_measurement(task), [PROBABILITY_PREFIX], *ONE_DEVICE),
            every("mean"),
            _class_from_field(task),
        ],
        (task.answer.headline_field, "site", "device"),
        head=_IMPORT_STRINGS,
    )


def class_history(task: Task, bucket: str) -> Query:
    """Number of windows of each class in each hour of one device."""
    return per_series(
        f"{task.name}_history",
        read(hourly_measurement(task), ["windows"], *ONE_DEVICE, bucket=text(bucket)),
        (task.answer.headline_field, *SERIES),
        "int",
    )


def _class_from_field(task: Task) -> str:
    """A stage that turns the name of a probability's field into a column with the class."""
    return (
        "map(fn: (r) => ({r with "
        f"{task.answer.headline_field}: "
        f"strings.trimPrefix(v: r._field, prefix: {text(PROBABILITY_PREFIX)})}}))"
    )

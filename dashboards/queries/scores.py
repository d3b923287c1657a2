"""Queries over the scores of every task, and stages that the queries of one task share. Pure.

A query over every task reads the fields that each score has (`version`, `readings`, `gaps`,
`latency_ms`) from the measurements of all tasks, so a new task needs no query here.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import Where, names, pipe, read
from dashboards.queries.query import ColumnType, Query, per_series, table
from dashboards.queries.stages import AGE_S, PIVOT, every
from models.tasks.contract import Task
from pipeline.points.measurements import score_measurement

__all__ = [
    "FLEET",
    "NEWEST_COLUMNS",
    "ONE_DEVICE",
    "SERIES",
    "device_latency",
    "device_version",
    "device_windows",
    "devices_of_versions",
    "every_task",
    "latency_of_models",
    "newest_scores",
    "scores_of_models",
]

FLEET = (Where.selected("site"), Where.selected("model"))
"""Scores of the selected sites and models."""

ONE_DEVICE = (Where.selected("site"), Where.selected("device"))
"""Scores of the selected device."""

SERIES = ("site", "device", "model")
"""Labels of a series of scores."""

NEWEST_COLUMNS: dict[str, ColumnType] = {"version": "int", "age_s": "int"}
"""Columns that `newest_scores` adds to the fields of a task."""


def newest_scores(task: Task, fields: Sequence[str]) -> list[str]:
    """Stages that give the newest score of each device and model: a row with its fields and age."""
    return [
        *read(score_measurement(task), [*fields, "version"], *FLEET),
        "last()",
        PIVOT,
        f"group(columns: {names(('site', 'device', 'stream', 'model'))})",
        'sort(columns: ["_time"])',
        f'last(column: "{fields[0]}")',
        f"map(fn: (r) => ({{r with age_s: {AGE_S}}}))",
    ]


def device_windows(tasks: Sequence[Task]) -> Query:
    """Readings and gaps in the windows of one device."""
    stage = every_task(tasks, ["readings", "gaps"], ONE_DEVICE, every("mean"))
    return per_series("device_windows", [stage], ("_field", *SERIES))


def device_latency(tasks: Sequence[Task]) -> Query:
    """Longest time from receipt to score of one device, in milliseconds."""
    stage = every_task(tasks, ["latency_ms"], ONE_DEVICE, every("max"))
    return per_series("device_latency", [stage], SERIES, "int")


def device_version(tasks: Sequence[Task]) -> Query:
    """Version that scored one device."""
    stage = every_task(tasks, ["version"], ONE_DEVICE, every("last"))
    return per_series("device_version", [stage], SERIES, "int")


def scores_of_models(tasks: Sequence[Task]) -> Query:
    """Number of scores, by model."""
    return per_series(
        "scores_of_models",
        [
            every_task(tasks, ["version"], FLEET, every("count")),
            'group(columns: ["model", "_time"])',
            "sum()",
        ],
        ("model",),
        "int",
    )


def devices_of_versions(tasks: Sequence[Task]) -> Query:
    """Number of devices whose newest score is of a version, and the time of the newest score."""
    return table(
        "devices_of_versions",
        [
            every_task(tasks, ["version"], FLEET, "last()"),
            'rename(columns: {_value: "version"})',
            'group(columns: ["model", "version"])',
            "reduce(\n"
            "    identity: {devices: 0, newest: 1970-01-01T00:00:00Z},\n"
            "    fn: (r, accumulator) => ({\n"
            "      devices: accumulator.devices + 1,\n"
            "      newest: if r._time > accumulator.newest then r._time else accumulator.newest,\n"
            "    }),\n"
            "  )",
        ],
        {"model": "text", "version": "int", "devices": "int", "newest": "time"},
        sort=["model", "version"],
    )


def latency_of_models(tasks: Sequence[Task]) -> Query:
    """Longest time from receipt to score, by model, in milliseconds."""
    return per_series(
        "latency_of_models",
        [
            every_task(tasks, ["latency_ms"], FLEET, every("max")),
            'group(columns: ["model", "_time"])',
            "max()",
        ],
        ("model",),
        "int",
    )


def every_task(
    tasks: Sequence[Task], fields: Sequence[str], where: tuple[Where, ...], *more: str
) -> str:
    """A stage that reads fields from the measurements of all tasks as one stream of tables."""
    parts = [pipe(read(score_measurement(task), fields, *where), *more) for task in tasks]
    if len(parts) == 1:
        return parts[0]
    joined = ",\n".join("    " + part.replace("\n", "\n    ") for part in parts)
    return f"union(tables: [\n{joined},\n  ])"

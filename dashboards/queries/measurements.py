"""Measurements of the scores of a task: one point per window, and one per hour. Pure."""

from __future__ import annotations

from models.tasks.contract import Task
from pipeline.points.points import COMMON_FIELDS, Field, Measurement

__all__ = ["hourly_measurement", "score_measurement"]

_SCORE_TAGS = ("site", "device", "stream", "model")


def score_measurement(task: Task) -> Measurement:
    """The measurement of a task's scores: the task's own fields, then those of every score."""
    fields = tuple(Field(f.name, f.kind, f.unit, f.about, always=f.always) for f in task.fields)
    return Measurement(task.name, _SCORE_TAGS, (*fields, *COMMON_FIELDS), task.about)


def hourly_measurement(task: Task) -> Measurement:
    """The measurement of a task's hours.

    Raises:
        ValueError: The task has no hours.
    """
    if task.hourly is None:
        msg = f"task {task.name!r} has no hours: set `hourly` in its file"
        raise ValueError(msg)
    fields = tuple(
        Field(f.field.name, f.field.kind, f.field.unit, f.field.about, always=f.field.always)
        for f in task.hourly.fields
    )
    texts = tuple(f.source for f in task.hourly.fields if f.function == "values")
    return Measurement(f"{task.name}_hourly", (*_SCORE_TAGS, *texts), fields, task.hourly.about)

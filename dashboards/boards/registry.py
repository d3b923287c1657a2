"""The tasks with panels of their own, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.activity import activity_panels
from dashboards.boards.forecast import forecast_panels
from dashboards.boards.rul import rul_panels
from dashboards.boards.task_panels import TaskPanels
from dashboards.visuals.limits import Limits
from models.tasks.contract import Task

__all__ = ["panels_of"]

_TASK_PANELS = (
    rul_panels,
    forecast_panels,
    activity_panels,
)


def panels_of(tasks: Sequence[Task], limits: Limits, hourly_bucket: str) -> list[TaskPanels]:
    """Panels of the tasks that have some; the general boards also show the other tasks."""
    built = [build(tasks, limits, hourly_bucket) for build in _TASK_PANELS]
    return [panels for panels in built if panels.task in tasks]

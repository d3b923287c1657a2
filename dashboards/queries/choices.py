"""Queries that fill the template variables of boards. Pure.

They list the values of a tag in the board's time range, so a device that has sent nothing for that
long is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import BUCKET, START, Where, text
from dashboards.queries.query import Query, Shape
from models.tasks.contract import Task
from pipeline.points.measurements import DEVICE

__all__ = ["device_choices", "model_choices", "site_choices"]


def site_choices(tasks: Sequence[Task]) -> Query:
    """Sites with a score or an account."""
    return _choices("sites", "site", [DEVICE.name, *_names(tasks)])


def device_choices(tasks: Sequence[Task]) -> Query:
    """Devices of the selected site with a score or an account."""
    return _choices("devices", "device", [DEVICE.name, *_names(tasks)], Where.selected("site"))


def model_choices(tasks: Sequence[Task]) -> Query:
    """Models with a score."""
    return _choices("models", "model", _names(tasks))


def _names(tasks: Sequence[Task]) -> list[str]:
    return [task.measurement for task in tasks]


def _choices(name: str, tag: str, measurements: Sequence[str], *where: Where) -> Query:
    conditions = " or ".join(f"r._measurement == {text(name)}" for name in measurements)
    predicate = " and ".join([f"({conditions})", *(condition.flux for condition in where)])
    flux = (
        'import "influxdata/influxdb/schema"\n\n'
        f"schema.tagValues(bucket: {BUCKET}, tag: {text(tag)}, start: {START},\n"
        f"  predicate: (r) => {predicate})"
    )
    return Query(name, flux, Shape("choices", {"_value": "text"}))

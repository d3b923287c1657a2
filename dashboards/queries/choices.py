"""Queries that fill the template variables of boards. Pure.

They list the values of a tag in the board's time range, so a device that has sent nothing for that
long is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import BUCKET, START, STOP, Where, text
from dashboards.queries.query import Query, Shape
from models.tasks.contract import Task
from models.tasks.forecast import LEAD_ZERO
from pipeline.points.measurements import DEVICE, RELEASE, ROLLOUT_STATE, detail_measurement

__all__ = [
    "channel_choices",
    "device_choices",
    "forecast_device_choices",
    "forecast_model_choices",
    "forecast_site_choices",
    "lead_choices",
    "model_choices",
    "released_model_choices",
    "site_choices",
]


def site_choices(tasks: Sequence[Task]) -> Query:
    """Sites with a score or an account."""
    return _choices("sites", "site", [DEVICE.name, *_names(tasks)])


def device_choices(tasks: Sequence[Task]) -> Query:
    """Devices of the selected site with a score or an account."""
    return _choices("devices", "device", [DEVICE.name, *_names(tasks)], Where.selected("site"))


def model_choices(tasks: Sequence[Task]) -> Query:
    """Models with a score."""
    return _choices("models", "model", _names(tasks))


def released_model_choices() -> Query:
    """Models of releases, and of gateways that follow a centre."""
    return _choices("released_models", "model", [RELEASE.name, ROLLOUT_STATE.name])


def forecast_site_choices(task: Task) -> Query:
    """Sites with a forecast."""
    return _detail_choices(task, "site")


def forecast_device_choices(task: Task) -> Query:
    """Devices of the selected site with a forecast."""
    return _detail_choices(task, "device", Where.selected("site"))


def channel_choices(task: Task) -> Query:
    """Channels of the selected device with a forecast."""
    return _detail_choices(task, "channel", Where.selected("site"), Where.selected("device"))


def lead_choices(task: Task) -> Query:
    """Leads of the selected device, without that of the readings that came."""
    return _detail_choices(
        task,
        "lead",
        Where.selected("site"),
        Where.selected("device"),
        Where(f"r.lead != {text(LEAD_ZERO)}"),
    )


def forecast_model_choices(task: Task) -> Query:
    """Models with a forecast."""
    return _detail_choices(task, "model")


def _detail_choices(task: Task, tag: str, *where: Where) -> Query:
    """Values of a tag of the details; their times may lie ahead of now."""
    details = detail_measurement(task).name
    return _choices(f"{task.name}_{tag}s", tag, [details], *where, stop=f", stop: {STOP}")


def _names(tasks: Sequence[Task]) -> list[str]:
    return [task.measurement for task in tasks]


def _choices(
    name: str, tag: str, measurements: Sequence[str], *where: Where, stop: str = ""
) -> Query:
    conditions = " or ".join(f"r._measurement == {text(name)}" for name in measurements)
    predicate = " and ".join([f"({conditions})", *(condition.flux for condition in where)])
    flux = (
        'import "influxdata/influxdb/schema"\n\n'
        f"schema.tagValues(bucket: {BUCKET}, tag: {text(tag)}, start: {START}{stop},\n"
        f"  predicate: (r) => {predicate})"
    )
    return Query(name, flux, Shape("choices", {"_value": "text"}))

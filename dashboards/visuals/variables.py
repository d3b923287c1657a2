"""Template variables: the selections above a board. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.queries.choices import (
    channel_choices,
    device_choices,
    forecast_device_choices,
    forecast_model_choices,
    forecast_site_choices,
    lead_choices,
    model_choices,
    released_model_choices,
    site_choices,
)
from dashboards.queries.query import Query
from dashboards.visuals.panels import SOURCE, SOURCE_TYPE
from dashboards.visuals.views import Json
from models.tasks.contract import Task

__all__ = [
    "SOURCE_NAME",
    "SOURCE_UID",
    "Variable",
    "device_variables",
    "fleet_variables",
    "forecast_variables",
    "rollout_variables",
    "sites_variable",
    "source_variable_json",
]

SOURCE_UID = "kpstream-influxdb"
"""Default uid of the data source that boards and alerts query."""

SOURCE_NAME = "kpstream"
"""Default name of the data source."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A selection above the board, filled by a query.

    Attributes:
        name: Name in queries.
        label: Label on the board.
        query: Query of the choices.
        multi: True to allow several choices at once; all are selected at first.
        numbers: True to sort the choices as numbers.
    """

    name: str
    label: str
    query: Query
    multi: bool = True
    numbers: bool = False

    def json(self) -> Json:
        """The entry of `templating.list`."""
        everything: Json = {"selected": True, "text": ["All"], "value": ["$__all"]}
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": SOURCE,
            "definition": self.query.flux,
            "query": self.query.flux,
            "current": everything if self.multi else {},
            "includeAll": self.multi,
            "allValue": ".*" if self.multi else None,
            "multi": self.multi,
            "refresh": 2,
            "sort": 3 if self.numbers else 1,
            "regex": "",
            "hide": 0,
            "options": [],
            "skipUrlSync": False,
        }


def sites_variable(tasks: Sequence[Task]) -> Variable:
    """Select any number of sites."""
    return Variable("site", "Site", site_choices(tasks))


def fleet_variables(tasks: Sequence[Task]) -> list[Variable]:
    """Select any number of sites and models."""
    return [sites_variable(tasks), Variable("model", "Model", model_choices(tasks))]


def device_variables(tasks: Sequence[Task]) -> list[Variable]:
    """Select one site and one of its devices."""
    return [
        Variable("site", "Site", site_choices(tasks), multi=False),
        Variable("device", "Device", device_choices(tasks), multi=False),
    ]


def forecast_variables(task: Task) -> list[Variable]:
    """Select one channel of one device and one lead, and any number of models."""
    return [
        Variable("site", "Site", forecast_site_choices(task), multi=False),
        Variable("device", "Device", forecast_device_choices(task), multi=False),
        Variable("channel", "Channel", channel_choices(task), multi=False),
        Variable("lead", "Steps ahead", lead_choices(task), multi=False, numbers=True),
        Variable("model", "Model", forecast_model_choices(task)),
    ]


def rollout_variables() -> list[Variable]:
    """Select any number of models that are released to gateways."""
    return [Variable("model", "Model", released_model_choices())]


def source_variable_json() -> Json:
    """The variable that selects the data source, as an entry of `templating.list`."""
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": SOURCE_TYPE,
        "current": {"selected": True, "text": SOURCE_NAME, "value": SOURCE_UID},
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "options": [],
        "skipUrlSync": False,
    }

"""What a board is: rows of panels, variables, marks, and the JSON that Grafana reads. Pure.

A board's uid is fixed, so that addresses and alerts that point to it stay right, and pushing it
again changes nothing. The boards themselves are in `fleetboard`, `deviceboard`, `activityboard`,
`modelboard`, `pipelineboard` and `accountboard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.queries.line import PROCESS_STARTS, ROLLOUT_EVENTS
from dashboards.queries.query import DEVICES, MODELS, SITES, Query
from dashboards.visuals.panels import SOURCE, SOURCE_TYPE, Panel, panel_id
from dashboards.visuals.views import Json

__all__ = [
    "DEVICE_UID",
    "DEVICE_VARIABLE",
    "GRID_WIDTH",
    "MODELS_VARIABLE",
    "ONE_SITE_VARIABLE",
    "SCHEMA_VERSION",
    "SITES_VARIABLE",
    "SOURCE_UID",
    "TAG",
    "Annotation",
    "Board",
    "Row",
    "Variable",
    "link_to",
]

SCHEMA_VERSION = 41
"""Of Grafana 12; later ones read it and bring it up to date themselves."""

SOURCE_UID = "kpstream-influxdb"
"""The data source that boards choose at first, and that alerts ask."""

TAG = "kpstream"
DEVICE_UID = "kpstream-device"
"""Of the board that others lead to."""
GRID_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the board, filled by a query.

    Attributes:
        name: as queries name it.
        label: as people read it.
        query: gives the choices.
        many: several at a time, or all of them, which is where it starts.
    """

    name: str
    label: str
    query: Query
    multi: bool = True

    def json(self) -> Json:
        """An entry of `templating.list`."""
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
            "sort": 1,
            "regex": "",
            "hide": 0,
            "options": [],
            "skipUrlSync": False,
        }


SITES_VARIABLE = Variable("site", "Site", SITES)
MODELS_VARIABLE = Variable("model", "Model", MODELS)
ONE_SITE_VARIABLE = Variable("site", "Site", SITES, multi=False)
DEVICE_VARIABLE = Variable("device", "Device", DEVICES, multi=False)


@dataclass(frozen=True, slots=True)
class Annotation:
    """Vertical lines in the charts of a board, at the times that a query gives."""

    name: str
    query: Query
    colour: str
    shown: bool = True

    def json(self) -> Json:
        """An entry of `annotations.list`."""
        return {
            "name": self.name,
            "datasource": SOURCE,
            "enable": self.shown,
            "hide": False,
            "iconColor": self.colour,
            "target": {"refId": "Anno", "query": self.query.flux},
        }


ROLLOUT_ANNOTATION = Annotation("Rollouts", ROLLOUT_EVENTS, "purple")
START_ANNOTATION = Annotation("Process starts", PROCESS_STARTS, "orange")


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right; the next line begins where one does not fit."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One board.

    Attributes:
        uid: of at most 40 characters, fixed for ever.
        title: as listed.
        description: what it is for.
        rows: from top to bottom.
        variables: beside the data source.
        since: start of the time range it opens with; it ends now.
        refresh: how often it asks again.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    time_from: str = "now-1h"
    refresh: str = "30s"

    @property
    def panels(self) -> list[Panel]:
        """All panels, in reading order."""
        return [panel for row in self.rows for panel in row.panels]

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Of every board."""
        return (ROLLOUT_ANNOTATION, START_ANNOTATION)

    def panel(self, key: str) -> Panel:
        """The panel of this key.

        Raises:
            KeyError: there is none.
        """
        for panel in self.panels:
            if panel.key == key:
                return panel
        msg = f"board {self.uid} has no panel {key!r}"
        raise KeyError(msg)

    def json(self) -> Json:
        """The board as Grafana reads it, without what only Grafana knows (id, version)."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "preload": False,
            "refresh": self.refresh,
            "time": {"from": self.time_from, "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "links": [_OTHER_BOARDS],
            "templating": {"list": [_source_variable(), *(v.json() for v in self.variables)]},
            "annotations": {
                "list": [_BUILT_IN_ANNOTATION, *(mark.json() for mark in self.annotations)]
            },
            "panels": self._placed(),
        }

    def _placed(self) -> list[Json]:
        found: list[Json] = []
        y = 0
        for row in self.rows:
            found.append(_row_json(row, self.uid, y))
            y += 1
            x = tallest = 0
            for panel in row.panels:
                if x + panel.width > GRID_WIDTH:
                    x, y, tallest = 0, y + tallest, 0
                found.append(panel.json(x, y))
                x += panel.width
                tallest = max(tallest, panel.height)
            y += tallest
        return found


def link_to(uid: str, **variables: str) -> str:
    """The address of a board with variables set, keeping the time range and the data source.

    >>> link_to("kpstream-device", device="${__data.fields.Device}")
    '/d/kpstream-device?var-datasource=${datasource}&${__url_time_range}&var-device=${__data.fields.Device}'
    """
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}?var-datasource=${{datasource}}&${{__url_time_range}}{chosen}"


def _row_json(row: Row, uid: str, y: int) -> Json:
    return {
        "id": panel_id(f"row {uid} {row.title}"),
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": GRID_WIDTH, "x": 0, "y": y},
        "panels": [],
    }


def _source_variable() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": SOURCE_TYPE,
        "current": {"selected": True, "text": TAG, "value": SOURCE_UID},
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "options": [],
        "skipUrlSync": False,
    }


_OTHER_BOARDS: Json = {
    "type": "dashboards",
    "title": "Boards",
    "tags": [TAG],
    "asDropdown": False,
    "icon": "external link",
    "includeVars": False,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "",
    "url": "",
}

_BUILT_IN_ANNOTATION: Json = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}

"""Boards: rows of panels with variables and annotations, as the JSON that Grafana reads. Pure.

The uid of a board never changes, so that addresses and alerts stay valid and a second push changes
nothing. The boards themselves are in `dashboards.boards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.queries.labels import DEVICE_LABELS
from dashboards.queries.processes import PROCESS_STARTS
from dashboards.queries.query import Query
from dashboards.queries.students import ROLLOUT_EVENTS
from dashboards.visuals.panels import SOURCE, Panel, panel_id
from dashboards.visuals.variables import Variable, source_variable_json
from dashboards.visuals.views import Json

__all__ = [
    "GRID_WIDTH",
    "LABEL_ANNOTATION",
    "SCHEMA_VERSION",
    "TAG",
    "Annotation",
    "Board",
    "Row",
]

SCHEMA_VERSION = 41
"""Schema of Grafana 12; later versions migrate it when they read it."""

TAG = "kpstream"
"""Tag of every board; the links at the top of a board list boards by it."""

GRID_WIDTH = 24

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


@dataclass(frozen=True, slots=True)
class Annotation:
    """Vertical lines in the charts of a board, at the times that a query returns."""

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
LABEL_ANNOTATION = Annotation("Labels", DEVICE_LABELS, "green")


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right; a panel that does not fit starts a new line."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One board.

    Attributes:
        uid: Uid of at most 40 characters; it never changes.
        title: Title in Grafana's list.
        description: Purpose of the board.
        rows: Rows from top to bottom.
        variables: Template variables besides the data source.
        time_from: Start of the initial time range.
        time_to: End of the initial time range; a forecast reaches ahead of now.
        refresh: Interval at which the board repeats its queries.
        more_annotations: Annotations beside those that every board has.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    time_from: str = "now-1h"
    time_to: str = "now"
    refresh: str = "30s"
    more_annotations: Sequence[Annotation] = ()

    @property
    def panels(self) -> list[Panel]:
        """All panels, in reading order."""
        return [panel for row in self.rows for panel in row.panels]

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The annotations: rollouts and starts of processes on every board."""
        return (ROLLOUT_ANNOTATION, START_ANNOTATION, *self.more_annotations)

    def panel(self, key: str) -> Panel:
        """The panel with this key.

        Raises:
            KeyError: There is none.
        """
        for panel in self.panels:
            if panel.key == key:
                return panel
        keys = ", ".join(panel.key for panel in self.panels)
        msg = f"board {self.uid} has no panel {key!r}; use one of {keys}"
        raise KeyError(msg)

    def json(self) -> Json:
        """The board as Grafana reads it, without the id and version that Grafana assigns."""
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
            "time": {"from": self.time_from, "to": self.time_to},
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "links": [_OTHER_BOARDS],
            "templating": {"list": [source_variable_json(), *(v.json() for v in self.variables)]},
            "annotations": {"list": [_BUILT_IN_ANNOTATION, *(a.json() for a in self.annotations)]},
            "panels": self._panels_json(),
        }

    def _panels_json(self) -> list[Json]:
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


def _row_json(row: Row, uid: str, y: int) -> Json:
    return {
        "id": panel_id(f"row {uid} {row.title}"),
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": GRID_WIDTH, "x": 0, "y": y},
        "panels": [],
    }

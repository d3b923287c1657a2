"""Panels: a question, the queries that answer it, how the answer is drawn. Pure.

Data sources are named by uid through the board's variable. A panel's id follows from its key, so
that links of alerts stay right when panels are added.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.queries.query import Query
from dashboards.visuals.views import Json, Override, Style, Table, View

__all__ = ["SOURCE", "SOURCE_TYPE", "Panel", "panel_id", "target"]

SOURCE_TYPE = "influxdb"
SOURCE: Json = {"type": SOURCE_TYPE, "uid": "${datasource}"}
"""The data source chosen on the board."""

_MAX_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of a board.

    Attributes:
        key: short name, unique on the board; the id follows from it.
        title: heading.
        description: what it answers and how to read it, for the "i" beside the heading.
        view: how it is drawn.
        style: how values look.
        queries: asked all at once, as A, B, C.
        width: of 24.
        height: in Grafana's rows of 30 pixels.
        overrides: beside those of the view.
        since: a time range of its own, as "30d"; empty: the board's.
    """

    key: str
    title: str
    description: str
    view: View
    style: Style
    queries: Sequence[Query] = ()
    width: int = 12
    height: int = 8
    overrides: Sequence[Override] = ()
    time_from: str = ""

    @property
    def id(self) -> int:
        """The same for the same key, for ever."""
        return panel_id(self.key)

    def json(self, x: int, y: int) -> Json:
        """The panel at a place of the board's grid."""
        overrides = list(self.overrides)
        found: Json = {
            "id": self.id,
            "type": self.view.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "options": self.view.options(),
        }
        if self.time_from:
            found["timeFrom"] = self.time_from
        if self.time_from or isinstance(self.view, Table):
            found["maxDataPoints"] = (
                _MAX_POINTS  # else as many as the panel is wide, on a phone 300
            )
        if self.queries:
            found["datasource"] = SOURCE
            found["targets"] = [target(query, at) for at, query in enumerate(self.queries)]
        if isinstance(self.view, Table):
            found["transformations"] = self.view.transformations()
            overrides += [column.override() for column in self.view.columns]
        found["fieldConfig"] = {
            "defaults": self.style.json(self.view.custom()),
            "overrides": [override.json() for override in overrides],
        }
        return found


def panel_id(key: str) -> int:
    """The id of the panel of a key.

    >>> panel_id("rul-now") == panel_id("rul-now") != panel_id("rul-band")
    True
    """
    return zlib.crc32(key.encode()) % 1_000_000 + 1


def target(query: Query, at: int = 0) -> Json:
    """A query as a panel asks it, with the letter of its place."""
    return {"refId": "ABCDEFGH"[at], "datasource": SOURCE, "query": query.flux}

"""Panels: queries with the form in which their answers are drawn. Pure.

A panel refers to the data source through the board's variable. Its id follows from its key, so that
links of alerts stay valid when panels are added.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.queries.flux import STEP, is_of
from dashboards.queries.query import Query
from dashboards.visuals.views import Json, Override, Style, Table, View
from pipeline.points.measurements import DEAD_LETTERS, DEVICE, GATEWAY, LAG, MODEL, RELEASE

__all__ = ["SOURCE", "SOURCE_TYPE", "Panel", "panel_id", "target"]

SOURCE_TYPE = "influxdb"
SOURCE: Json = {"type": SOURCE_TYPE, "uid": "${datasource}"}
"""The data source selected on the board."""

_MAX_POINTS = 1000
"""Values per query where the width of the panel must not limit them (a phone shows about 300)."""

_ACCOUNTS = (GATEWAY, DEVICE, LAG, DEAD_LETTERS, MODEL, RELEASE)
"""Measurements that every process writes at its own times, 10 seconds apart by default."""
_ACCOUNT_STEP = "20s"
"""Shortest step over accounts. A shorter one holds the rows of some processes only, and a sum over
processes would jump between parts of it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of a board.

    Attributes:
        key: Short name, unique on the board; the id follows from it.
        title: Heading.
        description: Help text of the panel.
        view: Panel type with its options.
        style: Unit, colours and texts of the values.
        queries: Queries, sent together as A, B, C.
        width: Width in columns of 24.
        height: Height in Grafana's units of 30 pixels.
        overrides: Overrides besides those of the view.
        time_from: Time range of this panel, such as "30d"; "" for the board's.
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
        """The id, which only depends on the key."""
        return panel_id(self.key)

    def json(self, x: int, y: int) -> Json:
        """The panel at a position of the board's grid."""
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
            found["maxDataPoints"] = _MAX_POINTS
        if self.queries:
            found["datasource"] = SOURCE
            if any(map(_has_account_steps, self.queries)):
                found["interval"] = _ACCOUNT_STEP
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
    """The id of the panel with this key.

    >>> panel_id("rul-now") == panel_id("rul-now") != panel_id("rul-band")
    True
    """
    return zlib.crc32(key.encode()) % 1_000_000 + 1


def _has_account_steps(query: Query) -> bool:
    return STEP in query.flux and any(is_of(account) in query.flux for account in _ACCOUNTS)


def target(query: Query, at: int = 0) -> Json:
    """A query as a panel sends it, named by a letter."""
    return {"refId": "ABCDEFGH"[at], "datasource": SOURCE, "query": query.flux}

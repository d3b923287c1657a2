"""What an alert rule is, and the two forms in which Grafana takes it. Pure.

A `Rule` asks one or more queries, takes the last value of every series, and compares that of the
first query with a limit. Each series is an alert of its own, with the series' labels. What a rule
means when there is no data, and when the query fails, is said explicitly, with the reason.

Texts are Go templates that Grafana fills in. They hold no `$`: Grafana replaces it in provisioned
files by environment variables. `.Labels` and `.Values` do the same without it.

`Rule.api_json` is the form of the provisioning API, `Rule.file_json` that of files. The rules
themselves are in `dashboards.alerts.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboards.queries.query import Query
from dashboards.visuals.board import Board
from dashboards.visuals.panels import SOURCE_TYPE
from dashboards.visuals.views import Json

__all__ = ["DOCUMENTATION", "Group", "Rule", "duration"]

DOCUMENTATION = "docs/dashboards.md"
"""Where every alert has a line."""

_EXPRESSIONS = "__expr__"

ErrorState = Literal["Error", "Alerting", "OK", "KeepLast"]
NoDataState = Literal["NoData", "Alerting", "OK", "KeepLast"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule.

    Attributes:
        uid: of at most 40 characters, fixed for ever.
        title: what is wrong, in a few words; unique in the folder.
        queries: name -> query; the first one decides, all can be named in the texts
            (`.Values.name.Value`).
        fires: how the last value is compared with `limit`: `above` or `below`.
        limit: in the unit of the first query.
        look_back_s: the queries' time range, in seconds before the evaluation.
        for_s: how long it must hold before the alert fires.
        no_data: state when there is no series at all, and why that one.
        error: state when the query fails; a rule never hides that.
        severity: `critical` (somebody now), `warning` (somebody today).
        summary: one line, with labels.
        meaning: what it means.
        action: what to do.
        panel: (board uid, panel key) that shows the same.
    """

    uid: str
    title: str
    queries: Mapping[str, Query]
    fires_when: Literal["above", "below"]
    limit: float
    look_back_s: int
    for_s: int
    no_data: tuple[NoDataState, str]
    severity: Literal["critical", "warning"]
    summary: str
    meaning: str
    action: str
    panel: tuple[str, str]
    error: ErrorState = "Error"

    def data(self, source_uid: str) -> list[Json]:
        """The queries, their last values, and the comparison, as Grafana evaluates them."""
        asked, reduced = [], []
        for letter, (name, query) in zip("ABCDEFGH", self.queries.items(), strict=False):
            asked.append(_query(letter, query, source_uid, self.look_back_s))
            reduced.append(_reduce(name, letter))
        return [*asked, *reduced, _threshold(next(iter(self.queries)), self.fires_when, self.limit)]

    def annotations(self) -> dict[str, str]:
        """The texts that go with every alert of this rule."""
        return {
            "summary": self.summary,
            "description": self.meaning,
            "action": self.action,
            "no_data": f"{self.no_data[0]}: {self.no_data[1]}",
            "documentation": f"{DOCUMENTATION}, {self.title}",
        }

    def labels(self) -> dict[str, str]:
        """What notification policies and the boards' lists choose by."""
        return {"product": "kpstream", "severity": self.severity}

    def api_json(
        self,
        boards: Mapping[str, Board],
        *,
        org_id: int,
        folder_uid: str,
        group: str,
        source_uid: str,
    ) -> Json:
        """The rule as `PUT /api/v1/provisioning/folder/{uid}/rule-groups/{group}` takes it."""
        board, panel = self.panel
        links = {
            "__dashboardUid__": board,
            "__panelId__": str(boards[board].panel(panel).id),
        }
        return {
            "uid": self.uid,
            "orgID": org_id,
            "folderUID": folder_uid,
            "ruleGroup": group,
            "title": self.title,
            "condition": "fires",
            "data": self.data(source_uid),
            "noDataState": self.no_data[0],
            "execErrState": self.error,
            "for": duration(self.for_s),
            "annotations": self.annotations() | links,
            "labels": self.labels(),
            "isPaused": False,
        }

    def file_json(self, boards: Mapping[str, Board], *, source_uid: str) -> Json:
        """The rule as a provisioning file holds it."""
        board, panel = self.panel
        panel_id = boards[board].panel(panel).id
        links = {"__dashboardUid__": board, "__panelId__": str(panel_id)}
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": "fires",
            "data": self.data(source_uid),
            "dashboardUid": board,
            "panelId": panel_id,
            "noDataState": self.no_data[0],
            "execErrState": self.error,
            "for": duration(self.for_s),
            "annotations": self.annotations() | links,
            "labels": self.labels(),
            "isPaused": False,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, every `interval_s` seconds."""

    name: str
    interval_s: int
    rules: Sequence[Rule]


def duration(seconds: int) -> str:
    """Seconds as Grafana writes them back.

    >>> duration(0), duration(90), duration(300), duration(86_400)
    ('0s', '1m30s', '5m', '1d')
    """
    found = ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= length:
            found += f"{seconds // length}{unit}"
            seconds %= length
    return found or "0s"


# ------------------------------------------------------------------------- parts of a rule's data

_DEFAULTS = {"intervalMs": 1000, "maxDataPoints": 43_200}
"""What Grafana would add."""


def _query(letter: str, query: Query, source_uid: str, look_back_s: int) -> Json:
    model = {
        "refId": letter,
        "datasource": {"type": SOURCE_TYPE, "uid": source_uid},
        "query": query.flux,
        **_DEFAULTS,
    }
    return _part(letter, source_uid, model, look_back_s)


def _reduce(name: str, letter: str) -> Json:
    model = {
        "type": "reduce",
        "refId": name,
        "datasource": {"type": _EXPRESSIONS, "uid": _EXPRESSIONS},
        "expression": letter,
        "reducer": "last",
        "settings": {"mode": "dropNN"},
        **_DEFAULTS,
    }
    return _part(name, _EXPRESSIONS, model)


def _threshold(name: str, fires: str, limit: float) -> Json:
    condition = {
        "type": "query",
        "evaluator": {"type": "gt" if fires == "above" else "lt", "params": [limit]},
        "operator": {"type": "and"},
        "query": {"params": ["fires"]},
        "reducer": {"type": "last", "params": []},
    }
    model = {
        "type": "threshold",
        "refId": "fires",
        "datasource": {"type": _EXPRESSIONS, "uid": _EXPRESSIONS},
        "expression": name,
        "conditions": [condition],
        **_DEFAULTS,
    }
    return _part("fires", _EXPRESSIONS, model)


def _part(ref_id: str, source_uid: str, model: Json, look_back_s: int = 0) -> Json:
    return {
        "refId": ref_id,
        "queryType": "",
        "relativeTimeRange": {"from": look_back_s, "to": 0},
        "datasourceUid": source_uid,
        "model": model,
    }

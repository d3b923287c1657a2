"""Alert rules in the two forms that Grafana accepts. Pure.

A `Rule` runs one or more queries, takes the last value of every series, and compares that of the
first query with a limit. Each series is an alert of its own, with the labels of the series. A rule
states explicitly, with the reason, what it means when there is no data or the query fails.

Texts are Go templates that Grafana fills in. They use `.Labels` and `.Values` instead of `$labels`
and `$values`, because Grafana replaces `$` in provisioning files by environment variables.

`Rule.api_json` is the form of the provisioning API, `Rule.file_json` that of provisioning files.
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
"""The page with a section for every alert."""

_EXPRESSIONS = "__expr__"

_DEFAULTS = {"intervalMs": 1000, "maxDataPoints": 43_200}
"""Options that Grafana would add to a query itself."""

ErrorState = Literal["Error", "Alerting", "OK", "KeepLast"]
NoDataState = Literal["NoData", "Alerting", "OK", "KeepLast"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule.

    Attributes:
        uid: Uid of at most 40 characters; it never changes.
        title: The problem in a few words, unique in the folder.
        queries: Queries by name; the first one decides, and the texts can use all of them
            (`.Values.name.Value`).
        fires_when: Side of `limit` on which the last value fires: `above` or `below`.
        limit: Limit in the unit of the first query.
        look_back_s: Time range of the queries: seconds before the evaluation.
        for_s: Seconds for which the condition must hold before the alert fires.
        no_data: State if there is no series at all, and the reason for it.
        severity: `critical` needs attention now, `warning` within the day.
        summary: One line with labels.
        meaning: Meaning of the alert.
        action: Steps for the operator.
        panel: Board uid and panel key that show the same values.
        error: State if the query fails; a rule must not hide a failure.
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
        queries, reduced = [], []
        for letter, (name, query) in zip("ABCDEFGH", self.queries.items(), strict=False):
            queries.append(_query(letter, query, source_uid, self.look_back_s))
            reduced.append(_reduce(name, letter))
        return [
            *queries,
            *reduced,
            _threshold(next(iter(self.queries)), self.fires_when, self.limit),
        ]

    def annotations(self) -> dict[str, str]:
        """The texts of every alert of this rule."""
        return {
            "summary": self.summary,
            "description": self.meaning,
            "action": self.action,
            "no_data": f"{self.no_data[0]}: {self.no_data[1]}",
            "documentation": f"{DOCUMENTATION}, {self.title}",
        }

    def labels(self) -> dict[str, str]:
        """The labels that notification policies and alert lists select by."""
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
        """The rule for `PUT /api/v1/provisioning/folder/{uid}/rule-groups/{group}`."""
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
        """The rule for a provisioning file."""
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
    """Rules that Grafana evaluates together, every `interval_s` seconds."""

    name: str
    interval_s: int
    rules: Sequence[Rule]


def duration(seconds: int) -> str:
    """Seconds in the form in which Grafana returns them.

    >>> duration(0), duration(90), duration(300), duration(86_400)
    ('0s', '1m30s', '5m', '1d')
    """
    text = ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= length:
            text += f"{seconds // length}{unit}"
            seconds %= length
    return text or "0s"


def _query(letter: str, query: Query, source_uid: str, look_back_s: int) -> Json:
    model = {
        "refId": letter,
        "datasource": {"type": SOURCE_TYPE, "uid": source_uid},
        "query": query.flux,
        **_DEFAULTS,
    }
    return _data_entry(letter, source_uid, model, look_back_s)


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
    return _data_entry(name, _EXPRESSIONS, model)


def _threshold(name: str, fires_when: str, limit: float) -> Json:
    condition = {
        "type": "query",
        "evaluator": {"type": "gt" if fires_when == "above" else "lt", "params": [limit]},
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
    return _data_entry("fires", _EXPRESSIONS, model)


def _data_entry(ref_id: str, source_uid: str, model: Json, look_back_s: int = 0) -> Json:
    return {
        "refId": ref_id,
        "queryType": "",
        "relativeTimeRange": {"from": look_back_s, "to": 0},
        "datasourceUid": source_uid,
        "model": model,
    }

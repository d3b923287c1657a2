"""Checks of dashboards and alert rules against Grafana's documentation, as lists of flaws."""

from __future__ import annotations

import re
from typing import Any

UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
PANEL_TYPES = {
    "alertlist", "bargauge", "gauge", "row", "stat", "state-timeline", "table", "text",
    "timeseries",
}  # fmt: skip
DURATION = re.compile(r"0s|(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?")
BOARD_KEYS = {
    "annotations", "description", "editable", "fiscalYearStartMonth", "graphTooltip", "id", "links",
    "panels", "preload", "refresh", "schemaVersion", "tags", "templating", "time", "timepicker",
    "timezone", "title", "uid", "version", "weekStart",
}  # fmt: skip
PANEL_KEYS = {
    "datasource", "description", "fieldConfig", "gridPos", "id", "interval", "maxDataPoints",
    "options", "targets", "timeFrom", "title", "transformations", "type",
}  # fmt: skip
DEFAULTS_KEYS = {
    "color", "custom", "decimals", "displayName", "mappings", "max", "min", "noValue", "thresholds",
    "unit", "links",
}  # fmt: skip
COLOUR_MODES = {"palette-classic", "thresholds", "fixed"}
RULE_KEYS = {
    "annotations", "condition", "data", "execErrState", "folderUID", "for", "isPaused", "labels",
    "noDataState", "orgID", "ruleGroup", "title", "uid",
}  # fmt: skip
NO_DATA_STATES = {"Alerting", "NoData", "OK", "KeepLast"}
ERROR_STATES = {"Alerting", "Error", "OK", "KeepLast"}


def dashboard_flaws(board: dict[str, Any]) -> list[str]:
    """The flaws of a dashboard of the classic model; empty if there are none."""
    flaws = _unknown(board, BOARD_KEYS, "dashboard")
    if not isinstance(board.get("schemaVersion"), int) or board["schemaVersion"] < 36:
        flaws.append("schemaVersion is not a recent number")
    if not re.fullmatch(r"now-\d+[smhdwMy]", board.get("time", {}).get("from", "")):
        flaws.append("time.from is not a relative time")
    if not re.fullmatch(r"\d+[smhd]", board.get("refresh", "")):
        flaws.append("refresh is not an interval")
    variables = board["templating"]["list"]
    flaws += [flaw for variable in variables for flaw in _variable_flaws(variable)]
    flaws += [flaw for item in board["annotations"]["list"] for flaw in _annotation_flaws(item)]
    panels = board["panels"]
    for panel in panels:
        flaws += _panel_flaws(panel)
    ids = [panel["id"] for panel in panels]
    if len(ids) != len(set(ids)):
        flaws.append("panel ids are not unique")
    return flaws + _overlaps(panels)


def _variable_flaws(variable: dict[str, Any]) -> list[str]:
    name = variable.get("name", "?")
    flaws = []
    if not re.fullmatch(r"\w+", name):
        flaws.append(f"variable {name!r}: not a word")
    if variable["type"] == "datasource":
        return (
            flaws
            if variable["query"] == "influxdb"
            else [*flaws, f"variable {name}: does not list InfluxDB data sources"]
        )
    if variable["type"] != "query":
        return [*flaws, f"variable {name}: type {variable['type']}"]
    if not isinstance(variable["query"], str) or variable["definition"] != variable["query"]:
        flaws.append(f"variable {name}: query and definition differ")
    if variable["refresh"] not in (1, 2) or variable["sort"] not in range(9):
        flaws.append(f"variable {name}: refresh or sort")
    if variable["includeAll"] and variable["allValue"] != ".*":
        flaws.append(f"variable {name}: the value of All is not a regular expression")
    return flaws + _source_flaws(variable.get("datasource"), f"variable {name}")


def _annotation_flaws(annotation: dict[str, Any]) -> list[str]:
    if annotation.get("builtIn"):
        return []
    where = f"annotation {annotation.get('name')}"
    flaws = _source_flaws(annotation.get("datasource"), where)
    target = annotation.get("target", {})
    if not target.get("query") or not target.get("refId"):
        flaws.append(f"{where}: no query")
    return flaws


def _panel_flaws(panel: dict[str, Any]) -> list[str]:
    where = f"panel {panel.get('title')!r}"
    if panel["type"] not in PANEL_TYPES:
        return [f"{where}: type {panel['type']} is unknown or removed"]
    if not isinstance(panel["id"], int) or not 0 < panel["id"] < 2**31:
        return [f"{where}: id {panel['id']!r}"]
    if panel["type"] == "row":
        return [] if panel["gridPos"]["h"] == 1 else [f"{where}: a row has the height 1"]
    flaws = _unknown(panel, PANEL_KEYS, where)
    defaults = panel["fieldConfig"]["defaults"]
    flaws += _unknown(defaults, DEFAULTS_KEYS, where)
    if not defaults["noValue"]:
        flaws.append(f"{where}: no text for missing data")
    if defaults["color"]["mode"] not in COLOUR_MODES:
        flaws.append(f"{where}: colour mode")
    thresholds = [step["value"] for step in defaults["thresholds"]["steps"]]
    if thresholds[0] is not None or thresholds[1:] != sorted(thresholds[1:]):
        flaws.append(f"{where}: thresholds {thresholds}")
    targets = panel.get("targets", [])
    if [t["refId"] for t in targets] != sorted({t["refId"] for t in targets}):
        flaws.append(f"{where}: refIds")
    if targets:
        flaws += _source_flaws(panel.get("datasource"), where)
    for target in targets:
        flaws += _source_flaws(target.get("datasource"), where)
        if not isinstance(target.get("query"), str) or not target["query"].strip():
            flaws.append(f"{where}: empty query")
    for override in panel["fieldConfig"]["overrides"]:
        if set(override) != {"matcher", "properties"}:
            flaws.append(f"{where}: override {override}")
    return flaws


def _source_flaws(source: Any, where: str) -> list[str]:
    """Require an object, as Grafana 12 does, that refers to the variable of the board."""
    wanted = {"type": "influxdb", "uid": "${datasource}"}
    return [] if source == wanted else [f"{where}: data source {source!r}"]


def _overlaps(panels: list[dict[str, Any]]) -> list[str]:
    taken: dict[tuple[int, int], str] = {}
    flaws = []
    for panel in panels:
        grid = panel["gridPos"]
        if grid["x"] < 0 or grid["x"] + grid["w"] > 24 or grid["w"] < 1 or grid["h"] < 1:
            flaws.append(f"panel {panel['title']!r} leaves the grid")
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    flaws.append(f"panels {other!r} and {panel['title']!r} overlap")
    return sorted(set(flaws))


def rule_flaws(rule: dict[str, Any]) -> list[str]:
    """The flaws of a rule: what the provisioning API refuses or does not document."""
    where = f"rule {rule.get('title')!r}"
    flaws = _unknown(rule, RULE_KEYS, where)
    missing = RULE_KEYS - {"uid", "annotations", "labels", "isPaused"} - set(rule)
    flaws += [f"{where}: no {key}" for key in sorted(missing)]
    if missing:
        return flaws
    if rule.get("uid") and not UID.fullmatch(rule["uid"]):
        flaws.append(f"{where}: uid {rule['uid']!r}")
    if not 1 <= len(rule["title"]) <= 190 or not 1 <= len(rule["ruleGroup"]) <= 190:
        flaws.append(f"{where}: title or group too long or empty")
    if rule["noDataState"] not in NO_DATA_STATES or rule["execErrState"] not in ERROR_STATES:
        flaws.append(f"{where}: states {rule['noDataState']}, {rule['execErrState']}")
    if not DURATION.fullmatch(rule["for"]):
        flaws.append(f"{where}: for {rule['for']!r}")
    texts = [*rule.get("annotations", {}).items(), *rule.get("labels", {}).items()]
    flaws += [f"{where}: {k} is not a text" for k, v in texts if not isinstance(v, str)]
    return flaws + _data_flaws(rule, where)


def _data_flaws(rule: dict[str, Any], where: str) -> list[str]:
    flaws = []
    refs = [part["refId"] for part in rule["data"]]
    if len(refs) != len(set(refs)) or rule["condition"] not in refs:
        flaws.append(f"{where}: condition {rule['condition']} among {refs}")
    for part in rule["data"]:
        model, times = part["model"], part["relativeTimeRange"]
        allowed = {"refId", "queryType", "relativeTimeRange", "datasourceUid", "model"}
        flaws += _unknown(part, allowed, where)
        if model["refId"] != part["refId"]:
            flaws.append(f"{where}: refId of {part['refId']}")
        if model["datasource"]["uid"] != part["datasourceUid"]:
            flaws.append(f"{where}: data source of {part['refId']}")
        if part["datasourceUid"] == "__expr__":
            flaws += _expression_flaws(model, refs, where)
        elif not times["from"] > times["to"] >= 0:
            flaws.append(f"{where}: invalid relative time range {times}")
        elif not model.get("query"):
            flaws.append(f"{where}: {part['refId']} has no query")
    return flaws


def _expression_flaws(model: dict[str, Any], refs: list[str], where: str) -> list[str]:
    flaws = [] if model["expression"] in refs else [f"{where}: no {model['expression']!r}"]
    if model["type"] == "reduce":
        if model["reducer"] not in {"last", "min", "max", "mean", "sum", "count", "median"}:
            flaws.append(f"{where}: reducer {model['reducer']}")
        if model["settings"]["mode"] not in {"dropNN", "replaceNN", ""}:
            flaws.append(f"{where}: mode of the reducer")
    elif model["type"] == "threshold":
        evaluator = model["conditions"][0]["evaluator"]
        if len(model["conditions"]) != 1 or evaluator["type"] not in {"gt", "lt"}:
            flaws.append(f"{where}: threshold {model['conditions']}")
        if not all(isinstance(limit, (int, float)) for limit in evaluator["params"]):
            flaws.append(f"{where}: limit {evaluator['params']}")
    else:
        flaws.append(f"{where}: expression of type {model['type']}")
    return flaws


def _unknown(found: dict[str, Any], known: set[str], where: str) -> list[str]:
    return [f"{where}: unknown {key!r}" for key in sorted(set(found) - known)]

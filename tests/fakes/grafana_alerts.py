"""Evaluation of an alert rule as Grafana does it: reduce, compare, fill in texts.

Of the server-side expressions, `reduce` takes the last number of every series and keeps its labels,
and `threshold` compares it. An alert is a set of labels for which the condition is not 0. It also
has the values of other expressions with the same labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.grafana_flux import Frame

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Alert:
    """One firing alert."""

    labels: dict[str, str]
    values: dict[str, float]

    def text(self, template: str) -> str:
        """Fill in a text of the rule: labels, values, `printf` and `humanizeDuration`."""

        def fill(match: re.Match[str]) -> str:
            inside = match[1].strip()
            if label := re.fullmatch(r"\.Labels\.(\w+)", inside):
                return self.labels[label[1]]
            if number := re.fullmatch(r'printf "(%\.\df)" \.Values\.(\w+)\.Value', inside):
                return number[1] % self.values[number[2]]
            if span := re.fullmatch(r"humanizeDuration \.Values\.(\w+)\.Value", inside):
                return _human(self.values[span[1]])
            raise KeyError(inside)

        return re.sub(r"\{\{(.*?)\}\}", fill, template)


def firing(rule: dict[str, Any], query: Callable[[str, int], list[Frame]]) -> list[Alert] | None:
    """The firing alerts of a rule, None without data; `query(flux, look_back_s)` gives frames."""
    found: dict[str, dict[Labels, float]] = {}
    series: dict[str, list[Frame]] = {}
    for part in rule["data"]:
        model, ref = part["model"], part["refId"]
        if part["datasourceUid"] != "__expr__":
            series[ref] = query(model["query"], part["relativeTimeRange"]["from"])
        elif model["type"] == "reduce":
            found[ref] = _reduced(series[model["expression"]])
        else:
            found[ref] = _compared(found[model["expression"]], model["conditions"][0]["evaluator"])
    condition = found.pop(rule["condition"])
    if not condition:
        return None
    return [
        Alert(dict(labels), {ref: of[labels] for ref, of in found.items() if labels in of})
        for labels, value in condition.items()
        if value
    ]


def _reduced(frames: list[Frame]) -> dict[Labels, float]:
    last = {}
    for frame in frames:
        assert frame.is_wide_series
        numbers = [value for value in frame.fields[1].values if value is not None]
        if numbers:
            last[tuple(sorted(frame.fields[1].labels.items()))] = float(numbers[-1])
    return last


def _compared(values: dict[Labels, float], evaluator: dict[str, Any]) -> dict[Labels, float]:
    limit = evaluator["params"][0]
    above = evaluator["type"] == "gt"
    return {
        labels: float(value > limit if above else value < limit) for labels, value in values.items()
    }


def _human(seconds: float) -> str:
    whole = int(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or "0s"

"""Styles that boards share: quantities, states, outcomes of readings. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.visuals.limits import Limits
from dashboards.visuals.views import Column, Override, Style

__all__ = [
    "NO_DEVICES",
    "NO_HOURS",
    "NO_PROCESS",
    "NO_SCORES",
    "OUTCOMES",
    "READY_STATES",
    "account_columns",
    "age",
    "count",
    "field_names",
    "outcome_overrides",
    "rate",
    "series_name",
    "share",
    "span_ms",
]

NO_SCORES = "no scores in this time range"
NO_DEVICES = "no device has reported in this time range"
NO_HOURS = "no hours yet: InfluxDB makes them a few minutes after each hour"
NO_PROCESS = "no process has reported in this time range"

READY_STATES: Mapping[str, tuple[str, str]] = {
    "0": ("not ready", "red"),
    "1": ("ready", "green"),
}

OUTCOMES: Mapping[str, tuple[str, str]] = {
    "windowed": ("windowed", "green"),
    "duplicate": ("duplicate", "blue"),
    "corrected": ("corrected", "purple"),
    "late": ("late", "orange"),
    "dead_lettered": ("dead letter", "red"),
    "received": ("received", "text"),
}
"""Name and colour of each outcome of a reading."""


def age(limits: Limits, no_value: str, name: str = "", limit_s: int | None = None) -> Style:
    """Age in seconds: red from the limit on, orange from half the limit."""
    limit = limits.silent_s if limit_s is None else limit_s
    thresholds = ((None, "green"), (limit / 2, "orange"), (limit, "red"))
    return Style(
        no_value, "s", decimals=0, minimum=0, thresholds=thresholds, colour="thresholds", name=name
    )


def count(no_value: str, name: str = "", *, red_from: float | None = None) -> Style:
    """A whole number; red from `red_from` on."""
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    if red_from is not None:
        thresholds += ((red_from, "red"),)
    return Style(
        no_value,
        "none",
        decimals=0,
        minimum=0,
        thresholds=thresholds,
        colour="thresholds",
        name=name,
    )


def rate(no_value: str, what: str, name: str = "") -> Style:
    """A rate of `what` per second."""
    return Style(no_value, f"suffix: {what}/s" if what else "suffix: /s", minimum=0, name=name)


def span_ms(no_value: str, name: str = "") -> Style:
    """A duration in milliseconds."""
    return Style(no_value, "ms", minimum=0, name=name)


def share(no_value: str, name: str = "", *, red_below: float | None = None) -> Style:
    """A share between 0 and 1, shown in per cent; red below `red_below`."""
    if red_below is None:
        return Style(no_value, "percentunit", minimum=0, maximum=1, name=name)
    thresholds = ((None, "red"), (red_below, "green"))
    return Style(
        no_value,
        "percentunit",
        0,
        minimum=0,
        maximum=1,
        thresholds=thresholds,
        colour="thresholds",
        name=name,
    )


def series_name(*labels: str) -> str:
    """The name of a series, made of its labels.

    >>> series_name("role", "gateway")
    '${__field.labels.role} ${__field.labels.gateway}'
    """
    return " ".join(f"${{__field.labels.{label}}}" for label in labels)


def outcome_overrides() -> list[Override]:
    """Outcomes of readings, with the same names and colours on every board."""
    return [
        Override(field, {"displayName": name, "color": {"mode": "fixed", "fixedColor": colour}})
        for field, (name, colour) in OUTCOMES.items()
    ]


def account_columns() -> list[Column]:
    """Columns of the account of a device; `missing` is red unless it is 0."""
    number = count("")
    return [
        Column("received", "Received", number),
        Column("windowed", "Windowed", number),
        Column("duplicate", "Duplicate", number),
        Column("corrected", "Corrected", number),
        Column("late", "Late", number),
        Column("dead_lettered", "Dead letters", number),
        Column("missing", "Missing", count("", red_from=1), cell="colour"),
        Column("gaps", "Gaps", number),
        Column("windows", "Windows", number),
    ]


def field_names(**names: str) -> list[Override]:
    """Fields shown under other names."""
    return [Override(field, {"displayName": name}) for field, name in names.items()]

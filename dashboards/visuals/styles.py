"""Looks that several boards share: styles of quantities, words and colours of states. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.visuals.board import DEVICE_UID, link_to
from dashboards.visuals.limits import Limits
from dashboards.visuals.views import Column, Override, Style

__all__ = [
    "ACTIVITY_COLOURS",
    "DEVICE_LINK",
    "NO_DEVICES",
    "NO_PROCESS",
    "NO_SCORES",
    "OUTCOMES",
    "READY_STATES",
    "account_columns",
    "activity",
    "age",
    "count",
    "cycles",
    "field_names",
    "outcome_overrides",
    "rate",
    "series_name",
    "share",
    "span_ms",
]

NO_SCORES = "no scores in this time range"
NO_DEVICES = "no device has reported in this time range"
NO_PROCESS = "no process has reported in this time range"

DEVICE_LINK = (
    "Open the device",
    link_to(DEVICE_UID, site="${__data.fields.Site}", device="${__data.fields.Device}"),
)
"""A link from a row with the columns Site and Device."""

ACTIVITY_COLOURS: Mapping[str, tuple[str, str]] = {
    "WALKING": ("walking", "green"),
    "WALKING_UPSTAIRS": ("upstairs", "dark-green"),
    "WALKING_DOWNSTAIRS": ("downstairs", "light-green"),
    "SITTING": ("sitting", "blue"),
    "STANDING": ("standing", "light-blue"),
    "LAYING": ("lying", "purple"),
    "unknown": ("unknown", "gray"),
}
"""Word and colour of the classes of the shipped student; others are shown as they are."""

READY_STATES: Mapping[str, tuple[str, str]] = {
    "0": ("not ready", "red"),
    "1": ("ready", "green"),
}

OUTCOMES: Mapping[str, tuple[str, str]] = {
    "windowed": ("windowed", "green"),
    "duplicate": ("duplicate", "blue"),
    "late": ("late", "orange"),
    "dead_lettered": ("dead letter", "red"),
    "received": ("received", "text"),
}
"""Word and colour of what became of a reading."""


def cycles(limits: Limits, no_value: str, name: str = "") -> Style:
    """Remaining useful life: red below the limit, orange up to twice the limit."""
    thresholds = ((None, "red"), (limits.rul_cycles, "orange"), (2 * limits.rul_cycles, "green"))
    return Style(
        no_value,
        "suffix: cycles",
        decimals=0,
        minimum=0,
        thresholds=thresholds,
        colour="thresholds",
        name=name,
    )


def age(limits: Limits, no_value: str, name: str = "", limit_s: int | None = None) -> Style:
    """Seconds since something was heard of: red from the limit on."""
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
    """So many of something a second."""
    return Style(no_value, f"suffix: {what}/s" if what else "suffix: /s", minimum=0, name=name)


def span_ms(no_value: str, name: str = "") -> Style:
    """Milliseconds."""
    return Style(no_value, "ms", minimum=0, name=name)


def share(no_value: str, name: str = "", *, red_below: float | None = None) -> Style:
    """A share of one, as per cent; red below `red_below`."""
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


def activity(no_value: str, name: str = "") -> Style:
    """A class, as a word in its colour."""
    return Style(no_value, mappings=ACTIVITY_COLOURS, name=name)


def series_name(*labels: str) -> str:
    """The name of a series made of its labels.

    >>> series_name("role", "gateway")
    '${__field.labels.role} ${__field.labels.gateway}'
    """
    return " ".join(f"${{__field.labels.{label}}}" for label in labels)


def outcome_overrides() -> list[Override]:
    """What became of readings: the same word and colour on every board."""
    return [
        Override(field, {"displayName": word, "color": {"mode": "fixed", "fixedColor": colour}})
        for field, (word, colour) in OUTCOMES.items()
    ]


def account_columns() -> list[Column]:
    """The account of a device, as two boards show it; `missing` is red when it is not 0."""
    number = count("")
    return [
        Column("received", "Received", number),
        Column("windowed", "Windowed", number),
        Column("duplicate", "Duplicate", number),
        Column("late", "Late", number),
        Column("dead_lettered", "Dead letters", number),
        Column("missing", "Missing", count("", red_from=1), cell="colour"),
        Column("gaps", "Gaps", number),
        Column("windows", "Windows", number),
    ]


def field_names(**words: str) -> list[Override]:
    """Fields shown under other names."""
    return [Override(name, {"displayName": word}) for name, word in words.items()]

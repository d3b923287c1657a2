"""The board of one device: its scores with their intervals, its account, its past. Pure."""

from __future__ import annotations

from dashboards.queries import devices, history, scores
from dashboards.visuals.board import DEVICE_UID, DEVICE_VARIABLE, ONE_SITE_VARIABLE, Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    NO_DEVICES,
    NO_SCORES,
    account_columns,
    activity,
    age,
    count,
    cycles,
    outcome_overrides,
    rate,
    series_name,
    share,
    span_ms,
)
from dashboards.visuals.views import Column, Lines, Override, Stat, Style, Table, Timeline

__all__ = ["device_board"]


def device_board(limits: Limits, hourly_bucket: str) -> Board:
    """Everything about one device."""
    return Board(
        DEVICE_UID,
        "kpstream: device",
        "One machine or person: its scores with their intervals, its account, its past.",
        [
            Row("Now", _device_now(limits)),
            Row("Scores", _device_scores(limits)),
            Row("Account of its readings", _device_account()),
            Row("The last thirty days, by hour", _device_history(limits, hourly_bucket)),
        ],
        [ONE_SITE_VARIABLE, DEVICE_VARIABLE],
    )


def _device_now(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "device-rul-now",
            "Remaining useful life",
            "The newest score and the ends of its interval; empty for a device that is no machine.",
            Stat(),
            cycles(limits, "no RUL score in this time range"),
            [scores.DEVICE_RUL_NOW],
            9,
            5,
            _rul_overrides(band=False),
        ),
        Panel(
            "device-age",
            "Silent for",
            "Time from its last reading to the end of the time range, by stream.",
            Stat(),
            age(limits, "not heard of in this time range", series_name("stream")),
            [devices.DEVICE_AGE],
            5,
            5,
        ),
        Panel(
            "device-version",
            "Version of the student",
            "Which version of the student scored it; a step is a rollout.",
            Lines(stepped=True),
            Style(NO_SCORES, decimals=0, minimum=0, name=series_name("model")),
            [scores.DEVICE_VERSION],
            10,
            5,
        ),
    ]


def _device_scores(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "device-rul",
            "Remaining useful life with its interval",
            "The band is the interval of the score. It is calibrated: the truth lies in it as "
            "often as its level says.",
            Lines(fill=0, show_thresholds=True, legend=("lastNotNull", "min", "max")),
            cycles(limits, "no RUL score in this time range").in_palette(),
            [scores.DEVICE_RUL],
            24,
            10,
            _rul_overrides(band=True),
        ),
        Panel(
            "device-activity",
            "Activity",
            "The most probable class over time.",
            Timeline(),
            activity("no activity score in this time range", series_name("model")),
            [scores.DEVICE_ACTIVITY],
            24,
            5,
        ),
        Panel(
            "device-probabilities",
            "Probability of every class",
            "Two classes side by side for long mean that the student cannot tell them apart.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share("no activity score in this time range", series_name("activity")),
            [scores.DEVICE_PROBABILITIES],
            12,
            8,
        ),
        Panel(
            "device-latency",
            "Receipt to score",
            "The longest time between the receipt of a window's last reading and its score.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.DEVICE_LATENCY],
            12,
            8,
        ),
    ]


def _device_account() -> list[Panel]:
    return [
        Panel(
            "device-rates",
            "Readings by what became of them",
            "Received = windowed + duplicate + late + dead letter, always.",
            Lines(stack="normal", fill=40),
            rate(NO_DEVICES, "readings"),
            [devices.DEVICE_RATES],
            12,
            8,
            outcome_overrides(),
        ),
        Panel(
            "device-windows",
            "Readings and gaps in a window",
            "A window with gaps is scored all the same; many gaps mean a bad radio or clock.",
            Lines(),
            Style(NO_SCORES, minimum=0, name="${__field.name} ${__field.labels.model}"),
            [scores.DEVICE_WINDOWS],
            12,
            8,
        ),
        Panel(
            "device-account",
            "Account since it was first heard of",
            "Missing is what the account cannot explain; it is 0, or an alert is on its way.",
            Table(
                (
                    Column("site", "Site"),
                    Column("device", "Device"),
                    Column("stream", "Stream"),
                    *account_columns(),
                )
            ),
            Style(NO_DEVICES),
            [devices.DEVICE_ACCOUNT],
            24,
            5,
        ),
    ]


def _device_history(limits: Limits, bucket: str) -> list[Panel]:
    no_hours = "no hours yet: InfluxDB makes them a few minutes after each hour"
    return [
        Panel(
            "rul-history",
            "Remaining useful life",
            "Mean of the hour, within the lowest and the highest end of an interval.",
            Lines(fill=0, show_thresholds=True),
            cycles(limits, no_hours).in_palette(),
            [history.rul_history(bucket)],
            24,
            9,
            [
                Override("rul_mean", {"displayName": "mean"}),
                Override("rul_low_min", _faint("lowest lower end")),
                Override(
                    "rul_high_max",
                    _faint("highest upper end")
                    | {"custom.fillBelowTo": "lowest lower end", "custom.fillOpacity": 15},
                ),
            ],
            time_from="30d",
        ),
        Panel(
            "activity-history",
            "Windows by activity",
            "How many windows of the hour had which activity.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(no_hours, series_name("activity")).in_palette(),
            [history.activity_history(bucket)],
            12,
            8,
            time_from="30d",
        ),
        Panel(
            "readings-history",
            "Readings by what became of them",
            "Readings of the hour; the first hour shown has none before it to compare with.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(no_hours).in_palette(),
            [history.readings_history(bucket)],
            12,
            8,
            outcome_overrides(),
            time_from="30d",
        ),
    ]


def _rul_overrides(*, band: bool) -> list[Override]:
    low, high = _faint("lower end"), _faint("upper end")
    if not band:
        low, high = {"displayName": "lower end"}, {"displayName": "upper end"}
    else:
        high |= {"custom.fillBelowTo": "lower end", "custom.fillOpacity": 15}
    return [
        Override("rul", {"displayName": "RUL"}),
        Override("rul_low", low),
        Override("rul_high", high),
    ]


def _faint(name: str) -> dict[str, object]:
    return {
        "displayName": name,
        "color": {"mode": "fixed", "fixedColor": "light-blue"},
        "custom.lineWidth": 0,
    }

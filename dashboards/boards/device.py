"""The device board: scores, account and history of one device. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import devices, scores
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    NO_DEVICES,
    NO_SCORES,
    account_columns,
    age,
    count,
    outcome_overrides,
    rate,
    series_name,
    span_ms,
)
from dashboards.visuals.variables import device_variables
from dashboards.visuals.views import Column, Lines, Stat, Style, Table
from models.tasks.contract import Task

__all__ = ["device_board"]

_NO_HOURS = "no hours yet: InfluxDB makes them a few minutes after each hour"


def device_board(
    tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits, hourly_bucket: str
) -> Board:
    """Everything about one device."""
    return Board(
        DEVICE_UID,
        "kpstream: device",
        "One machine or person: its scores with their intervals, its account, its past.",
        [
            Row("Now", _now(tasks, panels, limits)),
            Row("Scores", _scores(tasks, panels)),
            Row("Account of its readings", _account(tasks)),
            Row("The last thirty days, by hour", _history(panels, hourly_bucket)),
        ],
        device_variables(tasks),
    )


def _now(tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits) -> list[Panel]:
    return [
        *(panel for of_task in panels for panel in of_task.device_now),
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
            [scores.device_version(tasks)],
            10,
            5,
        ),
    ]


def _scores(tasks: Sequence[Task], panels: Sequence[TaskPanels]) -> list[Panel]:
    return [
        *(panel for of_task in panels for panel in of_task.device_scores),
        Panel(
            "device-latency",
            "Receipt to score",
            "The longest time between the receipt of a window's last reading and its score.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.device_latency(tasks)],
            12,
            8,
        ),
    ]


def _account(tasks: Sequence[Task]) -> list[Panel]:
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
            [scores.device_windows(tasks)],
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


def _history(panels: Sequence[TaskPanels], bucket: str) -> list[Panel]:
    return [
        *(panel for of_task in panels for panel in of_task.device_history),
        Panel(
            "readings-history",
            "Readings by what became of them",
            "Readings of the hour; the first hour shown has none before it to compare with.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(_NO_HOURS).in_palette(),
            [devices.readings_history(bucket)],
            12,
            8,
            outcome_overrides(),
            time_from="30d",
        ),
    ]

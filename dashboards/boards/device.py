"""The device board: scores, account and history of one device. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.explanations import explanations_panel
from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import devices, drift, scores
from dashboards.visuals.board import LABEL_ANNOTATION, Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    NO_DEVICES,
    NO_HOURS,
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
from dashboards.visuals.views import Column, Lines, Stat, Style, Table, Timeline
from models.tasks.contract import Task
from models.tasks.quality import GOOD

__all__ = ["device_board"]


def device_board(
    tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits, hourly_bucket: str
) -> Board:
    """Everything about one device."""
    return Board(
        DEVICE_UID,
        "kpstream: device",
        "One machine, sensor or person: scores with their intervals, account of readings, history. "
        "Labels that people gave are marked in the charts.",
        [
            Row("Now", _now(tasks, panels, limits)),
            Row("Scores", _scores(tasks, panels)),
            Row("Account of its readings", _account(tasks)),
            Row("The last thirty days, by hour", _history(panels, hourly_bucket)),
        ],
        device_variables(tasks),
        more_annotations=(LABEL_ANNOTATION,),
    )


def _now(tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits) -> list[Panel]:
    return [
        *(panel for of_task in panels for panel in of_task.device_now),
        Panel(
            "device-age",
            "Silent for",
            "Time from its last reading to the end of the time range, by stream.",
            Stat(),
            age(limits, "no reading in this time range", series_name("stream")),
            [devices.DEVICE_AGE],
            6,
            5,
        ),
        Panel(
            "device-version",
            "Version of the student",
            "The version that scored it, by model; a step is a rollout.",
            Lines(stepped=True),
            Style(NO_SCORES, decimals=0, minimum=0, name=series_name("model")),
            [scores.device_version(tasks)],
            24,
            5,
        ),
        Panel(
            "device-quality",
            "Quality of its scores",
            "Good, or why a score is doubtful: its readings are not of the kind that the student "
            "has learned.",
            Timeline(),
            Style(NO_SCORES, mappings={GOOD: ("good", "green")}, name=series_name("model")),
            [drift.device_quality(tasks)],
            24,
            5,
        ),
    ]


def _scores(tasks: Sequence[Task], panels: Sequence[TaskPanels]) -> list[Panel]:
    return [
        *(panel for of_task in panels for panel in of_task.device_scores),
        Panel(
            "device-latency",
            "Receipt to score",
            "The longest time from the receipt of the last reading of a window to its score.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.device_latency(tasks)],
            12,
            8,
        ),
        explanations_panel(),
    ]


def _account(tasks: Sequence[Task]) -> list[Panel]:
    return [
        Panel(
            "device-rates",
            "Readings by outcome",
            "Each received reading has exactly one outcome: windowed, duplicate, corrected, late "
            "or dead letter.",
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
            "A window with gaps is scored too; many gaps point to a bad radio link or clock.",
            Lines(),
            Style(NO_SCORES, minimum=0, name="${__field.name} ${__field.labels.model}"),
            [scores.device_windows(tasks)],
            12,
            8,
        ),
        Panel(
            "device-account",
            "Account since its first reading",
            "Missing is the number of readings without an outcome. It is 0, or an alert fires.",
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
            "Readings by outcome",
            "Readings of each hour. The first hour is empty, because none before it is in the "
            "range.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(NO_HOURS).in_palette(),
            [devices.readings_history(bucket)],
            12,
            8,
            outcome_overrides(),
            time_from="30d",
        ),
    ]

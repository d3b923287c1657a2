"""The fleet board: newest scores of all devices, silent devices. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import devices, drift
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_LINK, FLEET_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_DEVICES, age, count, rate, series_name
from dashboards.visuals.variables import fleet_variables
from dashboards.visuals.views import AlertList, Column, Stat, Style, Table
from models.tasks.contract import Task

__all__ = ["fleet_board"]


def fleet_board(tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits) -> Board:
    """The board of all devices: a row for each task, silent devices."""
    return Board(
        FLEET_UID,
        "kpstream: fleet",
        "Newest scores of all devices: which machine is due next, which one is odd, what people "
        "do, who is silent.",
        [
            Row("Now", _now(panels)),
            *(Row(of_task.task.title, of_task.fleet) for of_task in panels if of_task.fleet),
            Row("Silence", [_silent(limits)]),
            Row("Doubt", [_doubtful(tasks, limits)]),
        ],
        fleet_variables(tasks),
    )


def _now(panels: Sequence[TaskPanels]) -> list[Panel]:
    return [
        Panel(
            "devices-seen",
            "Devices seen",
            "Streams of devices whose account has changed in the time range, by site.",
            Stat(),
            count(NO_DEVICES, series_name("site")),
            [devices.DEVICES_SEEN],
            4,
            6,
        ),
        *(panel for of_task in panels for panel in of_task.fleet_now),
        Panel(
            "readings-rate",
            "Readings",
            "Readings received per second, by site.",
            Stat(graph=True),
            rate(NO_DEVICES, "readings", series_name("site")),
            [devices.READINGS_OF_FLEET],
            8,
            6,
        ),
        Panel(
            "alerts",
            "Alerts",
            "Alerts of kpstream that are firing or pending; each says what to do.",
            AlertList(),
            Style("no alert"),
            (),
            24,
            6,
        ),
    ]


def _doubtful(tasks: Sequence[Task], limits: Limits) -> Panel:
    return Panel(
        "doubtful-now",
        "Scores in doubt",
        "Devices whose newest score is doubtful, because its readings are not of the kind that the "
        "student has learned.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=DEVICE_LINK),
                Column("stream", "Stream"),
                Column("quality", "Why"),
                Column("model", "Model"),
                Column("age_s", "Age", age(limits, "")),
            )
        ),
        Style("no doubtful score in this time range"),
        [drift.doubtful_now(tasks)],
        24,
        7,
    )


def _silent(limits: Limits) -> Panel:
    return Panel(
        "silent-devices",
        "Longest silent",
        "Time from the last reading of a stream to the end of the time range, for the streams "
        "that sent any in it; the 100 that have been silent longest.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=DEVICE_LINK),
                Column("stream", "Stream"),
                Column("silent_s", "Silent for", age(limits, ""), cell="colour"),
                Column("last_reading", "Last reading", Style("", "dateTimeAsIso")),
            )
        ),
        Style(NO_DEVICES),
        [devices.SILENT_DEVICES],
        24,
        9,
    )

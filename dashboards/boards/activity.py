"""Panels and board of the task `activity`: activities and their probabilities. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import classes
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_LINK
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_HOURS, NO_SCORES, age, count, series_name, share
from dashboards.visuals.variables import fleet_variables
from dashboards.visuals.views import Bars, Column, Lines, Style, Table, Timeline
from models.tasks.activity import ACTIVITY
from models.tasks.classes import UNKNOWN
from models.tasks.contract import Task

__all__ = ["ACTIVITY_CLASSES", "activity_panels"]

_ACTIVITY_UID = "kpstream-activity"
_NO_ACTIVITY = "no activity score in this time range"

ACTIVITY_CLASSES: Mapping[str, tuple[str, str]] = {
    "WALKING": ("walking", "green"),
    "WALKING_UPSTAIRS": ("upstairs", "dark-green"),
    "WALKING_DOWNSTAIRS": ("downstairs", "light-green"),
    "SITTING": ("sitting", "blue"),
    "STANDING": ("standing", "light-blue"),
    "LAYING": ("lying", "purple"),
    UNKNOWN: ("unknown", "gray"),
}
"""Name and colour of the classes of the starter student; others appear under their labels."""


def activity_panels(tasks: Sequence[Task], limits: Limits, hourly_bucket: str) -> TaskPanels:
    """Everything about the activities of people."""
    return TaskPanels(
        task=ACTIVITY,
        fleet=_fleet(limits),
        device_scores=_device_scores(),
        device_history=[_device_history(hourly_bucket)],
        model_beside=[_model()],
        board=_board(tasks, limits),
    )


def _fleet(limits: Limits) -> list[Panel]:
    return [
        _people_now(limits, 14),
        Panel(
            "activity-shares",
            "What people do",
            "Mean probability of every activity over all selected people; the shares add up to "
            "100 %.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share(NO_SCORES, series_name("activity")),
            [classes.class_shares(ACTIVITY)],
            10,
            10,
        ),
    ]


def _device_scores() -> list[Panel]:
    return [
        Panel(
            "device-activity",
            "Activity",
            "The most probable activity over time.",
            Timeline(),
            _activity(_NO_ACTIVITY, series_name("model")),
            [classes.device_class(ACTIVITY)],
            24,
            5,
        ),
        Panel(
            "device-probabilities",
            "Probability of every activity",
            "Two activities with similar shares for a long time are hard to tell apart for the "
            "student.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share(_NO_ACTIVITY, series_name("activity")),
            [classes.device_probabilities(ACTIVITY)],
            12,
            8,
        ),
    ]


def _device_history(bucket: str) -> Panel:
    return Panel(
        "activity-history",
        "Windows by activity",
        "Number of windows of each activity in each hour.",
        Lines(draw="bars", stack="normal", legend=("sum",)),
        count(NO_HOURS, series_name("activity")).in_palette(),
        [classes.class_history(ACTIVITY, bucket)],
        12,
        8,
        time_from="30d",
    )


def _model() -> Panel:
    return Panel(
        "certainty",
        "Probability of the most probable activity",
        "Mean over all people, by model. A fall after a rollout is a sign against the new version.",
        Lines(),
        share("no activity scores in this time range", series_name("model")),
        [classes.certainty(ACTIVITY)],
        8,
        8,
    )


def _board(tasks: Sequence[Task], limits: Limits) -> Board:
    """The board of the activities of people."""
    return Board(
        _ACTIVITY_UID,
        "kpstream: activity",
        "Activities of people, now and over time, and how certain the student is.",
        [
            Row(
                "What people do",
                [
                    _everybody(),
                    Panel(
                        "activity-shares",
                        "Shares",
                        "Mean probability of every activity over all selected people.",
                        Lines(stack="percent", fill=60, legend=("mean",)),
                        share(NO_SCORES, series_name("activity")),
                        [classes.class_shares(ACTIVITY)],
                        10,
                        10,
                    ),
                    _people_now(limits, 14),
                ],
            ),
            Row(
                "How sure the student is",
                [
                    Panel(
                        "certainty",
                        "Probability of the most probable activity",
                        "Mean over all people, by model. A lasting fall means that people or "
                        "sensors have changed: distill a new student.",
                        Lines(),
                        share(NO_SCORES, series_name("model")),
                        [classes.certainty(ACTIVITY)],
                        14,
                        8,
                    ),
                    _least_certain(),
                ],
            ),
        ],
        fleet_variables(tasks),
    )


def _everybody() -> Panel:
    return Panel(
        "activity-timelines",
        "Everybody",
        "The most probable activity of every person over time.",
        Timeline(),
        _activity(NO_SCORES, series_name("device")),
        [classes.class_by_device(ACTIVITY)],
        24,
        12,
    )


def _least_certain() -> Panel:
    return Panel(
        "least-certain",
        "Least certain",
        "The ten people with the lowest mean probability in the time range.",
        Bars(),
        share(NO_SCORES, series_name("device"), red_below=0.5),
        [classes.least_certain(ACTIVITY)],
        10,
        8,
    )


def _people_now(limits: Limits, width: int) -> Panel:
    """The table of people, which the fleet board and the activity board share."""
    return Panel(
        "activity-now",
        "People now",
        "The newest activity of every person in the time range, and its probability; at most 500 "
        "people.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=DEVICE_LINK),
                Column("activity", "Activity", _activity(""), cell="colour"),
                Column("probability", "Probability", share("", red_below=0.5), cell="gauge"),
                Column("model", "Model"),
                Column("version", "Version", count("")),
                Column("age_s", "Age", age(limits, "")),
            )
        ),
        Style(NO_SCORES),
        [classes.class_now(ACTIVITY)],
        width,
        10,
    )


def _activity(no_value: str, name: str = "") -> Style:
    """A class, shown by its name and colour."""
    return Style(no_value, mappings=ACTIVITY_CLASSES, name=name)

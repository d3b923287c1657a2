"""The model board: versions, health, rollouts and behaviour of the students. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import drift, scores, students
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import MODEL_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_SCORES, age, count, series_name, share, span_ms
from dashboards.visuals.variables import fleet_variables
from dashboards.visuals.views import Column, Lines, Style, Table, Timeline
from models.tasks.contract import Task

__all__ = ["model_board"]

_NO_STUDENTS = "no process has reported a student in this time range"
_HEALTH_STATES = {"0": ("unhealthy", "red"), "1": ("healthy", "green")}
_DRIFT_STATES = {"0": ("as learned", "green"), "1": ("drifted", "red")}
_NO_DRIFT = "no stream has been judged in this time range; it takes 200 windows"
_EVENTS = {
    "swapped": ("took over", "green"),
    "refused": ("refused", "red"),
    "took_over": ("on probation", "blue"),
    "fell_back": ("fell back", "red"),
}


def model_board(tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits) -> Board:
    """The board of all models: their versions and behaviour."""
    return Board(
        MODEL_UID,
        "kpstream: model",
        "Which version of each model scores, which versions were refused, how the scores behave.",
        [
            Row("Versions", _versions(tasks, limits)),
            Row("Behaviour", _behaviour(tasks, panels)),
            Row("Drift", _drift(limits)),
        ],
        fleet_variables(tasks),
        time_from="now-6h",
    )


def _versions(tasks: Sequence[Task], limits: Limits) -> list[Panel]:
    return [
        _models_now(limits),
        Panel(
            "model-health",
            "Health",
            "Health of each model in each process.",
            Timeline(),
            Style(_NO_STUDENTS, mappings=_HEALTH_STATES, name=series_name("model", "gateway")),
            [students.MODEL_HEALTH],
            12,
            7,
        ),
        Panel(
            "model-versions",
            "Version by process",
            "The version that each process scores with; in a rollout processes switch one by one.",
            Lines(stepped=True),
            Style(_NO_STUDENTS, decimals=0, minimum=0, name=series_name("model", "gateway")),
            [students.MODEL_VERSIONS],
            12,
            7,
        ),
        _devices_of_versions(tasks),
        _rollouts(),
    ]


def _models_now(limits: Limits) -> Panel:
    return Panel(
        "models-now",
        "Students now",
        "The version that each process scores with. Unhealthy means that no version scores, "
        "or that a newer version was refused; the error gives the reason, and the version "
        "before it keeps scoring.",
        Table(
            (
                Column("model", "Model"),
                Column("task", "Task"),
                Column("stream", "Stream"),
                Column("gateway", "Process"),
                Column("version", "Version", count("")),
                Column("healthy", "Health", Style("", mappings=_HEALTH_STATES), cell="colour"),
                Column("refused_version", "Refused version", count("")),
                Column("error", "Error"),
                Column("age_s", "Age", age(limits, "", limit_s=limits.process_s)),
            )
        ),
        Style(_NO_STUDENTS),
        [students.MODELS_NOW],
        24,
        7,
    )


def _devices_of_versions(tasks: Sequence[Task]) -> Panel:
    return Panel(
        "devices-of-versions",
        "Devices by version",
        "Number of devices whose newest score comes from each version.",
        Table(
            (
                Column("model", "Model"),
                Column("version", "Version", count("")),
                Column("devices", "Devices", count("")),
                Column("newest", "Newest score", Style("", "dateTimeAsIso")),
            )
        ),
        Style(NO_SCORES),
        [scores.devices_of_versions(tasks)],
        10,
        7,
    )


def _rollouts() -> Panel:
    return Panel(
        "rollouts",
        "Rollouts",
        "Versions that took over or were refused in the time range; the charts mark them with "
        "vertical lines.",
        Table(
            (
                Column("_time", "When", Style("", "dateTimeAsIso")),
                Column("model", "Model"),
                Column("event", "Event", Style("", mappings=_EVENTS), cell="colour"),
                Column("version", "Version", count("")),
                Column("gateway", "Process"),
                Column("text", "Text"),
            )
        ),
        Style("no rollout in this time range"),
        [students.ROLLOUTS],
        14,
        7,
    )


def _drift(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "drift-now",
            "Drift of streams and their devices",
            "Whether the readings are still of the kind that the student has learned, by each "
            "process that scores them; * stands for all devices of the stream.",
            Table(
                (
                    Column("stream", "Stream"),
                    Column("site", "Site"),
                    Column("device", "Device"),
                    Column("drifted", "Drift", Style("", mappings=_DRIFT_STATES), cell="colour"),
                    Column("text", "Why"),
                    Column("flagged", "Doubtful", share("")),
                    Column("windows", "Windows", count("")),
                    Column("version", "Version", count("")),
                    Column("gateway", "Process"),
                    Column("age_s", "Age", age(limits, "")),
                )
            ),
            Style(_NO_DRIFT),
            [drift.DRIFT_NOW],
            24,
            8,
        ),
        Panel(
            "drift-shapes",
            "Shape of each channel",
            "Population stability index against training, as a share of its limit: above 100 % the "
            "channel has another shape than any part of training.",
            Lines(),
            Style(_NO_DRIFT, "percentunit", minimum=0, name=series_name("stream", "channel")),
            [drift.SHAPES],
            24,
            8,
        ),
    ]


def _behaviour(tasks: Sequence[Task], panels: Sequence[TaskPanels]) -> list[Panel]:
    return [
        Panel(
            "scores-of-models",
            "Scores",
            "Number of scored windows, by model.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(NO_SCORES, series_name("model")).in_palette(),
            [scores.scores_of_models(tasks)],
            8,
            8,
        ),
        Panel(
            "latency-of-models",
            "Receipt to score",
            "The longest time from the receipt of the last reading of a window to its score, by "
            "model.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.latency_of_models(tasks)],
            8,
            8,
        ),
        *(panel for of_task in panels for panel in of_task.model_beside),
        *(panel for of_task in panels for panel in of_task.model_below),
    ]

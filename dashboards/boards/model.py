"""The board of the students: versions, health, rollouts, behaviour. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import scores, students
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import MODEL_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_SCORES, age, count, series_name, span_ms
from dashboards.visuals.variables import fleet_variables
from dashboards.visuals.views import Column, Lines, Style, Table, Timeline
from models.tasks.contract import Task

__all__ = ["model_board"]

_HEALTH_STATES = {"0": ("unhealthy", "red"), "1": ("healthy", "green")}
_EVENTS = {"swapped": ("took over", "green"), "refused": ("refused", "red")}


def model_board(tasks: Sequence[Task], panels: Sequence[TaskPanels], limits: Limits) -> Board:
    """Which student scores what, and how it does."""
    return Board(
        MODEL_UID,
        "kpstream: model",
        "Which version of which student scores, what was refused, and how the scores behave.",
        [
            Row("Versions", _versions(tasks, limits)),
            Row("Behaviour", _behaviour(tasks, panels)),
        ],
        fleet_variables(tasks),
        time_from="now-6h",
    )


def _versions(tasks: Sequence[Task], limits: Limits) -> list[Panel]:
    silent = "no process has reported a student in this time range"
    return [
        Panel(
            "models-now",
            "Students now",
            "What every process scores with. Unhealthy: no version scores, or a newer one was "
            "refused; the error says why, and the version before it keeps scoring.",
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
            Style(silent),
            [students.MODELS_NOW],
            24,
            7,
        ),
        Panel(
            "model-health",
            "Health",
            "By student and process.",
            Timeline(),
            Style(silent, mappings=_HEALTH_STATES, name=series_name("model", "gateway")),
            [students.MODEL_HEALTH],
            12,
            7,
        ),
        Panel(
            "model-versions",
            "Version by process",
            "During a rollout the processes change one after the other.",
            Lines(stepped=True),
            Style(silent, decimals=0, minimum=0, name=series_name("model", "gateway")),
            [students.MODEL_VERSIONS],
            12,
            7,
        ),
        Panel(
            "devices-of-versions",
            "Devices by version",
            "How many devices got their newest score from which version.",
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
        ),
        Panel(
            "rollouts",
            "Rollouts",
            "What took over and what was refused in the time range, as the marks in the charts.",
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
        ),
    ]


def _behaviour(tasks: Sequence[Task], panels: Sequence[TaskPanels]) -> list[Panel]:
    return [
        Panel(
            "scores-of-models",
            "Scores",
            "Windows scored, by student.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(NO_SCORES, series_name("model")).in_palette(),
            [scores.scores_of_models(tasks)],
            8,
            8,
        ),
        Panel(
            "latency-of-models",
            "Receipt to score",
            "The longest time of a window, by student.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.latency_of_models(tasks)],
            8,
            8,
        ),
        *(panel for of_task in panels for panel in of_task.model_beside),
        *(panel for of_task in panels for panel in of_task.model_below),
    ]

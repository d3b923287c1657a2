"""The board of the students: versions, health, rollouts, behaviour. Pure."""

from __future__ import annotations

from dashboards.queries import line, scores
from dashboards.visuals.board import MODELS_VARIABLE, SITES_VARIABLE, Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_SCORES, age, count, series_name, share, span_ms
from dashboards.visuals.views import Column, Lines, Style, Table, Timeline

__all__ = ["MODEL_UID", "model_board"]

MODEL_UID = "kpstream-model"

_HEALTH_STATES = {"0": ("unhealthy", "red"), "1": ("healthy", "green")}


def model_board(limits: Limits) -> Board:
    """Which student scores what, and how it does."""
    return Board(
        MODEL_UID,
        "kpstream: model",
        "Which version of which student scores, what was refused, and how the scores behave.",
        [
            Row("Versions", _versions(limits)),
            Row("Behaviour", _behaviour()),
        ],
        [SITES_VARIABLE, MODELS_VARIABLE],
        time_from="now-6h",
    )


def _versions(limits: Limits) -> list[Panel]:
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
            [line.MODELS_NOW],
            24,
            7,
        ),
        Panel(
            "model-health",
            "Health",
            "By student and process.",
            Timeline(),
            Style(silent, mappings=_HEALTH_STATES, name=series_name("model", "gateway")),
            [line.MODEL_HEALTH],
            12,
            7,
        ),
        Panel(
            "model-versions",
            "Version by process",
            "During a rollout the processes change one after the other.",
            Lines(stepped=True),
            Style(silent, decimals=0, minimum=0, name=series_name("model", "gateway")),
            [line.MODEL_VERSIONS],
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
            [scores.DEVICES_OF_VERSIONS],
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
            [line.ROLLOUTS],
            14,
            7,
        ),
    ]


_EVENTS = {"swapped": ("took over", "green"), "refused": ("refused", "red")}


def _behaviour() -> list[Panel]:
    return [
        Panel(
            "scores-of-models",
            "Scores",
            "Windows scored, by student.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(NO_SCORES, series_name("model")).in_palette(),
            [scores.SCORES_OF_MODELS],
            8,
            8,
        ),
        Panel(
            "latency-of-models",
            "Receipt to score",
            "The longest time of a window, by student.",
            Lines(),
            span_ms(NO_SCORES, series_name("model")),
            [scores.LATENCY_OF_MODELS],
            8,
            8,
        ),
        Panel(
            "certainty",
            "Probability of the chosen class",
            "Mean over all people. A fall after a rollout speaks against the new version.",
            Lines(),
            share("no activity scores in this time range", series_name("model")),
            [scores.CERTAINTY],
            8,
            8,
        ),
        Panel(
            "rul-of-models",
            "Mean remaining useful life",
            "Over all machines. A jump at a rollout is the new version's doing, not the machines'.",
            Lines(),
            Style(
                "no RUL scores in this time range",
                "suffix: cycles",
                minimum=0,
                name=series_name("model"),
            ),
            [scores.RUL_OF_MODELS],
            12,
            8,
        ),
        Panel(
            "interval-width",
            "Mean width of the intervals",
            "Wider means less sure. It should not change much without a rollout.",
            Lines(),
            Style(
                "no intervals in this time range",
                "suffix: cycles",
                minimum=0,
                name=series_name("model"),
            ),
            [scores.INTERVAL_WIDTH],
            12,
            8,
        ),
    ]

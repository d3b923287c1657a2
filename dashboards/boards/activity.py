"""The board of activity: what people do, and how sure the student is. Pure."""

from __future__ import annotations

from dashboards.queries import scores
from dashboards.visuals.board import MODELS_VARIABLE, SITES_VARIABLE, Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    DEVICE_LINK,
    NO_SCORES,
    activity,
    age,
    count,
    series_name,
    share,
)
from dashboards.visuals.views import Bars, Column, Lines, Style, Table, Timeline

__all__ = ["ACTIVITY_UID", "activity_board", "activity_now"]

ACTIVITY_UID = "kpstream-activity"


def activity_board(limits: Limits) -> Board:
    """What people do, and how sure the student is."""
    return Board(
        ACTIVITY_UID,
        "kpstream: activity",
        "What people do, over time and now, and where the student is unsure.",
        [
            Row(
                "What people do",
                [
                    Panel(
                        "activity-timelines",
                        "Everybody",
                        "The most probable class of every person over time.",
                        Timeline(),
                        activity(NO_SCORES, series_name("device")),
                        [scores.ACTIVITY_BY_DEVICE],
                        24,
                        12,
                    ),
                    Panel(
                        "activity-shares",
                        "Shares",
                        "Mean probability of every class over all people chosen.",
                        Lines(stack="percent", fill=60, legend=("mean",)),
                        share(NO_SCORES, series_name("activity")),
                        [scores.ACTIVITY_SHARES],
                        10,
                        10,
                    ),
                    activity_now(limits, 14),
                ],
            ),
            Row(
                "How sure the student is",
                [
                    Panel(
                        "certainty",
                        "Probability of the chosen class",
                        "Mean over all people. A lasting fall means that people or sensors have "
                        "changed: time to distill again.",
                        Lines(),
                        share(NO_SCORES, series_name("model")),
                        [scores.CERTAINTY],
                        14,
                        8,
                    ),
                    Panel(
                        "least-certain",
                        "Least certain",
                        "The ten people with the lowest mean probability in the time range.",
                        Bars(),
                        share(NO_SCORES, series_name("device"), red_below=0.5),
                        [scores.LEAST_CERTAIN],
                        10,
                        8,
                    ),
                ],
            ),
        ],
        [SITES_VARIABLE, MODELS_VARIABLE],
    )


def activity_now(limits: Limits, width: int) -> Panel:
    """The table of people, as the fleet's board has it too."""
    return Panel(
        "activity-now",
        "People now",
        "The newest score of every person in the time range, of 500 at the most, and how sure the "
        "student is.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=DEVICE_LINK),
                Column("activity", "Activity", activity(""), cell="colour"),
                Column("probability", "Probability", share("", red_below=0.5), cell="gauge"),
                Column("model", "Model"),
                Column("version", "Version", count("")),
                Column("age_s", "Age", age(limits, "")),
            )
        ),
        Style(NO_SCORES),
        [scores.ACTIVITY_NOW],
        width,
        10,
    )

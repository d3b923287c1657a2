"""The board of the fleet: which machine is next, who is silent, what people do. Pure."""

from __future__ import annotations

from dashboards.boards.activity import activity_now
from dashboards.queries import devices, scores
from dashboards.visuals.board import MODELS_VARIABLE, SITES_VARIABLE, Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    DEVICE_LINK,
    NO_DEVICES,
    NO_SCORES,
    age,
    count,
    cycles,
    rate,
    series_name,
    share,
)
from dashboards.visuals.views import AlertList, Bars, Column, Lines, Stat, Style, Table

__all__ = ["FLEET_UID", "fleet_board"]

FLEET_UID = "kpstream-fleet"


def fleet_board(limits: Limits) -> Board:
    """Which machine is next, who is silent, what people do."""
    return Board(
        FLEET_UID,
        "kpstream: fleet",
        "Which machine is due next, how sure that is, who is silent, what people do now.",
        [
            Row("Now", _fleet_now(limits)),
            Row("Remaining useful life", _fleet_rul(limits)),
            Row("Activity", _fleet_activity(limits)),
            Row("Silence", [_silent(limits)]),
        ],
        [SITES_VARIABLE, MODELS_VARIABLE],
    )


def _fleet_now(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "devices-seen",
            "Devices heard of",
            "Streams of devices whose account changed in the time range, by site.",
            Stat(),
            count(NO_DEVICES, series_name("site")),
            [devices.DEVICES_SEEN],
            4,
            6,
        ),
        Panel(
            "rul-below",
            "Machines due",
            f"Machines whose interval begins below {limits.rul_cycles:g} cycles: the newest score "
            "of each in the time range counts.",
            Stat(background=True, all_rows=True),
            count(NO_SCORES, red_from=1),
            [scores.rul_below(limits.rul_cycles)],
            4,
            6,
        ),
        Panel(
            "rul-lowest-bound",
            "Lowest lower end",
            "The smallest lower end of an interval among the newest scores.",
            Stat(),
            cycles(limits, NO_SCORES),
            [scores.RUL_LOWEST_BOUND],
            4,
            6,
        ),
        Panel(
            "readings-rate",
            "Readings",
            "Readings received per second, by site.",
            Stat(graph=True),
            rate(NO_DEVICES, "readings", series_name("site")),
            [devices.READINGS_OF_FLEET],
            6,
            6,
        ),
        Panel(
            "alerts",
            "Alerts",
            "Alerts of kpstream that fire or are about to; each says what to do.",
            AlertList(),
            Style("no alert"),
            (),
            6,
            6,
        ),
    ]


def _fleet_rul(limits: Limits) -> list[Panel]:
    in_cycles = cycles(limits, NO_SCORES)
    return [
        Panel(
            "rul-now",
            "Machines, the next one due first",
            "The newest score of every machine in the time range, of 500 at the most. The interval "
            "holds the true remaining life as often as its level says (90 % for the shipped one).",
            Table(
                (
                    Column("site", "Site"),
                    Column("device", "Device", link=DEVICE_LINK),
                    Column("rul_low", "Lower end", in_cycles, cell="colour"),
                    Column("rul", "RUL", in_cycles),
                    Column("rul_high", "Upper end", in_cycles),
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("age_s", "Age", age(limits, "")),
                )
            ),
            Style(NO_SCORES),
            [scores.RUL_NOW],
            14,
            12,
        ),
        Panel(
            "rul-lowest",
            "The ten lowest",
            "Lower ends of the intervals.",
            Bars(),
            cycles(limits, NO_SCORES, series_name("device")),
            [scores.RUL_LOWEST],
            10,
            12,
        ),
        Panel(
            "rul-of-fleet",
            "Remaining useful life of the fleet",
            "The lowest score, the lowest tenth and the middle of the fleet over time. The middle "
            "falls when the fleet ages; the lowest jumps up when a machine is replaced.",
            Lines(show_thresholds=True),
            cycles(limits, NO_SCORES, series_name("devices")).in_palette(),
            [scores.RUL_OF_FLEET],
            24,
            8,
        ),
    ]


def _fleet_activity(limits: Limits) -> list[Panel]:
    return [
        activity_now(limits, 14),
        Panel(
            "activity-shares",
            "What people do",
            "Mean probability of every class over all people chosen; the shares add up to one.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share(NO_SCORES, series_name("activity")),
            [scores.ACTIVITY_SHARES],
            10,
            10,
        ),
    ]


def _silent(limits: Limits) -> Panel:
    return Panel(
        "silent-devices",
        "Longest silent",
        "Time since the last reading of every stream that was heard of in the time range, until "
        "the end of the range; the hundred longest.",
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

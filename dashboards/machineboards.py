"""The boards about machines and people: the fleet, one device, activity. Pure."""

from __future__ import annotations

from dashboards import historyqueries as history
from dashboards import linequeries as line
from dashboards import scorequeries as scores
from dashboards.boards import (
    DEVICE_VARIABLE,
    MODELS_VARIABLE,
    ONE_SITE_VARIABLE,
    SITES_VARIABLE,
    Board,
    Row,
    link_to,
)
from dashboards.limits import Limits
from dashboards.looks import (
    activity,
    age,
    count,
    cycles,
    line_name,
    outcome_overrides,
    rate,
    share,
    span_ms,
)
from dashboards.panels import (
    AlertList,
    Bars,
    Column,
    Grid,
    Lines,
    Override,
    Panel,
    Stat,
    Style,
    Timeline,
)

__all__ = [
    "ACTIVITY_UID",
    "DEVICE_UID",
    "FLEET_UID",
    "activity_board",
    "device_board",
    "fleet_board",
]

FLEET_UID = "kpstream-fleet"
DEVICE_UID = "kpstream-device"
ACTIVITY_UID = "kpstream-activity"

_TO_DEVICE = (
    "Open the device",
    link_to(DEVICE_UID, site="${__data.fields.Site}", device="${__data.fields.Device}"),
)
_NO_SCORES = "no scores in this time range"
_NO_DEVICES = "no device has reported in this time range"


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
            count(_NO_DEVICES, line_name("site")),
            [line.DEVICES_SEEN],
            4,
            6,
        ),
        Panel(
            "rul-below",
            "Machines due",
            f"Machines whose interval begins below {limits.rul_cycles:g} cycles: the newest score "
            "of each in the time range counts.",
            Stat(background=True, all_rows=True),
            count(_NO_SCORES, bad_from=1),
            [scores.rul_below(limits.rul_cycles)],
            4,
            6,
        ),
        Panel(
            "rul-lowest-bound",
            "Lowest lower end",
            "The smallest lower end of an interval among the newest scores.",
            Stat(),
            cycles(limits, _NO_SCORES),
            [scores.RUL_LOWEST_BOUND],
            4,
            6,
        ),
        Panel(
            "readings-rate",
            "Readings",
            "Readings received per second, by site.",
            Stat(graph=True),
            rate(_NO_DEVICES, "readings", line_name("site")),
            [line.READINGS_OF_FLEET],
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
    in_cycles = cycles(limits, _NO_SCORES)
    return [
        Panel(
            "rul-now",
            "Machines, the next one due first",
            "The newest score of every machine in the time range. The interval holds the true "
            "remaining life as often as its level says (90 % for the shipped student).",
            Grid(
                (
                    Column("site", "Site"),
                    Column("device", "Device", link=_TO_DEVICE),
                    Column("rul_low", "Lower end", in_cycles, cell="colour"),
                    Column("rul", "RUL", in_cycles),
                    Column("rul_high", "Upper end", in_cycles),
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("age_s", "Age", age(limits, "")),
                )
            ),
            Style(_NO_SCORES),
            [scores.RUL_NOW],
            14,
            12,
        ),
        Panel(
            "rul-lowest",
            "The ten lowest",
            "Lower ends of the intervals.",
            Bars(),
            cycles(limits, _NO_SCORES, line_name("device")),
            [scores.RUL_LOWEST],
            10,
            12,
        ),
        Panel(
            "rul-of-fleet",
            "Remaining useful life of the fleet",
            "The lowest score, the lowest tenth and the middle of the fleet over time. The middle "
            "falls when the fleet ages; the lowest jumps up when a machine is replaced.",
            Lines(show_steps=True),
            cycles(limits, _NO_SCORES, line_name("devices")).in_palette(),
            [scores.RUL_OF_FLEET],
            24,
            8,
        ),
    ]


def _fleet_activity(limits: Limits) -> list[Panel]:
    return [
        _activity_now(limits, 14),
        Panel(
            "activity-shares",
            "What people do",
            "Mean probability of every class over all people chosen; the shares add up to one.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share(_NO_SCORES, line_name("activity")),
            [scores.ACTIVITY_SHARES],
            10,
            10,
        ),
    ]


def _activity_now(limits: Limits, width: int) -> Panel:
    return Panel(
        "activity-now",
        "People now",
        "The newest score of every person in the time range, and how sure the student is.",
        Grid(
            (
                Column("site", "Site"),
                Column("device", "Device", link=_TO_DEVICE),
                Column("activity", "Activity", activity(""), cell="colour"),
                Column("probability", "Probability", share("", good_from=0.5), cell="gauge"),
                Column("model", "Model"),
                Column("version", "Version", count("")),
                Column("age_s", "Age", age(limits, "")),
            )
        ),
        Style(_NO_SCORES),
        [scores.ACTIVITY_NOW],
        width,
        10,
    )


def _silent(limits: Limits) -> Panel:
    return Panel(
        "silent-devices",
        "Longest silent",
        "Time since the last reading of every stream that was heard of in the time range, until "
        "the end of the range; the hundred longest.",
        Grid(
            (
                Column("site", "Site"),
                Column("device", "Device", link=_TO_DEVICE),
                Column("stream", "Stream"),
                Column("silent_s", "Silent for", age(limits, ""), cell="colour"),
                Column("last_reading", "Last reading", Style("", "dateTimeAsIso")),
            )
        ),
        Style(_NO_DEVICES),
        [line.SILENT_DEVICES],
        24,
        9,
    )


# ------------------------------------------------------------------------------------ one device


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
            age(limits, "not heard of in this time range", line_name("stream")),
            [line.DEVICE_AGE],
            5,
            5,
        ),
        Panel(
            "device-version",
            "Version of the student",
            "Which version of the student scored it; a step is a rollout.",
            Lines(stepped=True),
            Style(_NO_SCORES, decimals=0, low=0, name=line_name("model")),
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
            Lines(fill=0, show_steps=True, legend=("lastNotNull", "min", "max")),
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
            activity("no activity score in this time range", line_name("model")),
            [scores.DEVICE_ACTIVITY],
            24,
            5,
        ),
        Panel(
            "device-probabilities",
            "Probability of every class",
            "Two classes side by side for long mean that the student cannot tell them apart.",
            Lines(stack="percent", fill=60, legend=("mean",)),
            share("no activity score in this time range", line_name("activity")),
            [scores.DEVICE_PROBABILITIES],
            12,
            8,
        ),
        Panel(
            "device-latency",
            "Receipt to score",
            "The longest time between the receipt of a window's last reading and its score.",
            Lines(),
            span_ms(_NO_SCORES, line_name("model")),
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
            rate(_NO_DEVICES, "readings"),
            [line.DEVICE_RATES],
            12,
            8,
            outcome_overrides(),
        ),
        Panel(
            "device-windows",
            "Readings and gaps in a window",
            "A window with gaps is scored all the same; many gaps mean a bad radio or clock.",
            Lines(),
            Style(_NO_SCORES, low=0, name="${__field.name} ${__field.labels.model}"),
            [scores.DEVICE_WINDOWS],
            12,
            8,
        ),
        Panel(
            "device-account",
            "Account since it was first heard of",
            "Missing is what the account cannot explain; it is 0, or an alert is on its way.",
            Grid(
                (
                    Column("site", "Site"),
                    Column("device", "Device"),
                    Column("stream", "Stream"),
                    *_account_columns(),
                )
            ),
            Style(_NO_DEVICES),
            [line.DEVICE_ACCOUNT],
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
            Lines(fill=0, show_steps=True),
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
            since="30d",
        ),
        Panel(
            "activity-history",
            "Windows by activity",
            "How many windows of the hour had which activity.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(no_hours, line_name("activity")).in_palette(),
            [history.activity_history(bucket)],
            12,
            8,
            since="30d",
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
            since="30d",
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


def _account_columns() -> list[Column]:
    number = count("")
    return [
        Column("received", "Received", number),
        Column("windowed", "Windowed", number),
        Column("duplicate", "Duplicate", number),
        Column("late", "Late", number),
        Column("dead_lettered", "Dead letters", number),
        Column("missing", "Missing", count("", bad_from=1), cell="colour"),
        Column("gaps", "Gaps", number),
        Column("windows", "Windows", number),
    ]


# -------------------------------------------------------------------------------------- activity


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
                        activity(_NO_SCORES, line_name("device")),
                        [scores.ACTIVITY_BY_DEVICE],
                        24,
                        12,
                    ),
                    Panel(
                        "activity-shares",
                        "Shares",
                        "Mean probability of every class over all people chosen.",
                        Lines(stack="percent", fill=60, legend=("mean",)),
                        share(_NO_SCORES, line_name("activity")),
                        [scores.ACTIVITY_SHARES],
                        10,
                        10,
                    ),
                    _activity_now(limits, 14),
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
                        share(_NO_SCORES, line_name("model")),
                        [scores.CERTAINTY],
                        14,
                        8,
                    ),
                    Panel(
                        "least-certain",
                        "Least certain",
                        "The ten people with the lowest mean probability in the time range.",
                        Bars(),
                        share(_NO_SCORES, line_name("device"), good_from=0.5),
                        [scores.LEAST_CERTAIN],
                        10,
                        8,
                    ),
                ],
            ),
        ],
        [SITES_VARIABLE, MODELS_VARIABLE],
    )

"""Panels and alert of the task `rul`: remaining useful life and its interval. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.alerts.alert import Rule
from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import numbers
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_LINK, FLEET_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_HOURS, NO_SCORES, age, count, series_name
from dashboards.visuals.views import Bars, Column, Lines, Override, Stat, Style, Table
from models.tasks.contract import Task
from models.tasks.rul import RUL

__all__ = ["rul_panels"]

_NO_RUL = "no RUL score in this time range"
_ALERT_FIELDS = {"low": "rul_low", "rul": "rul", "high": "rul_high"}
"""Name of a query in the texts of the alert, and the field that it reads."""


def rul_panels(tasks: Sequence[Task], limits: Limits, hourly_bucket: str) -> TaskPanels:
    """Everything about the remaining useful life of machines."""
    return TaskPanels(
        task=RUL,
        fleet_now=_fleet_now(limits),
        fleet=_fleet(limits),
        device_now=[_device_now(limits)],
        device_scores=[_device_scores(limits)],
        device_history=[_device_history(limits, hourly_bucket)],
        model_below=_model(),
        rules=[_machine_due(limits)],
    )


def _fleet_now(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "rul-below",
            "Machines due",
            f"Machines whose newest score has a lower end below {limits.rul_cycles:g} cycles. A "
            "doubtful score is passed over for the one before it, unless it is only unfamiliar and "
            "even its upper end is below.",
            Stat(background=True, all_rows=True),
            count(NO_SCORES, red_from=1),
            [numbers.number_below(RUL, limits.rul_cycles)],
            4,
            6,
        ),
        Panel(
            "rul-lowest-bound",
            "Lowest lower end",
            "The smallest lower end of an interval among the newest scores that are not in doubt.",
            Stat(),
            _cycles(limits, NO_SCORES),
            [numbers.lowest_end(RUL, limits.rul_cycles)],
            4,
            6,
        ),
    ]


def _fleet(limits: Limits) -> list[Panel]:
    in_cycles = _cycles(limits, NO_SCORES)
    return [
        Panel(
            "rul-now",
            "Machines, the next one due first",
            "The newest score of every machine in the time range; at most 500 machines. The "
            "interval holds the true remaining life with the probability that its student states "
            "(90 % for the starter student).",
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
            [numbers.number_now(RUL)],
            14,
            12,
        ),
        Panel(
            "rul-lowest",
            "The ten lowest",
            "The ten machines with the smallest lower ends among the newest scores that are not in "
            "doubt.",
            Bars(),
            _cycles(limits, NO_SCORES, series_name("device")),
            [numbers.lowest_devices(RUL, limits.rul_cycles)],
            10,
            12,
        ),
        Panel(
            "rul-of-fleet",
            "Remaining useful life of the fleet",
            "The lowest score, the lowest tenth and the median (middle) of the fleet over time. "
            "The median falls as the fleet ages; the lowest jumps up when a machine is replaced.",
            Lines(show_thresholds=True),
            _cycles(limits, NO_SCORES, series_name("devices")).in_palette(),
            [numbers.number_of_fleet(RUL)],
            24,
            8,
        ),
    ]


def _device_now(limits: Limits) -> Panel:
    return Panel(
        "device-rul-now",
        "Remaining useful life",
        "The newest score and the ends of its interval; empty for a device without RUL scores.",
        Stat(),
        _cycles(limits, _NO_RUL),
        [numbers.device_number_now(RUL)],
        9,
        5,
        _interval_overrides(band=False),
    )


def _device_scores(limits: Limits) -> Panel:
    return Panel(
        "device-rul",
        "Remaining useful life with its interval",
        "The band is the calibrated interval of the score: it holds the truth with the "
        "probability that the student states.",
        Lines(fill=0, show_thresholds=True, legend=("lastNotNull", "min", "max")),
        _cycles(limits, _NO_RUL).in_palette(),
        [numbers.device_number(RUL)],
        24,
        10,
        _interval_overrides(band=True),
    )


def _device_history(limits: Limits, bucket: str) -> Panel:
    return Panel(
        "rul-history",
        "Remaining useful life",
        "Mean of each hour, between the lowest and the highest end of an interval in that hour.",
        Lines(fill=0, show_thresholds=True),
        _cycles(limits, NO_HOURS).in_palette(),
        [numbers.number_history(RUL, bucket)],
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
        time_from="30d",
    )


def _model() -> list[Panel]:
    return [
        Panel(
            "rul-of-models",
            "Mean remaining useful life",
            "Mean over all machines, by model. A jump at a rollout comes from the new version, "
            "not from the machines.",
            Lines(),
            Style(
                "no RUL scores in this time range",
                "suffix: cycles",
                minimum=0,
                name=series_name("model"),
            ),
            [numbers.number_of_models(RUL)],
            12,
            8,
        ),
        Panel(
            "interval-width",
            "Mean width of the intervals",
            "A wider interval means a less certain student. The width should change little "
            "without a rollout.",
            Lines(),
            Style(
                "no intervals in this time range",
                "suffix: cycles",
                minimum=0,
                name=series_name("model"),
            ),
            [numbers.interval_width(RUL)],
            12,
            8,
        ),
    ]


def _machine_due(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-rul-low",
        title="Machine due",
        queries={
            name: numbers.alert_score(RUL, field, limits.rul_cycles)
            for name, field in _ALERT_FIELDS.items()
        },
        fires_when="below",
        limit=limits.rul_cycles,
        look_back_s=86_400,
        for_s=60,
        no_data=("OK", "no machine has been scored for a day; silent devices have their own alert"),
        severity="critical",
        summary=(
            "{{ .Labels.site }}/{{ .Labels.device }} has "
            '{{ printf "%.0f" .Values.rul.Value }} cycles left '
            '({{ printf "%.0f" .Values.low.Value }} to {{ printf "%.0f" .Values.high.Value }})'
        ),
        meaning=(
            f"The lower end of the interval of the newest score is below {limits.rul_cycles:g} "
            "cycles; of a score that is only unfamiliar, even the upper end is. The interval holds "
            "the true remaining life with the probability that the student states (90 % for the "
            "starter student): the machine will rarely fail before the lower end, and may fail "
            "soon after it. For a machine that is off, a score of up to a day ago counts."
        ),
        action=(
            "Plan the maintenance of this machine before the lower end of the interval. Then look "
            "at its board. A steady fall means wear. A sudden fall right after a rollout comes "
            "from the new version, which `kpstream models promote` can roll back. A noisy curve "
            "points to a sensor. After a repair the alert ends with the first score that is not in "
            "doubt. A doubtful score, which has an alert of its own, ends no alert: it stands "
            "until a score says otherwise, or for a day."
        ),
        panel=(FLEET_UID, "rul-now"),
    )


def _cycles(limits: Limits, no_value: str, name: str = "") -> Style:
    """Remaining useful life: red below the limit, orange up to twice the limit."""
    thresholds = ((None, "red"), (limits.rul_cycles, "orange"), (2 * limits.rul_cycles, "green"))
    return Style(
        no_value,
        "suffix: cycles",
        decimals=0,
        minimum=0,
        thresholds=thresholds,
        colour="thresholds",
        name=name,
    )


def _interval_overrides(*, band: bool) -> list[Override]:
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

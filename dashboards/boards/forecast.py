"""Panels of the task `forecast` on the general boards: anomaly score, alarms, backtest. Pure.

The board of the task is in `dashboards.boards.forecast_board`, its alerts in `forecast_rules`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.boards.forecast_board import (
    NO_FORECAST,
    anomaly_score,
    backtest_of_models,
    backtest_panels,
    devices_with_alarms,
    forecast_board,
    oddest_channel,
)
from dashboards.boards.forecast_rules import anomaly_lasts, coverage_low
from dashboards.boards.task_panels import TaskPanels
from dashboards.queries import anomalies
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import DEVICE_LINK
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import count, series_name
from dashboards.visuals.views import Lines, Stat, Style
from models.tasks.contract import Task
from models.tasks.forecast import FORECAST

__all__ = ["forecast_panels"]


def forecast_panels(tasks: Sequence[Task], limits: Limits, hourly_bucket: str) -> TaskPanels:
    """Everything about forecasts and the anomalies that they find."""
    return TaskPanels(
        task=FORECAST,
        fleet_now=[_in_alarm()],
        fleet=[devices_with_alarms(DEVICE_LINK), _alarms_over_time()],
        device_now=[_device_now(limits)],
        device_scores=[anomaly_score(limits), oddest_channel()],
        device_history=_device_history(limits, hourly_bucket),
        model_below=backtest_of_models(limits, hourly_bucket),
        board=forecast_board(limits, hourly_bucket),
        rules=[anomaly_lasts(limits), coverage_low(limits, hourly_bucket)],
    )


def _in_alarm() -> Panel:
    return Panel(
        "forecast-in-alarm",
        "Devices in alarm",
        "Devices whose newest window is odder than the alarm level of its student.",
        Stat(background=True),
        count(NO_FORECAST, red_from=1),
        [anomalies.devices_in_alarm(FORECAST)],
        4,
        6,
    )


def _alarms_over_time() -> Panel:
    return Panel(
        "forecast-alarms-by-site",
        "Alarms",
        "Windows with an alarm, by site. Many devices in alarm at once point to a cause that they "
        "share, or to a new version.",
        Lines(draw="bars", stack="normal", legend=("sum",)),
        count(NO_FORECAST, series_name("site")).in_palette(),
        [anomalies.alarms_by_site(FORECAST)],
        24,
        8,
    )


def _device_now(limits: Limits) -> Panel:
    return Panel(
        "device-anomaly-now",
        "Anomaly score",
        "Share of calibration windows that are less odd than the newest one; empty for a device "
        "without forecasts.",
        Stat(),
        Style(
            NO_FORECAST,
            decimals=3,
            minimum=0,
            maximum=1,
            thresholds=((None, "green"), (limits.anomaly_clear_score, "orange")),
            colour="thresholds",
            name=series_name("model"),
        ),
        [anomalies.device_anomaly_now(FORECAST)],
        9,
        5,
    )


def _device_history(limits: Limits, bucket: str) -> list[Panel]:
    return backtest_panels(
        limits,
        "history",
        "Mean absolute error in each hour, in training deviations. A lasting rise means that "
        "the device no longer behaves as in training.",
        "Share of readings between p10 and p90 in each hour; 80 % is promised.",
        anomalies.error_history(FORECAST, bucket),
        anomalies.coverage_history(FORECAST, bucket),
    )

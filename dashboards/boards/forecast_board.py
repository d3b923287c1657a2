"""The forecast board: the fan against what came, errors by lead, anomalies, coverage. Pure.

Some of its panels also appear on the general boards; see `dashboards.boards.forecast`.
"""

from __future__ import annotations

from dashboards.boards.explanations import explanations_panel
from dashboards.queries import anomalies, forecasts
from dashboards.queries.query import Query
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import FORECAST_LINK, FORECAST_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import NO_HOURS, count, series_name, share
from dashboards.visuals.variables import forecast_variables
from dashboards.visuals.views import Column, Lines, Override, Style, Table, Timeline
from models.tasks.forecast import FORECAST

__all__ = [
    "NO_FORECAST",
    "anomaly_score",
    "backtest_of_models",
    "backtest_panels",
    "devices_with_alarms",
    "forecast_board",
    "oddest_channel",
    "share_covered",
]

PROMISE = 0.8
"""Share of readings that p10 and p90 promise to hold."""

NO_FORECAST = "no forecast in this time range; choose one that holds several windows"
_NOT_COMPARED = "no forecast in this time range whose time has come"


def forecast_board(limits: Limits, hourly_bucket: str) -> Board:
    """The board of forecasts; its time range ends ahead of now."""
    return Board(
        FORECAST_UID,
        "kpstream: forecast",
        "What was forecast for a channel and what came, and which devices are odd.",
        [
            Row("Forecasts of a channel", [_fan(), _newest_fan(), _by_lead(limits), _errors()]),
            Row(
                "How odd the device is",
                [anomaly_score(limits), oddest_channel(), explanations_panel()],
            ),
            Row("All devices of the site", [devices_with_alarms(FORECAST_LINK)]),
            Row("The last thirty days, by hour", backtest_of_models(limits, hourly_bucket)),
        ],
        forecast_variables(FORECAST),
        time_from="now-3d",
        time_to="now+1d",
    )


def _fan() -> Panel:
    return Panel(
        "forecast-fan",
        "Forecast against what came",
        "The band is p10 to p90 and the line p50, as they were forecast the selected number of "
        "steps before; four of five readings lie inside the band. The part ahead of now shows what "
        "is expected.",
        Lines(fill=0, legend=("lastNotNull",)),
        Style(NO_FORECAST),
        [forecasts.readings(FORECAST), forecasts.fan_of_lead(FORECAST)],
        24,
        11,
        _fan_overrides(),
    )


def _newest_fan() -> Panel:
    return Panel(
        "forecast-newest",
        "The newest forecast",
        "What the newest window forecasts for every stored lead. The band widens with the lead. "
        "Choose a time range that ends ahead of now.",
        Lines(fill=0, legend=("lastNotNull",)),
        Style(NO_FORECAST),
        [forecasts.readings(FORECAST), forecasts.newest_fan(FORECAST)],
        24,
        9,
        _fan_overrides(),
    )


def _by_lead(limits: Limits) -> Panel:
    return Panel(
        "forecast-leads",
        "Error and coverage by lead",
        "Forecasts of the channel whose time has come. The error is the mean distance of p50 "
        "from the reading, in the unit of the channel. The coverage is the share of readings "
        "between p10 and p90; 80 % is promised. Empty for a device that does not send at the "
        "regular times of its student.",
        Table(
            (
                Column("steps", "Steps ahead", count("")),
                Column("readings", "Readings", count("")),
                Column("error", "Mean error", Style("", decimals=4)),
                Column("covered", "Coverage", share_covered(limits, ""), cell="gauge"),
                Column("model", "Model"),
            )
        ),
        Style(_NOT_COMPARED),
        [forecasts.leads_now(FORECAST)],
        12,
        9,
    )


def _errors() -> Panel:
    return Panel(
        "forecast-errors",
        "Error over time, by lead",
        "Mean distance of p50 from the reading in each step of the chart, in the unit of the "
        "channel; the time is that of the reading.",
        Lines(),
        Style(_NOT_COMPARED, minimum=0, name="${__field.labels.lead} ahead"),
        [forecasts.error_of_leads(FORECAST)],
        12,
        9,
    )


def anomaly_score(limits: Limits) -> Panel:
    """The anomaly score of one device, with its alarms."""
    return Panel(
        "anomaly-score",
        "Anomaly score",
        "Share of calibration windows that are less odd; red marks are windows with an alarm. A "
        "single odd reading stays in the backtest of several windows. The line is the score below "
        "which an anomaly that lasts can end.",
        Lines(show_thresholds=True),
        Style(
            NO_FORECAST,
            decimals=3,
            minimum=0,
            maximum=1,
            thresholds=((None, "green"), (limits.anomaly_clear_score, "orange")),
        ),
        [anomalies.device_anomaly(FORECAST), anomalies.device_alarms(FORECAST)],
        24,
        8,
        [
            Override("score", {"displayName": "anomaly score"}),
            Override(
                "alarm",
                {
                    "displayName": "alarm",
                    "color": {"mode": "fixed", "fixedColor": "red"},
                    "custom.drawStyle": "points",
                    "custom.pointSize": 8,
                },
            ),
        ],
    )


def oddest_channel() -> Panel:
    """The channel that raised the alarms of one device."""
    return Panel(
        "anomaly-channel",
        "Oddest channel",
        "The oddest channel of the windows with an alarm.",
        Timeline(),
        Style(
            NO_FORECAST,
            mappings={anomalies.NO_ALARM: (anomalies.NO_ALARM, "green")},
            name=series_name("model"),
        ),
        [anomalies.device_oddest(FORECAST)],
        24,
        5,
    )


def devices_with_alarms(link: tuple[str, str]) -> Panel:
    """The table of devices, with a link from each to the given address."""
    return Panel(
        "forecast-alarms",
        "Devices with forecasts, those with most alarms first",
        "Windows with an alarm in the time range, and the newest window: anomaly score, oddest "
        "channel, and error (in training deviations) and coverage of its backtest; at most 500 "
        "devices.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=link),
                Column("alarms", "Alarms", count("", red_from=1), cell="colour"),
                Column("score", "Anomaly score", Style("", decimals=3, minimum=0, maximum=1)),
                Column("channel", "Channel", link=FORECAST_LINK),
                Column("mae", "Error", Style("", "suffix: sd", decimals=2)),
                Column("covered", "Coverage", share("")),
                Column("model", "Model"),
                Column("version", "Version", count("")),
                Column("newest", "Newest window", Style("", "dateTimeAsIso")),
            )
        ),
        Style(NO_FORECAST),
        [anomalies.alarms_by_device(FORECAST)],
        24,
        10,
    )


def backtest_of_models(limits: Limits, hourly_bucket: str) -> list[Panel]:
    """Error and coverage of all windows of each model, by hour."""
    return backtest_panels(
        limits,
        "of-models",
        "Mean absolute error of all windows of a model in each hour, in training deviations. "
        "A step at a rollout comes from the new version; a slow rise is drift: distill again.",
        "Share of readings between p10 and p90, over all windows of a model in each hour; 80 % "
        "is promised.",
        anomalies.error_of_models(FORECAST, hourly_bucket),
        anomalies.coverage_of_models(FORECAST, hourly_bucket),
    )


def backtest_panels(
    limits: Limits, of: str, about_error: str, about_coverage: str, error: Query, coverage: Query
) -> list[Panel]:
    """Error and coverage of the backtest over the last month, a line for each model.

    Args:
        limits: Limits of the colours.
        of: End of the panels' names.
        about_error: Description of the error.
        about_coverage: Description of the coverage.
        error: Query of the error, by hour.
        coverage: Query of the coverage, by hour.
    """
    return [
        Panel(
            f"forecast-error-{of}",
            "Error of the backtest",
            about_error,
            Lines(),
            Style(NO_HOURS, "suffix: sd", minimum=0, name=series_name("model")),
            [error],
            12,
            8,
            time_from="30d",
        ),
        Panel(
            f"forecast-coverage-{of}",
            "Coverage of the backtest",
            about_coverage,
            Lines(show_thresholds=True),
            share_covered(limits, NO_HOURS, series_name("model")).in_palette(),
            [coverage],
            12,
            8,
            time_from="30d",
        ),
    ]


def share_covered(limits: Limits, no_value: str, name: str = "") -> Style:
    """A coverage: red below the limit, green from the promise on."""
    return Style(
        no_value,
        "percentunit",
        decimals=0,
        minimum=0,
        maximum=1,
        thresholds=((None, "red"), (limits.coverage, "orange"), (PROMISE, "green")),
        colour="thresholds",
        name=name,
    )


def _fan_overrides() -> list[Override]:
    faint = {"color": {"mode": "fixed", "fixedColor": "light-blue"}, "custom.lineWidth": 0}
    return [
        Override("value", {"displayName": "reading"}),
        Override("p50", {"displayName": "p50", "color": {"mode": "fixed", "fixedColor": "blue"}}),
        Override("p10", {"displayName": "p10"} | faint),
        Override(
            "p90",
            {"displayName": "p90", "custom.fillBelowTo": "p10", "custom.fillOpacity": 15} | faint,
        ),
    ]

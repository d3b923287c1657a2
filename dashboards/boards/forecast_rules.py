"""Alerts of the task `forecast`: an anomaly lasts, the intervals hold too few readings. Pure."""

from __future__ import annotations

from dashboards.alerts.alert import Rule
from dashboards.queries import anomalies
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import FLEET_UID, MODEL_UID
from models.tasks.forecast import FORECAST

__all__ = ["anomaly_lasts", "coverage_low"]

_DAY_S = 86_400


def anomaly_lasts(limits: Limits) -> Rule:
    """Fires after some windows with an alarm in a row, and ends after some calm ones."""
    lasting = anomalies.anomaly_lasting(
        FORECAST,
        limits.anomaly_windows,
        limits.anomaly_clear_score,
        limits.anomaly_clear_windows,
    )
    return Rule(
        uid="kpstream-anomaly",
        title="Anomaly lasts",
        queries={
            "lasting": lasting,
            "score": anomalies.score_now(FORECAST),
            "alarms": anomalies.number_of_alarms(FORECAST),
        },
        fires_when="above",
        limit=0.5,
        look_back_s=_DAY_S,
        for_s=0,
        no_data=(
            "OK",
            "no window has been forecast for a day; silent devices have their own alert",
        ),
        severity="warning",
        summary=(
            "{{ .Labels.site }}/{{ .Labels.device }} does not behave as forecast: "
            '{{ printf "%.0f" .Values.alarms.Value }} windows with an alarm within a day, anomaly '
            'score now {{ printf "%.3f" .Values.score.Value }}'
        ),
        meaning=(
            f"{limits.anomaly_windows} windows of this device in a row were odder than the alarm "
            f"level of its student. The alert ends after {limits.anomaly_clear_windows} windows in "
            f"a row with an anomaly score below {limits.anomaly_clear_score:g}. Only the windows "
            "of the last day count. A single odd reading alarms as long as it is in the backtest "
            "of the newest window; if such readings do not matter, require more windows than the "
            "backtest has steps."
        ),
        action=(
            "Open the device on the board kpstream: forecast and look at the oddest channel: its "
            "fan shows what was expected. On a gateway, `kpstream explain` says which readings "
            "moved the score. "
            "If several devices of a site are odd at once, look for a cause that they share; if "
            "all devices of a model are, for a new version on the board kpstream: model."
        ),
        panel=(FLEET_UID, "forecast-alarms"),
    )


def coverage_low(limits: Limits, hourly_bucket: str) -> Rule:
    """Fires while p10 to p90 held too few readings of a device within a day."""
    return Rule(
        uid="kpstream-coverage-low",
        title="Coverage below its promise",
        queries={
            "coverage": anomalies.coverage_of_day(FORECAST, hourly_bucket, limits.coverage_hours)
        },
        fires_when="below",
        limit=limits.coverage,
        look_back_s=_DAY_S,
        for_s=0,
        no_data=("OK", "no device has enough hours with forecasts within the day"),
        severity="warning",
        summary=(
            "only a share of "
            '{{ printf "%.2f" .Values.coverage.Value }} of the readings of {{ .Labels.site }}/'
            "{{ .Labels.device }} came between p10 and p90 of {{ .Labels.model }} within a day"
        ),
        meaning=(
            "p10 to p90 promise to hold 80 % of the readings. Over the hours of the last day it "
            f"was below {limits.coverage:.0%}. Devices with fewer than {limits.coverage_hours} "
            "hours with forecasts are not judged."
        ),
        action=(
            "If the device also has alarms, treat those first: a fault lowers the coverage too. "
            "If only this device is concerned, compare its raw readings with the range seen in "
            "training on its page of the console. If most devices of the model are, the readings "
            "have drifted: distill a new student."
        ),
        panel=(MODEL_UID, "forecast-coverage-of-models"),
    )

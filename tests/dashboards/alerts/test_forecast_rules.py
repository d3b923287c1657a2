"""Alerts of forecasts on a real InfluxDB: when they fire, when they do not, and when they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dashboards.site import site_dashboards
from dashboards.visuals.limits import Limits
from pipeline.points.scores import ScoreRecord, points_of
from pipeline.stores.influxlayout import rollup_flux, rollups
from tests.dashboards.conftest import DAY_MS, QueryInflux, StorePoints
from tests.dashboards.simulated_site import START_MS
from tests.fakes.grafana_alerts import Alert, firing
from tests.pipeline.points import test_scores

RECORD = test_scores.FORECAST | {"model": "power"}
LIMITS = Limits(
    anomaly_windows=3,
    anomaly_clear_score=0.9,
    anomaly_clear_windows=2,
    coverage=0.65,
    coverage_hours=3,
)
HOUR_MS = 3_600_000
FIRST_MS = START_MS // HOUR_MS * HOUR_MS
HOURS = "dashboards-forecast-hours"

ALARM = (0.995, 1)
BETWEEN = (0.93, 0)
CALM = (0.5, 0)
LEVELS = {"A": ALARM, "b": BETWEEN, "c": CALM}
"""A window with an alarm, one without that is too odd to end it, and a calm one."""


def rule_json(uid: str, limits: Limits = LIMITS) -> dict[str, Any]:
    site = site_dashboards(limits, hourly_bucket=HOURS)
    rules = [rule for group in site.groups for rule in site.group_json(group)["rules"]]
    return next(rule for rule in rules if rule["uid"] == uid)


def summary(uid: str) -> str:
    return str(rule_json(uid)["annotations"]["summary"])


def windows(device: str, course: str) -> list[ScoreRecord]:
    """One window a minute, with the levels of the letters."""
    return [
        RECORD
        | {"device": device, "end_ms": START_MS + 60_000 * minute}
        | dict(zip(("score", "alarm"), LEVELS[letter], strict=True))
        for minute, letter in enumerate(course)
    ]


COURSES = {
    "two-alarms": ("ccAAc", False),
    "two-and-two": ("AAcAAbAA", False),
    "three-alarms": ("ccAAA", True),
    "three-and-between": ("AAAbbbbbbb", True),
    "one-calm": ("AAAcbcbc", True),
    "a-calm-one-and-an-alarm": ("AAAcAc", True),
    "two-calm": ("AAAbcc", False),
    "two-calm-and-an-alarm": ("AAAccAb", False),
    "again": ("AAAccAAAb", True),
    "never": ("ccccccc", False),
}
"""Levels of the windows of a device in order, and whether the alert fires after them."""


@pytest.fixture(scope="module")
def alerts_of(query_influx: QueryInflux) -> Callable[..., list[Alert] | None]:
    """`alerts_of(uid, bucket, stop_ms)` gives the alerts of a rule at that time."""

    def evaluate(
        uid: str, bucket: str, stop_ms: int, limits: Limits = LIMITS
    ) -> list[Alert] | None:
        def send(flux: str, look_back_s: int):
            start_ms = stop_ms - 1000 * look_back_s
            return query_influx(flux, start_ms=start_ms, stop_ms=stop_ms, bucket=bucket)

        return firing(rule_json(uid, limits), send)

    return evaluate


@pytest.fixture(scope="module")
def anomalies_stored(store_points: StorePoints) -> str:
    records = [
        record for device, (course, _) in COURSES.items() for record in windows(device, course)
    ]
    store_points("dashboards-anomalies", points_of(records))
    return "dashboards-anomalies"


def names(alerts: Sequence[Alert] | None) -> set[str]:
    assert alerts is not None
    return {alert.labels["device"] for alert in alerts}


@pytest.mark.needs_influxd
def test_an_anomaly_that_lasts_fires_and_ends_after_calm_windows(
    alerts_of, anomalies_stored: str
) -> None:
    alerts = alerts_of("kpstream-anomaly", anomalies_stored, START_MS + HOUR_MS)
    assert names(alerts) == {device for device, (_, fires) in COURSES.items() if fires}


@pytest.mark.needs_influxd
def test_alert_fires_with_the_window_that_completes_it_and_ends_with_the_last_calm_one(
    alerts_of, anomalies_stored: str
) -> None:
    course, _ = COURSES["again"]
    fires = []
    for minute in range(len(course)):
        alerts = alerts_of("kpstream-anomaly", anomalies_stored, START_MS + 60_000 * minute + 1_000)
        fires.append("again" in names(alerts))
    assert fires == [letter == "1" for letter in "001100011"]


@pytest.mark.needs_influxd
def test_limits_of_the_anomaly_are_settings(alerts_of, anomalies_stored: str) -> None:
    at_ms = START_MS + HOUR_MS
    longer = Limits(anomaly_windows=4, anomaly_clear_score=0.9, anomaly_clear_windows=2)
    assert names(alerts_of("kpstream-anomaly", anomalies_stored, at_ms, longer)) == set()
    wider = Limits(anomaly_windows=3, anomaly_clear_score=0.94, anomaly_clear_windows=2)
    ended = names(alerts_of("kpstream-anomaly", anomalies_stored, at_ms)) - names(
        alerts_of("kpstream-anomaly", anomalies_stored, at_ms, wider)
    )
    assert ended == {"three-and-between", "one-calm"}


@pytest.mark.needs_influxd
def test_summary_names_device_alarms_and_score(alerts_of, anomalies_stored: str) -> None:
    alerts = alerts_of("kpstream-anomaly", anomalies_stored, START_MS + HOUR_MS)
    (alert,) = (alert for alert in alerts if alert.labels["device"] == "three-and-between")
    assert alert.text(summary("kpstream-anomaly")) == (
        "plant-7/three-and-between does not behave as forecast: 3 windows with an alarm within a "
        "day, anomaly score now 0.930"
    )


@pytest.mark.needs_influxd
def test_an_anomaly_of_the_day_before_has_no_data(alerts_of, anomalies_stored: str) -> None:
    assert alerts_of("kpstream-anomaly", anomalies_stored, START_MS + 2 * DAY_MS) is None


# ---------------------------------------------------------------------------------- the coverage


def hours_of(device: str, coverages: Sequence[float], windows_per_hour: int = 2):
    """Windows of a device in hours before `FIRST_MS`, with the coverage of each hour."""
    return [
        RECORD | {"device": device, "covered": covered, "end_ms": hour_ms + 60_000 * window}
        for back, covered in enumerate(coverages, start=1)
        for hour_ms in (FIRST_MS - back * HOUR_MS,)
        for window in range(windows_per_hour)
    ]


@pytest.fixture(scope="module")
def coverage_stored(store_points: StorePoints, query_influx: QueryInflux) -> str:
    records = [
        *hours_of("good", [0.8] * 6),
        *hours_of("low", [0.5] * 6),
        *hours_of("one-bad-hour", [0.1, 0.8, 0.8, 0.8, 0.8]),
        *hours_of("few-hours", [0.2, 0.2]),
        *hours_of("weighted", [0.8, 0.8, 0.8]),
        *hours_of("weighted", [0.4], windows_per_hour=58),
        *hours_of("low-two-days-ago", [0.9] * 20 + [0.1] * 28),
    ]
    store_points("dashboards-coverage", points_of(records))
    store_points(HOURS, [])
    for rollup in rollups():
        flux = rollup_flux(
            rollup, "2025-12-29T00:00:00Z", "2026-01-01T00:00:00Z", "dashboards-coverage", HOURS
        )
        query_influx(flux)
    return "dashboards-coverage"


@pytest.mark.needs_influxd
def test_coverage_below_its_promise_over_the_day_fires(alerts_of, coverage_stored: str) -> None:
    alerts = alerts_of("kpstream-coverage-low", coverage_stored, FIRST_MS)
    assert {alert.labels["device"]: alert.values["coverage"] for alert in alerts} == {
        "low": pytest.approx(0.5),
        # The second write of the newest hour replaces its two windows: 58 at 0.4, four at 0.8.
        "weighted": pytest.approx((58 * 0.4 + 4 * 0.8) / 62),
    }
    (low,) = (alert for alert in alerts if alert.labels["device"] == "low")
    assert low.text(summary("kpstream-coverage-low")) == (
        "only a share of 0.50 of the readings of plant-7/low came between p10 and p90 of "
        "power within a day"
    )


@pytest.mark.needs_influxd
def test_coverage_has_a_limit_that_is_a_setting(alerts_of, coverage_stored: str) -> None:
    stricter = Limits(coverage=0.7, coverage_hours=2)
    alerts = alerts_of("kpstream-coverage-low", coverage_stored, FIRST_MS, stricter)
    assert names(alerts) == {"low", "weighted", "one-bad-hour", "few-hours"}


@pytest.mark.needs_influxd
def test_coverage_clears_when_the_low_hours_are_a_day_old(alerts_of, coverage_stored: str) -> None:
    at_ms = FIRST_MS - 16 * HOUR_MS
    before = alerts_of("kpstream-coverage-low", coverage_stored, at_ms)
    assert names(before) == {"low-two-days-ago"}
    assert "low-two-days-ago" not in names(
        alerts_of("kpstream-coverage-low", coverage_stored, FIRST_MS)
    )
    assert alerts_of("kpstream-coverage-low", coverage_stored, FIRST_MS + 2 * DAY_MS) is None

"""Forecasts are judged against seasonal-naive on the same readings, alarms against the faults."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.simulators.forecasttruth import AlarmRule, judge_alarms, judge_forecasts
from ingest.simulators.transformers import STEP_MS
from ingest.simulators.truth import TransformerTruth

T0 = 1_700_000_000_000 // STEP_MS * STEP_MS


def fault(kind: str, start_h: int, end_h: int, device: str = "t1") -> TransformerTruth:
    return TransformerTruth(
        "grid", device, T0 + start_h * STEP_MS, T0 + end_h * STEP_MS, kind, "OT", 3.0
    )


def scores(hours: int, *alarms: int) -> list[dict[str, Any]]:
    """Scores of consecutive hours, at the alarm level in some of them."""
    return [
        {"site": "grid", "device": "t1", "end_ms": T0 + hour * STEP_MS, "alarm": hour in alarms}
        for hour in range(hours)
    ]


def points(readings: list[float], forecasts: dict[int, float], lead: int) -> list[dict[str, Any]]:
    place = {"site": "grid", "device": "t1", "channel": "OT"}
    came = [
        place | {"lead": "0", "end_ms": T0 + hour * STEP_MS, "value": value}
        for hour, value in enumerate(readings)
    ]
    made = [
        place
        | {"lead": str(lead), "end_ms": T0 + hour * STEP_MS, "p10": p50 - 1, "p50": p50}
        | {"p90": p50 + 1}
        for hour, p50 in forecasts.items()
    ]
    return came + made


def test_the_error_is_a_ratio_to_the_reading_of_a_day_before() -> None:
    readings = [float(hour) for hour in range(30)]  # seasonal-naive is 24 too low
    report = judge_forecasts(points(readings, {25: 25.5, 26: 20.0, 2: 9.0, 40: 0.0}, 6), [])
    (lead,) = report.leads  # hour 2 has no day before, hour 40 no reading
    assert (lead.lead, lead.readings) == (6, 2)
    assert lead.ratio == pytest.approx((0.5 + 6.0) / 48)
    assert lead.covered == 0.5
    assert report.line() == (
        "forecast   6 h ahead: MAE 0.14 of seasonal-naive's, p10 to p90 covers 50%, "
        "over 2 forecasts"
    )


def test_readings_with_a_fault_count_neither_as_truth_nor_as_a_naive_forecast() -> None:
    readings = [0.0] * 60
    forecasts = {hour: 1.0 for hour in range(24, 60)}
    readings[30] = 100.0
    report = judge_forecasts(points(readings, forecasts, 1), [fault("spike", 30, 31)])
    assert report.leads == ()  # a flat series: seasonal-naive never errs, so there is no ratio
    readings[40] = 8.0
    (lead,) = judge_forecasts(points(readings, forecasts, 1), [fault("spike", 30, 31)]).leads
    assert lead.readings == 34
    assert lead.ratio == pytest.approx((33 + 7) / 8)


def test_an_alarm_needs_windows_in_a_row_and_finds_the_fault_with_its_delay() -> None:
    alarms = (10, *range(32, 36))  # a single window is no alarm
    faults = [fault("step", 30, 40), fault("drift", 70, 80)]
    report = judge_alarms(scores(112, *alarms), faults, AlarmRule(windows=2))
    assert (report.found, report.missed) == ({"step": [3]}, {"drift": 1})
    assert report.false_alarms == 0
    assert report.line() == (
        "faults     1 of 2 found (drift 0/1, step 1/1), median delay 3 h; "
        "0 false alarms in 2 days without a fault"
    )


def test_one_long_alarm_counts_once_and_one_outside_the_faults_is_false() -> None:
    long = (10, 11, 13, 14, 16, 17)  # one quiet window does not clear it
    faults = [fault("noise", 70, 80), fault("noise", 70, 80, device="t2")]
    report = judge_alarms(scores(100, *long, 20, 21), faults, AlarmRule(windows=2))
    assert report.false_alarms == 2
    assert report.missed == {"noise": 1}  # the other device has no scores


def test_an_alarm_that_was_raised_before_a_fault_has_not_found_it() -> None:
    report = judge_alarms(scores(100, *range(20, 60)), [fault("step", 30, 40)])
    assert (report.found, report.missed, report.false_alarms) == ({}, {"step": 1}, 1)


def test_an_alarm_finds_a_fault_for_six_hours_after_it_and_is_false_after_a_day() -> None:
    rule = AlarmRule(grace_h=6, aftermath_h=24)
    faults = [fault("step", 30, 40)]
    assert judge_alarms(scores(100, 45), faults, rule).found == {"step": [15]}
    assert judge_alarms(scores(100, 46), faults, rule).missed == {"step": 1}
    found = scores(100, 63, 64)
    assert judge_alarms(found, [fault("step", 30, 40)], rule).false_alarms == 0
    assert judge_alarms(found, [fault("step", 30, 39)], rule).false_alarms == 1


def test_reports_without_points_say_so() -> None:
    assert judge_forecasts([], []).line() == "forecast   no forecasts to compare"
    assert judge_alarms([], []).line() == "faults     no anomaly scores to compare"

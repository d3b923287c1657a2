"""The cards of a forecast, against the records from which the points were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.console.fleet import Fleet, FleetQuery
from pipeline.console.metrics import exposition
from pipeline.console.pages import PageSettings, device_page
from pipeline.console.queries import all_points, newest_times, summaries
from pipeline.points.scores import points_of
from pipeline.status.counters import DeviceAccount
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.transformers import (
    CHANNELS,
    FAULT_HOURS,
    HOUR_MS,
    LEADS,
    TRANSFORMERS,
    add_transformers,
    forecast_records,
)
from tests.fakes.view import FakeView

NOW_MS = 1_800_000_000_000
HOURS = 72
ODD = ("grid", TRANSFORMERS[1], "power")


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsFile]:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    yield results
    results.close()


@pytest.fixture
def view(results: ResultsFile) -> FakeView:
    view = FakeView(NOW_MS)
    add_transformers(view, results, NOW_MS, HOURS)
    return view


def records() -> list[dict[str, Any]]:
    return list(forecast_records(ODD[1], NOW_MS, HOURS, 41, is_odd=True))


def fleet(view: FakeView, results: ResultsFile) -> dict[str, dict[str, Any]]:
    page = Fleet(results, PageSettings()).page(view, FleetQuery(), NOW_MS)
    return {device["device"]: device for device in page["devices"]}


def course(view: FakeView, results: ResultsFile, **choice: Any) -> dict[str, Any]:
    chosen = {"span_ms": None} | choice
    page = device_page(view, results, PageSettings(), ODD, **chosen)
    assert page is not None
    return page


def test_the_fleet_shows_the_oddest_channel_of_an_alarm_and_its_fan(
    view: FakeView, results: ResultsFile
) -> None:
    newest = records()[-1]
    card = fleet(view, results)[ODD[1]]["forecast"]
    assert (card["alarm"], card["shown"], card["unit"]) == (True, "OT", "degC")
    assert card["score"] == newest["score"]
    assert card["readings"][-1] == (NOW_MS, newest["actual"]["OT"])
    assert len(card["readings"]) == 48
    assert card["ahead"] == [
        [NOW_MS + lead * HOUR_MS, *newest["forecast"]["OT"][str(lead)]] for lead in LEADS
    ]
    covered = [record["covered"] for record in records()[-48:]]
    assert card["covered_mean"] == pytest.approx(sum(covered) / 48)


def test_the_fleet_shows_the_first_channel_without_an_alarm(
    view: FakeView, results: ResultsFile
) -> None:
    calm = fleet(view, results)[TRANSFORMERS[0]]["forecast"]
    assert (calm["alarm"], calm["shown"], calm["unit"]) == (False, "HUFL", "MW")


def test_a_device_shows_what_was_forecast_for_each_reading_at_the_chosen_lead(
    view: FakeView, results: ResultsFile
) -> None:
    made = records()
    for lead in LEADS:
        card = course(view, results, lead=lead)["device"]["forecast"]
        assert (card["leads"], card["lead"], card["step_ms"]) == (list(LEADS), lead, HOUR_MS)
        assert [channel["name"] for channel in card["channels"]] == list(CHANNELS)
        for channel in card["channels"]:
            name = channel["name"]
            assert channel["readings"] == [
                [record["end_ms"], *[record["actual"][name]] * 3] for record in made
            ]
            assert channel["made"] == [
                [record["end_ms"] + lead * HOUR_MS, *record["forecast"][name][str(lead)]]
                for record in made[:-lead]
            ]
            assert channel["ahead"][0][0] == NOW_MS + HOUR_MS


def test_a_lead_that_is_not_stored_gives_the_first_one(
    view: FakeView, results: ResultsFile
) -> None:
    assert course(view, results, lead=7)["device"]["forecast"]["lead"] == LEADS[0]


def test_the_course_of_the_anomaly_score_has_every_alarm(
    view: FakeView, results: ResultsFile
) -> None:
    rows = course(view, results)["series"]
    assert rows == [
        [record["end_ms"], *(record[name] for name in ("score", "alarm", "mae", "covered"))]
        for record in records()
    ]
    since_ms, until_ms = NOW_MS - HOURS * HOUR_MS, NOW_MS + 1
    short = summaries(
        results,
        "anomaly",
        {"score": "max", "alarm": "max"},
        ODD,
        since_ms=since_ms,
        until_ms=until_ms,
        max_points=4,
    )
    assert [row[2] for row in short] == [0, 0, 0, 1]
    assert short[-1][1] == max(record["score"] for record in records()[-FAULT_HOURS:])


@pytest.mark.parametrize(("span_ms", "windows"), [(1, 48), (60 * HOUR_MS, 60), (None, HOURS)])
def test_a_short_span_shows_the_newest_windows_of_a_slow_device(
    view: FakeView, results: ResultsFile, span_ms: int | None, windows: int
) -> None:
    page = course(view, results, span_ms=span_ms)
    assert len(page["series"]) == windows
    assert page["least_span_ms"] == 47 * HOUR_MS + 1


def test_a_device_with_few_windows_shows_them_all(results: ResultsFile) -> None:
    results.write(points_of(records()[:3]))
    page = course(FakeView(NOW_MS), results, span_ms=1)
    assert len(page["series"]) == 3


def test_a_device_of_another_time_has_a_card_without_a_model_or_a_forecast(
    results: ResultsFile,
) -> None:
    points = [point for point in points_of(records()) if point.measurement == "anomaly"]
    results.write(points)
    card = fleet(FakeView(NOW_MS), results)[ODD[1]]["forecast"]
    assert (card["shown"], card["readings"], card["ahead"]) == (None, [], [])
    card = course(FakeView(NOW_MS), results)["device"]["forecast"]
    assert (card["leads"], card["lead"], card["channels"]) == ([], None, [])


def test_a_slow_device_is_stale_after_three_missing_readings(
    view: FakeView, results: ResultsFile
) -> None:
    view.accounts.append(DeviceAccount("lab", "anna", "imu", received=1, windowed=1))
    devices = fleet(view, results)
    assert devices[ODD[1]]["stale_ms"] == 3 * HOUR_MS
    assert devices["anna"]["stale_ms"] == PageSettings().stale_ms


def test_every_point_carries_its_channel_and_lead(view: FakeView, results: ResultsFile) -> None:
    points = all_points(results, "forecast")
    assert len(points) == len(TRANSFORMERS) * HOURS * len(CHANNELS) * (1 + len(LEADS))
    newest = records()[-1]
    found = {
        (point["channel"], point["lead"]): point
        for point in points
        if point["device"] == ODD[1] and point["end_ms"] == NOW_MS + HOUR_MS * int(point["lead"])
    }
    assert len(found) == len(CHANNELS) * (1 + len(LEADS))
    assert found["OT", "0"]["value"] == newest["actual"]["OT"]
    assert found["OT", "24"]["p90"] == newest["forecast"]["OT"]["24"][2]
    sql = "SELECT p50 FROM forecast WHERE device = ? AND channel = 'OT' AND lead = '6' "
    rows = results.select(sql + "ORDER BY time_ns DESC LIMIT 1", (ODD[1],))
    assert rows == [(newest["forecast"]["OT"]["6"][1],)]


def test_newest_times_are_those_of_all_models(view: FakeView, results: ResultsFile) -> None:
    before = [record | {"model": "before"} for record in records()[-3:]]
    results.write(points_of([record | {"end_ms": record["end_ms"] + 1} for record in before]))
    times = newest_times(results, "anomaly", ODD, last=4)
    assert times == [NOW_MS + 1, NOW_MS, NOW_MS - HOUR_MS + 1, NOW_MS - HOUR_MS]
    assert newest_times(results, "unknown", ODD, last=5) == []


def test_figures_are_served_by_model_and_not_by_device(
    view: FakeView, results: ResultsFile
) -> None:
    text = exposition(view).decode()
    labels = 'figure="mae",model="forecast-power",stream="power",task="forecast"'
    assert f"kpstream_score_figure_count{{{labels}}} {HOURS}.0" in text
    assert f"kpstream_score_figure_sum{{{labels}}} {0.3 * HOURS}" in text
    assert not [
        line for line in text.splitlines() if "score_figure" in line and "transformer" in line
    ]

"""Forecasts on a real InfluxDB: the fan, and errors and coverage by lead, computed by hand."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from statistics import mean

import pytest

from dashboards.queries import choices
from dashboards.queries import forecasts as queries
from dashboards.queries.query import Query
from models.tasks.forecast import FORECAST
from pipeline.points.points import Point
from pipeline.points.scores import ScoreRecord, points_of
from tests.dashboards.conftest import QueryInflux, StorePoints
from tests.dashboards.simulated_forecasts import FAULTY, GRID, TRANSFORMERS
from tests.dashboards.simulated_site import START_MS, STOP_MS
from tests.fakes.grafana_flux import Frame
from tests.pipeline.points.test_scores import FORECAST as RECORD

pytestmark = pytest.mark.needs_influxd

AHEAD_MS = 10_000
"""The range of the board ends this much after the newest window."""
CHANNEL = "OT"
SELECTED = {"site": [GRID], "device": [FAULTY], "channel": [CHANNEL], "lead": ["4"], "model": "ALL"}


def ask(query_influx: QueryInflux, query: Query, **more) -> list[Frame]:
    """Query as the board does, one value per second."""
    options = {"variables": SELECTED, "stop_ms": STOP_MS + AHEAD_MS, "step_ms": 1_000}
    return query_influx(query.flux, **options | more)


def ns(at: datetime) -> int:
    return round(at.timestamp() * 1000) * 10**6


@pytest.fixture(scope="module")
def points(forecasts: list[ScoreRecord]) -> dict[str, dict[int, dict[str, float]]]:
    """Points of the selected channel by lead and time, those of the range."""
    mine = [
        record
        for record in forecasts
        if record["device"] == FAULTY and record["end_ms"] >= START_MS
    ]
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for point in points_of(mine):
        tags = dict(point.tags)
        if tags.get("channel") == CHANNEL:
            found[tags["lead"]][point.time_ns] = dict(point.fields)
    return found


def test_fan_holds_what_was_forecast_and_reaches_ahead_of_now(query_influx, points) -> None:
    frames = ask(query_influx, queries.fan_of_lead(FORECAST))
    found = {frame.fields[1].name: frame.fields[1].values for frame in frames}
    want = [points["4"][at] for at in sorted(points["4"])]
    assert {name: pytest.approx(values) for name, values in found.items()} == {
        name: [quantiles[name] for quantiles in want] for name in ("p10", "p50", "p90")
    }
    newest = max(points["0"])
    beyond = [at for at in points["4"] if at > newest]
    assert len(beyond) == 4
    past = ask(query_influx, queries.fan_of_lead(FORECAST), stop_ms=newest // 10**6 + 1)
    assert past[0].rows == frames[0].rows - len(beyond)


def test_readings_are_those_that_came(query_influx, points) -> None:
    (frame,) = ask(query_influx, queries.readings(FORECAST))
    want = [points["0"][at]["value"] for at in sorted(points["0"])]
    assert frame.fields[1].values == pytest.approx(want)


def test_newest_fan_has_every_lead_of_the_newest_window(query_influx, points) -> None:
    frames = ask(query_influx, queries.newest_fan(FORECAST))
    assert {frame.fields[1].name for frame in frames} == {"p10", "p50", "p90"}
    newest = max(points["0"])
    times = [newest + 10**9, newest + 4 * 10**9]
    for frame in frames:
        name = frame.fields[1].name
        want = [points[lead][at][name] for lead, at in zip(("1", "4"), times, strict=True)]
        assert frame.fields[1].values == pytest.approx(want)
        # The fake reads times to the second.
        assert [ns(at) // 10**9 for at in frame.fields[0].values] == [at // 10**9 for at in times]


def test_error_and_coverage_by_lead_compare_each_forecast_with_its_reading(
    query_influx, points
) -> None:
    (frame,) = ask(query_influx, queries.leads_now(FORECAST))
    found = {column.name: column.values for column in frame.fields}
    assert found["steps"] == [1, 4]
    for row, lead in enumerate(("1", "4")):
        pairs = [
            (quantiles, points["0"][at]["value"])
            for at, quantiles in points[lead].items()
            if at in points["0"]
        ]
        inside = [q["p10"] <= value <= q["p90"] for q, value in pairs]
        assert 0 < sum(inside) < len(pairs)
        assert found["readings"][row] == len(pairs)
        assert found["error"][row] == pytest.approx(mean(abs(q["p50"] - v) for q, v in pairs))
        assert found["covered"][row] == pytest.approx(mean(inside))
    assert found["readings"] == [len(points["1"]) - 1, len(points["4"]) - 4]


def test_error_over_time_has_a_series_for_each_lead(query_influx, points) -> None:
    frames = ask(query_influx, queries.error_of_leads(FORECAST))
    found = {frame.fields[1].labels["lead"]: frame.fields[1].values for frame in frames}
    assert set(found) == {"1", "4"}
    for lead, errors in found.items():
        came = points["0"]
        want = [abs(points[lead][at]["p50"] - came[at]["value"]) for at in sorted(came)
                if at in points[lead]]  # fmt: skip
        assert errors == pytest.approx(want)


def test_a_reading_that_is_missing_is_compared_with_no_forecast(
    query_influx: QueryInflux, store_points: StorePoints
) -> None:
    """Readings at 0, 1 and 3 s: the forecasts for 2 s and for 4 s have nothing to compare."""
    records = [
        RECORD
        | {"end_ms": START_MS + 1000 * second}
        | {"forecast": {"OT": {"1": [9.0, 10.0, 11.0]}}, "actual": {"OT": value}}
        for second, value in ((0, 10.0), (1, 10.5), (3, 14.0))
    ]
    store_points("dashboards-missing-reading", points_of(records))
    variables = SELECTED | {"site": [RECORD["site"]], "device": [RECORD["device"]]}
    (frame,) = ask(
        query_influx,
        queries.leads_now(FORECAST),
        bucket="dashboards-missing-reading",
        variables=variables,
    )
    found = {column.name: column.values for column in frame.fields}
    assert (found["readings"], found["error"], found["covered"]) == ([1], [0.5], [1.0])


def test_five_thousand_windows_are_compared_within_seconds(
    query_influx: QueryInflux, store_points: StorePoints
) -> None:
    """A join of Flux takes more than the minute after which the request fails."""
    leads = {str(lead): [1.0, 2.0, 3.0] for lead in (1, 4, 16, 64)}
    records = [
        RECORD
        | {"end_ms": START_MS + 50 * at, "step_ms": 50, "forecast": {"OT": leads}}
        | {"actual": {"OT": 2.5}}
        for at in range(5_000)
    ]
    store_points("dashboards-many-windows", points_of(records))
    variables = SELECTED | {"site": [RECORD["site"]], "device": [RECORD["device"]]}
    (frame,) = ask(
        query_influx,
        queries.leads_now(FORECAST),
        bucket="dashboards-many-windows",
        variables=variables,
    )
    assert frame.column("readings").values == [4_999, 4_996, 4_984, 4_936]
    assert frame.column("error").values == pytest.approx([0.5] * 4)


def test_choices_are_the_devices_channels_and_leads_with_forecasts(
    query_influx: QueryInflux, site_points: list[Point]
) -> None:
    found = {}
    for choose in (
        choices.forecast_site_choices,
        choices.forecast_device_choices,
        choices.channel_choices,
        choices.lead_choices,
    ):
        (frame,) = ask(query_influx, choose(FORECAST))
        found[choose.__name__] = set(frame.fields[0].values)
    assert found == {
        "forecast_site_choices": {GRID},
        "forecast_device_choices": set(TRANSFORMERS),
        "channel_choices": {"HUFL", "LUFL", "OT"},
        "lead_choices": {"1", "4"},
    }

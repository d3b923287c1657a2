"""Anomaly scores, alarms and the backtest on a real InfluxDB, against what is computed by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import mean

import pytest

from dashboards.queries import anomalies
from dashboards.queries.explanations import DEVICE_EXPLANATIONS
from dashboards.queries.query import Query
from models.tasks.forecast import FORECAST
from pipeline.points.scores import ScoreRecord
from tests.dashboards.conftest import DAY_MS, HOURS, QueryInflux
from tests.dashboards.simulated_forecasts import EARLIER_HOURS, FAULTY, GRID, HOUR_MS, TRANSFORMERS
from tests.dashboards.simulated_site import START_MS, STOP_MS
from tests.fakes.grafana_flux import Frame

pytestmark = pytest.mark.needs_influxd

SELECTED = {"site": [GRID], "device": [FAULTY], "model": "ALL"}


def ask(query_influx: QueryInflux, query: Query, **more) -> list[Frame]:
    options = {"variables": SELECTED, "step_ms": 1_000}
    return query_influx(query.flux, **options | more)


@pytest.fixture(scope="module")
def in_range(forecasts: list[ScoreRecord]) -> dict[str, list[ScoreRecord]]:
    """Records in the range of the board, by device and in order of time."""
    found = defaultdict(list)
    for record in forecasts:
        if record["end_ms"] >= START_MS:
            found[record["device"]].append(record)
    return found


@pytest.fixture(scope="module")
def hours(forecasts: list[ScoreRecord]) -> dict[tuple[int, str], list[ScoreRecord]]:
    """Records by hour and device."""
    found = defaultdict(list)
    for record in forecasts:
        found[record["end_ms"] // HOUR_MS * HOUR_MS, record["device"]].append(record)
    return found


def test_devices_with_most_alarms_come_first(query_influx, in_range) -> None:
    (frame,) = ask(query_influx, anomalies.alarms_by_device(FORECAST))
    found = {column.name: column.values for column in frame.fields}
    alarms = {
        device: sum(record["alarm"] for record in records) for device, records in in_range.items()
    }
    assert max(alarms, key=alarms.__getitem__) == FAULTY
    assert found["device"] == sorted(alarms, key=alarms.__getitem__, reverse=True)
    assert dict(zip(found["device"], found["alarms"], strict=True)) == alarms
    for row, device in enumerate(found["device"]):
        newest = in_range[device][-1]
        for name in ("score", "mae", "covered"):
            assert found[name][row] == pytest.approx(newest[name])
        for name in ("channel", "version", "model", "site"):
            assert found[name][row] == newest[name]
        assert int(found["newest"][row].timestamp()) == newest["end_ms"] // 1000


def test_devices_in_alarm_are_those_whose_newest_window_alarms(query_influx, in_range) -> None:
    moments = [record["end_ms"] + 1 for record in in_range[FAULTY] if record["alarm"]][:3]
    for stop_ms in (STOP_MS, *moments):
        newest = [
            [record for record in records if record["end_ms"] < stop_ms][-1]
            for records in in_range.values()
        ]
        (frame,) = ask(query_influx, anomalies.devices_in_alarm(FORECAST), stop_ms=stop_ms)
        assert frame.fields[1].values == [sum(record["alarm"] for record in newest)]


def test_alarms_over_time_are_counted_by_site(query_influx, in_range) -> None:
    (frame,) = ask(query_influx, anomalies.alarms_by_site(FORECAST), step_ms=10_000)
    want: Counter[int] = Counter()
    for record in (record for records in in_range.values() for record in records):
        want[record["end_ms"] // 10_000 * 10 + 10] += record["alarm"]
    found = {
        round(at.timestamp()): value
        for at, value in zip(frame.fields[0].values, frame.fields[1].values, strict=True)
    }
    assert found == dict(want)


def test_score_of_a_device_has_its_alarms_as_marks(query_influx, in_range) -> None:
    records = in_range[FAULTY]
    (scores,) = ask(query_influx, anomalies.device_anomaly(FORECAST))
    assert scores.fields[1].name == "score"
    assert scores.fields[1].values == pytest.approx([record["score"] for record in records])
    (alarms,) = ask(query_influx, anomalies.device_alarms(FORECAST))
    assert alarms.fields[1].name == "alarm"
    want = [record["score"] for record in records if record["alarm"]]
    assert 10 <= len(want) < len(records)
    assert alarms.fields[1].values == pytest.approx(want)
    (now,) = ask(query_influx, anomalies.device_anomaly_now(FORECAST))
    assert now.fields[1].values == [pytest.approx(records[-1]["score"])]


def test_oddest_channel_is_that_of_the_oddest_window_of_a_step(query_influx, in_range) -> None:
    (frame,) = ask(query_influx, anomalies.device_oddest(FORECAST), step_ms=10_000)
    steps = defaultdict(list)
    for record in in_range[FAULTY]:
        steps[record["end_ms"] // 10_000].append(record)
    want = []
    for step in sorted(steps):
        oddest = max(steps[step], key=lambda record: record["score"])
        want.append(oddest["channel"] if oddest["alarm"] else anomalies.NO_ALARM)
    assert frame.fields[1].values == want
    assert {"OT", anomalies.NO_ALARM} <= set(want)


@pytest.mark.parametrize(
    ("make", "field"),
    [(anomalies.error_history, "mae"), (anomalies.coverage_history, "covered")],
)
def test_history_of_a_device_has_its_hours(query_influx, hours, make, field: str) -> None:
    (frame,) = ask(query_influx, make(FORECAST, HOURS), start_ms=STOP_MS - DAY_MS)
    want = {
        hour // 1000: pytest.approx(mean(record[field] for record in records))
        for (hour, device), records in hours.items()
        if device == FAULTY
    }
    found = {
        round(at.timestamp()): value
        for at, value in zip(frame.fields[0].values, frame.fields[1].values, strict=True)
    }
    assert found == want
    assert len(want) == EARLIER_HOURS + 2


@pytest.mark.parametrize(
    ("make", "field"),
    [(anomalies.error_of_models, "mae"), (anomalies.coverage_of_models, "covered")],
)
def test_hours_of_a_model_are_over_all_windows_of_its_devices(
    query_influx, hours, make, field: str
) -> None:
    (frame,) = ask(query_influx, make(FORECAST, HOURS), start_ms=STOP_MS - DAY_MS)
    assert frame.fields[1].labels == {"model": "power"}
    of_hour = defaultdict(list)
    for (hour, _), records in hours.items():
        of_hour[hour] += [record[field] for record in records]
    want = [pytest.approx(mean(of_hour[hour])) for hour in sorted(of_hour)]
    assert frame.fields[1].values == want


def test_coverage_of_the_day_is_over_all_windows_of_a_device(query_influx, forecasts) -> None:
    query = anomalies.coverage_of_day(FORECAST, HOURS, EARLIER_HOURS)
    frames = query_influx(query.flux, start_ms=STOP_MS - DAY_MS)
    found = {frame.fields[1].labels["device"]: frame.fields[1].values for frame in frames}
    assert found == {
        device: [pytest.approx(mean(r["covered"] for r in forecasts if r["device"] == device))]
        for device in TRANSFORMERS
    }
    more = anomalies.coverage_of_day(FORECAST, HOURS, EARLIER_HOURS + 3)
    assert query_influx(more.flux, start_ms=STOP_MS - DAY_MS) == []


def test_windows_with_an_alarm_have_their_explanations_newest_first(query_influx, in_range) -> None:
    (frame,) = ask(query_influx, DEVICE_EXPLANATIONS)
    want = [record for record in reversed(in_range[FAULTY]) if record["alarm"]][:100]
    assert frame.column("channel").values == [record["channel"] for record in want]
    assert frame.column("text").values == [
        f"{record['channel']} moved the anomaly score" for record in want
    ]


def test_general_boards_have_something_to_say_about_a_device_with_forecasts_only(
    query_influx,
) -> None:
    from dashboards.site import site_dashboards

    board = site_dashboards(hourly_bucket=HOURS).boards["kpstream-device"]
    shown = {
        panel.key
        for panel in board.panels
        if any(
            ask(query_influx, query, start_ms=STOP_MS - DAY_MS, step_ms=60_000)
            for query in panel.queries
        )
    }
    assert shown >= {
        "device-anomaly-now",
        "anomaly-score",
        "anomaly-channel",
        "device-explanations",
        "device-version",
        "device-latency",
        "device-windows",
        "forecast-error-history",
        "forecast-coverage-history",
    }
    assert not {key for key in shown if "rul" in key or "activity" in key}

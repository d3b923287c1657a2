"""Every query of panels, variables, annotations and alerts, sent to InfluxDB as Grafana does."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from dashboards.queries import (
    alerts,
    anomalies,
    choices,
    classes,
    devices,
    drift,
    explanations,
    forecasts,
    labels,
    numbers,
    processes,
    rollouts,
    scores,
    students,
)
from dashboards.queries.query import MAX_ANNOTATIONS, MAX_ROWS, Query, Shape
from dashboards.site import MAX_SERIES, site_dashboards
from dashboards.visuals.board import Board
from dashboards.visuals.links import DEVICE_UID, FORECAST_UID
from models.tasks.activity import ACTIVITY
from models.tasks.forecast import FORECAST
from models.tasks.registry import tasks
from models.tasks.rul import RUL
from pipeline.points.accounts import Accounts
from pipeline.points.points import Point
from pipeline.status.counters import DeviceAccount, Totals
from tests.dashboards.conftest import DAY_MS, HOURS, QueryInflux, StorePoints
from tests.dashboards.simulated_forecasts import FAULTY, GRID
from tests.dashboards.simulated_release import FALL_BACK_MS, FALL_BACK_REASON, TAKEOVER_MS
from tests.dashboards.simulated_site import (
    EVICTED_MS,
    EVICTED_RESTART_MS,
    SESSION_LOST_MS,
    START_MS,
    STOP_MS,
    SimulatedProcess,
)
from tests.fakes.grafana_flux import Frame

pytestmark = pytest.mark.needs_influxd

SITE = site_dashboards(hourly_bucket=HOURS)
ENGINE = {"site": ["hangar"], "device": ["engine-01"]}
PERSON = {"site": ["clinic"], "device": ["person-01"]}
TRANSFORMER = {
    "site": [GRID],
    "device": [FAULTY],
    "channel": ["OT"],
    "lead": ["4"],
    "model": "ALL",
}
SELECTIONS = {DEVICE_UID: [ENGINE, PERSON, TRANSFORMER], FORECAST_UID: [TRANSFORMER]}
"""What is selected on a board; everything on the others."""
EVERYTHING = {"site": "ALL", "model": "ALL"}


def board_queries() -> Iterator[pytest.ParameterSet]:
    """Query, board and time range in days (None for the board's own) of all that boards query."""
    for board in SITE.boards.values():
        for panel in board.panels:
            for query in panel.queries:
                days = 30 if panel.time_from == "30d" else None
                yield pytest.param(query, board, days, id=f"{board.uid}-{panel.key}-{query.name}")
        for variable in board.variables:
            yield pytest.param(variable.query, board, None, id=f"{board.uid}-{variable.name}")
        for annotation in board.annotations:
            yield pytest.param(annotation.query, board, None, id=f"{board.uid}-{annotation.name}")


@pytest.mark.parametrize(("query", "board", "days"), list(board_queries()))
def test_query_of_a_board_returns_its_shape(
    query_influx: QueryInflux, query: Query, board: Board, days: int | None
) -> None:
    start_ms = START_MS if days is None else STOP_MS - days * DAY_MS
    answers = [
        query_influx(query.flux, start_ms=start_ms, variables=selection)
        for selection in SELECTIONS.get(board.uid, [EVERYTHING])
    ]
    for frames in answers:
        if frames:
            assert_shape(frames, query.shape)
    assert any(answers) or query.shape.may_be_empty, "the query returns nothing"


def rule_queries() -> Iterator[pytest.ParameterSet]:
    for group in SITE.groups:
        for rule in group.rules:
            for query in rule.queries.values():
                yield pytest.param(query, rule.look_back_s, id=f"{rule.uid}-{query.name}")


@pytest.mark.parametrize(("query", "look_back_s"), list(rule_queries()))
def test_query_of_an_alert_returns_its_shape(
    query_influx: QueryInflux, query: Query, look_back_s: int
) -> None:
    frames = query_influx(query.flux, start_ms=STOP_MS - 1000 * look_back_s)
    assert frames
    assert_shape(frames, query.shape)
    assert all(frame.is_wide_series for frame in frames), "Grafana can only evaluate these"
    assert all(frame.rows == 1 for frame in frames), "one value per series"


@pytest.fixture(scope="module")
def empty_bucket(store_points: StorePoints) -> str:
    """The bucket of a new site."""
    store_points("dashboards-empty", [])
    return "dashboards-empty"


@pytest.mark.parametrize(
    "query", {p.values[0].name: p.values[0] for p in [*board_queries(), *rule_queries()]}.values()
)
def test_query_of_an_empty_influxdb_is_no_error(
    query_influx: QueryInflux, empty_bucket: str, query: Query
) -> None:
    flux = query.flux.replace(f'"{HOURS}"', f'"{empty_bucket}"')
    variables = TRANSFORMER | EVERYTHING | {"device": ["nobody"]}
    frames = query_influx(flux, bucket=empty_bucket, variables=variables)
    counts = [value for frame in frames for value in frame.fields[-1].values]
    assert set(counts) <= {0}


@pytest.mark.parametrize(
    "query",
    [p.values[0] for p in board_queries() if p.values[0].name.startswith(("rul", "device_rul"))],
)
def test_query_of_scores_without_an_interval_is_no_error(
    query_influx: QueryInflux, stored_without_interval: str, query: Query
) -> None:
    """A student may be published without an interval; boards still show its machines."""
    bucket = stored_without_interval
    frames = query_influx(
        query.flux.replace(f'"{HOURS}"', f'"{bucket}"'),
        bucket=bucket,
        variables=EVERYTHING | {"device": ["engine-01"]},
    )
    assert frames or query.name in ("rul_history", "rul_interval_width")


@pytest.fixture(scope="module")
def stored_without_interval(store_points: StorePoints, site_points: list[Point]) -> str:
    points = [
        replace(point, fields=tuple((k, v) for k, v in point.fields if k not in INTERVAL))
        for point in site_points
        if point.measurement == "rul"
    ]
    store_points("dashboards-no-interval", points)
    return "dashboards-no-interval"


INTERVAL = ("rul_low", "rul_high")


ARGUMENTS = {
    "tasks": tasks(),
    "limit": 20,
    "field": "rul",
    "bucket": HOURS,
    "windows": 3,
    "clear_score": 0.9,
    "clear_windows": 5,
    "hours": 2,
}


def written_queries() -> Iterator[Query]:
    """Every query that the modules of queries define or build."""
    of_task = {numbers: RUL, classes: ACTIVITY} | dict.fromkeys(
        (anomalies, choices, forecasts), FORECAST
    )
    modules = (alerts, choices, classes, devices, numbers, processes, scores, students)
    for module in (*modules, anomalies, drift, explanations, forecasts, labels, rollouts):
        arguments = ARGUMENTS | {"task": of_task.get(module)}
        for name in module.__all__:
            item = getattr(module, name)
            if inspect.isfunction(item):
                parameters = inspect.signature(item).parameters
                if item.__annotations__["return"] == "Query":
                    yield item(**{parameter: arguments[parameter] for parameter in parameters})
            elif isinstance(item, Query):
                yield item


def test_every_query_is_used_by_a_board_or_an_alert() -> None:
    used = {param.values[0].name for param in [*board_queries(), *rule_queries()]}
    written = [query.name for query in written_queries()]
    assert len(written) > 50
    assert len(written) == len(set(written)), "two queries of one name"
    assert set(written) == used - {"alert_rul_low", "alert_rul_high"}


def test_board_contains_the_text_of_its_queries() -> None:
    for uid, board in SITE.boards.items():
        page = SITE.board_json(uid)
        texts = [t["query"] for panel in page["panels"] for t in panel.get("targets", [])]
        assert texts == [query.flux for panel in board.panels for query in panel.queries]
        annotations = [a["target"]["query"] for a in page["annotations"]["list"] if "target" in a]
        assert annotations == [annotation.query.flux for annotation in board.annotations]


def assert_shape(frames: list[Frame], shape: Shape) -> None:
    """Require frames that have the shape and are not empty."""
    for frame in frames:
        assert frame.rows > 0
        labels = {name for column in frame.fields for name in column.labels}
        found = {column.name: column.type for column in frame.fields}
        if shape.kind in ("series", "states"):
            assert len(frame.fields) == 2
            assert labels | {"_field"} == set(shape.labels) | {"_field"}
            assert frame.fields[0].type == "time"
            assert frame.fields[0].values == sorted(frame.fields[0].values)
            assert frame.fields[1].type == shape.columns["_value"]
            if "_field" in shape.labels:
                assert frame.fields[1].name not in ("Value", "_value")
        else:
            assert labels == set()
            assert found == dict(shape.columns)
    if shape.kind in ("series", "states"):
        named = [(f.fields[1].name, *sorted(f.fields[1].labels.items())) for f in frames]
        assert len(named) == len(set(named)), "two series with the same labels"
    else:
        assert len(frames) == 1


# ------------------------------------------------------------------------------ values of queries


def rows(frames: list[Frame]) -> list[dict]:
    """A table as rows."""
    columns = {column.name: column.values for column in frames[0].fields}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def query_table(query_influx: QueryInflux, query: Query, **more) -> list[dict]:
    return rows(query_influx(query.flux, variables=EVERYTHING, **more))


def newest(points, measurement: str) -> dict:
    found = {}
    for point in sorted(points, key=lambda p: p.time_ns):
        if point.measurement == measurement and point.time_ns < STOP_MS * 1_000_000:
            found[dict(point.tags)["device"]] = dict(point.fields)
    return found


def test_machines_come_with_their_newest_score_and_its_interval(query_influx, site_points) -> None:
    found = query_table(query_influx, numbers.number_now(RUL))
    want = newest(site_points, "rul")
    assert [row["rul_low"] for row in found] == sorted(row["rul_low"] for row in found)
    assert {row["device"] for row in found} == set(want)
    for row in found:
        score = want[row["device"]]
        for field in ("rul", "rul_low", "rul_high", "version"):
            assert row[field] == pytest.approx(score[field])


def test_a_machine_without_an_interval_is_judged_by_its_score(
    query_influx: QueryInflux, store_points: StorePoints
) -> None:
    """Also one whose former student had an interval: the old lower end is no news."""

    def score(device: str, at_s: int, **fields: float) -> Point:
        tags = (("site", "s"), ("device", device), ("stream", "engine"), ("model", "own"))
        return Point(
            "rul", tags, (*fields.items(), ("version", 1)), START_MS * 10**6 + at_s * 10**9
        )

    bucket = "dashboards-without-interval"
    points = [
        score("never", 1, rul=12.0),
        score("before", 1, rul=90.0, rul_low=80.0, rul_high=99.0),
        score("before", 2, rul=15.0),
        score("since", 1, rul=5.0),
        score("since", 2, rul=60.0, rul_low=30.0, rul_high=70.0),
    ]
    store_points(bucket, points)
    here = {"bucket": bucket, "variables": EVERYTHING}
    frames = query_influx(numbers.alert_score(RUL, "rul_low", 20.0).flux, **here)
    assert {frame.fields[1].labels["device"]: frame.fields[1].values for frame in frames} == {
        "never": [12.0],
        "before": [15.0],
        "since": [30.0],
    }
    (below,) = query_influx(numbers.number_below(RUL, 20.0).flux, **here)
    assert below.fields[-1].values == [2]
    (lowest,) = query_influx(numbers.lowest_end(RUL, 20.0).flux, **here)
    assert lowest.fields[-1].values == [12.0]
    found = rows(query_influx(numbers.number_now(RUL).flux, **here))
    assert {row["device"]: row["rul"] for row in found} == {
        "never": 12.0,
        "before": 15.0,
        "since": 60.0,
    }


def test_people_come_with_their_newest_activity(query_influx, site_points) -> None:
    want = {device: score["activity"] for device, score in newest(site_points, "activity").items()}
    found = query_table(query_influx, classes.class_now(ACTIVITY))
    assert {row["device"]: row["activity"] for row in found} == want


def test_shares_of_activity_add_up_to_one(query_influx) -> None:
    frames = query_influx(classes.class_shares(ACTIVITY).flux, variables=EVERYTHING)
    assert len(frames) == 6
    for shares in zip(*(frame.fields[1].values for frame in frames), strict=True):
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_a_selection_on_the_board_filters_every_table(query_influx) -> None:
    variables = {"site": ["clinic"], "model": ["har-waist"]}
    assert query_influx(numbers.number_now(RUL).flux, variables=variables) == []
    found = rows(query_influx(devices.ACCOUNT_OF_DEVICES.flux, variables=variables))
    assert {row["site"] for row in found} == {"clinic"}
    both = {"site": ["clinic", "hangar"], "model": ["rul-fd001", "har-waist"]}
    assert len(rows(query_influx(numbers.number_now(RUL).flux, variables=both))) >= 5


@pytest.mark.parametrize("name", ["engine.01", "engine-0", ".*", "engine-01|engine-02", "a/b"])
def test_a_selected_name_is_not_a_pattern(query_influx, name: str) -> None:
    variables = {"site": ["hangar"], "device": [name]}
    assert query_influx(numbers.device_number(RUL).flux, variables=variables) == []


def test_devices_that_are_silent_longest_come_first(query_influx, site_points) -> None:
    found = query_table(query_influx, devices.SILENT_DEVICES)
    silences = [row["silent_s"] for row in found]
    assert silences == sorted(silences, reverse=True)
    by_device = {row["device"]: row for row in found}
    assert by_device["person-01"]["silent_s"] <= 5
    assert by_device["engine-02"]["silent_s"] > 120
    last = by_device["engine-02"]["last_reading"] + timedelta(
        seconds=by_device["engine-02"]["silent_s"]
    )
    assert abs(last.timestamp() * 1000 - STOP_MS) <= 1000


def test_accounts_equal_those_of_the_site_and_balance(query_influx, site_points) -> None:
    want = newest(site_points, "device")
    found = query_table(query_influx, devices.ACCOUNT_OF_DEVICES)
    assert {row["device"] for row in found} == set(want)
    for row in found:
        for field in ("received", "windowed", "duplicate", "late", "dead_lettered", "windows"):
            assert row[field] == want[row["device"]][field]
        assert row["missing"] == 0
    unbalanced = query_influx(devices.UNBALANCED_NOW.flux, variables=EVERYTHING)
    assert [frame.fields[1].values for frame in unbalanced] == [[0]]


def test_a_restart_causes_neither_a_spike_nor_a_gap(query_influx, site_points) -> None:
    """The worker's counter of scores restarts in the middle; the sum continues."""
    frames = query_influx(processes.PROCESS_COUNTS.flux, step_ms=5000)
    found = {frame.fields[1].name: sum(frame.fields[1].values) for frame in frames}
    scored = [
        dict(point.fields)["scored"] for point in site_points if "scored" in dict(point.fields)
    ]
    assert any(b < a for a, b in itertools.pairwise(scored)), "there was a restart"
    want, before = 0, scored[0]
    for now in scored[1:]:
        want += now - before if now >= before else now
        before = now
    assert found["scored"] == want
    assert min(min(frame.fields[1].values) for frame in frames) >= 0


@pytest.fixture(scope="module")
def steady(store_points: StorePoints) -> str:
    """Two processes of 100 messages/s each, with accounts every 5 s; one restarts after 100 s."""
    points = []
    for name, restart_s, offset_ms in (("a", 100, 0), ("b", None, 1_700)):
        start_s = 0
        for at_s in range(0, 200, 5):
            if at_s == restart_s:
                start_s = at_s - 5
            process = SimulatedProcess(sums=Totals(messages_received=100 * (at_s - start_s)))
            now_ms = START_MS + 1000 * at_s + offset_ms
            points += Accounts(process, name, "bridge", START_MS).points(now_ms)
    store_points("dashboards-steady", points)
    return "dashboards-steady"


@pytest.mark.parametrize("shift_ms", [0, 300, 2_100, 4_999, 7_500, 12_345])
@pytest.mark.parametrize("step_ms", [5_000, 20_000, 30_000])
def test_a_steady_rate_is_shown_for_any_range(
    query_influx: QueryInflux, steady: str, step_ms: int, shift_ms: int
) -> None:
    """No first or last step that is cut changes the rate; a restart costs one step a part."""
    frames = query_influx(
        processes.RATES.flux,
        bucket=steady,
        step_ms=step_ms,
        start_ms=START_MS + 11_000 + shift_ms,
        stop_ms=START_MS + 150_000 + shift_ms,
    )
    rates = {frame.fields[1].name: frame.fields[1].values for frame in frames}["messages_received"]
    assert len(rates) >= 139_000 // step_ms - 2
    *steady_rates, last = sorted(map(round, rates), reverse=True)
    assert set(steady_rates) == {200}
    assert 200 - 100 < last <= 200


def test_backlog_is_summed_over_partitions_and_follows_the_log(query_influx, site_points) -> None:
    found = rows(query_influx(processes.PARTITIONS.flux))
    assert [row["number"] for row in found] == [0, 1, 2, 3, 0, 1, 2, 3]
    backlogs: Counter[int] = Counter()
    for point in site_points:
        if point.measurement == "lag" and dict(point.tags)["group"] == "kpstream-score":
            backlogs[point.time_ns] += int(dict(point.fields)["backlog"])
    frames = query_influx(processes.BACKLOG.flux, step_ms=5000)
    assert frames[0].fields[1].labels == {"group": "kpstream-score", "topic": "readings"}
    assert frames[0].fields[1].values == [backlogs[at] for at in sorted(backlogs)]
    assert max(backlogs.values()) > 10


def test_a_refused_version_is_shown_with_its_reason(query_influx) -> None:
    found = rows(query_influx(students.MODELS_NOW.flux, variables=EVERYTHING))
    assert [row["healthy"] for row in found] == sorted(row["healthy"] for row in found)
    by_model = {row["model"]: row for row in found}
    assert found[0]["model"] == "har-waist"
    bad, good = by_model["har-waist"], by_model["rul-fd001"]
    assert (bad["model"], bad["version"], bad["healthy"]) == ("har-waist", 1, 0)
    assert bad["refused_version"] == 2
    assert "incomplete" in bad["error"]
    assert (good["model"], good["version"], good["healthy"]) == ("rul-fd001", 2, 1)


def test_rollouts_are_annotations_with_time_text_and_tags(query_influx) -> None:
    events = rows(query_influx(students.ROLLOUT_EVENTS.flux))
    by_tags = {event["tags"]: event for event in events}
    assert list(by_tags) == [
        "took_over,rul-fd001",
        "swapped,rul-fd001",
        "fell_back,rul-fd001",
        "refused,har-waist",
    ]
    swapped, fell_back = by_tags["swapped,rul-fd001"], by_tags["fell_back,rul-fd001"]
    assert swapped["text"] == "rul-fd001 v2 swapped, before v1"
    assert swapped["_time"].timestamp() * 1000 == START_MS + 120_000
    assert fell_back["text"] == f"rul-fd001 v3 failed on press-hall-1: {FALL_BACK_REASON}"
    assert fell_back["_time"].timestamp() * 1000 == START_MS + FALL_BACK_MS
    took_over = [event for event in events if event["tags"] == "took_over,rul-fd001"]
    assert len(took_over) == 3, "one a gateway, however often it is reported"
    starts = rows(query_influx(processes.PROCESS_STARTS.flux))
    assert [start["text"] for start in starts] == ["worker site-worker-1 started"]


def test_labels_that_hold_are_annotations_of_the_device_and_spans_have_an_end(
    query_influx: QueryInflux,
) -> None:
    def found(site: str, device: str) -> list[tuple[int, int, str, str]]:
        chosen = {"site": [site], "device": [device]}
        return [
            (
                round(row["_time"].timestamp() * 1000) - START_MS,
                round(row["timeEnd"].timestamp() * 1000) - START_MS,
                row["text"],
                row["tags"],
            )
            for row in rows(query_influx(labels.DEVICE_LABELS.flux, variables=chosen))
        ]

    assert found("hangar", "engine-01") == [
        (60_000, 60_000, "failed", "engine,Ada"),
        (61_000, 61_000, "replaced: bearing", "engine"),
        (63_000, 69_000, "run", "engine"),
    ]
    assert [text for _, _, text, _ in found("hangar", "engine-02")] == ["confirmed"]
    chosen = {"site": ["hangar"], "device": ["engine-03"]}
    assert query_influx(labels.DEVICE_LABELS.flux, variables=chosen) == []


def test_a_release_is_shown_with_its_step_and_why_it_paused(query_influx) -> None:
    early = rows(
        query_influx(
            rollouts.RELEASES_NOW.flux,
            stop_ms=START_MS + TAKEOVER_MS - 1000,
            variables=EVERYTHING,
        )
    )
    assert [(row["state"], row["at_step"], row["members"]) for row in early] == [
        ("running", "1 of 3", 3)
    ]
    (now,) = rows(query_influx(rollouts.RELEASES_NOW.flux, variables=EVERYTHING))
    assert (now["model"], now["number"], now["version"]) == ("rul-fd001", 4, 3)
    assert (now["state"], now["percent"]) == ("paused", 10)
    assert f"press-hall-1: {FALL_BACK_REASON}" in now["reason"]
    members = query_influx(rollouts.RELEASE_MEMBERS.flux, variables=EVERYTHING)
    last = {frame.fields[1].name: frame.fields[1].values[-1] for frame in members}
    assert sum(last.values()) == 3
    assert (last["failed"], last["healthy"]) == (1, 2)


def test_who_runs_what_begins_with_those_that_are_not_champions(query_influx) -> None:
    found = rows(query_influx(rollouts.GATEWAYS_NOW.flux, variables=EVERYTHING))
    assert [(row["phase"], row["gateway"], row["version"]) for row in found] == [
        ("probation", "press-hall-3", 3),
        ("probation", "press-hall-2", 3),
        ("failed", "press-hall-1", 2),
    ]
    assert found[-1]["reason"] == FALL_BACK_REASON
    versions = rows(query_influx(rollouts.GATEWAYS_OF_VERSIONS.flux, variables=EVERYTHING))
    assert [(row["version"], row["gateways"]) for row in versions] == [(2, 1), (3, 2)]
    (fall_back,) = rows(query_influx(rollouts.FALL_BACKS.flux, variables=EVERYTHING))
    assert fall_back["gateway"] == "press-hall-1"
    assert FALL_BACK_REASON in fall_back["text"]


def test_a_paused_release_and_a_gateway_that_fell_back_fire(query_influx) -> None:
    def values(query: Query, stop_ms: int) -> dict[str, int]:
        frames = query_influx(query.flux, stop_ms=stop_ms)
        return {
            frame.fields[-1].labels.get("gateway", "release"): frame.fields[-1].values[-1]
            for frame in frames
        }

    before_ms, after_ms = START_MS + FALL_BACK_MS - 1000, STOP_MS
    assert values(alerts.RELEASES_PAUSED, before_ms) == {"release": 0}
    assert values(alerts.RELEASES_PAUSED, after_ms) == {"release": 1}
    assert values(alerts.RELEASE_FAILURES, after_ms) == {"release": 1}
    assert set(values(alerts.GATEWAYS_FAILED, before_ms).values()) == {0}
    failed = values(alerts.GATEWAYS_FAILED, after_ms)
    assert [name for name, value in failed.items() if value] == ["press-hall-1"]


def test_versions_count_devices(query_influx) -> None:
    found = query_table(query_influx, scores.devices_of_versions(tasks()))
    assert {(row["model"], row["version"]) for row in found} >= {
        ("har-waist", 1),
        ("rul-fd001", 2),
    }
    assert sum(row["devices"] for row in found if row["model"] == "har-waist") == 2


def test_hours_are_there_for_both_hours_of_the_run(query_influx) -> None:
    history = numbers.number_history(RUL, HOURS)
    frames = query_influx(history.flux, start_ms=STOP_MS - DAY_MS, variables=ENGINE)
    assert {frame.fields[1].name for frame in frames} == {"rul_mean", "rul_low_min", "rul_high_max"}
    assert {frame.rows for frame in frames} == {2}


def test_tables_and_annotations_of_a_large_site_fit_grafana(query_influx, store_points) -> None:
    """Grafana shows an error instead of a table beyond its limits."""
    seen = [DeviceAccount("s", f"d{i:04}", "x", received=1, late=1) for i in range(700)]
    process = SimulatedProcess(seen=seen)
    points = []
    for start_ms in range(START_MS, START_MS + 130_000, 1_000):
        accounts = Accounts(process, "w", "worker", start_ms)
        points += accounts.points(start_ms)[: None if start_ms == START_MS else 1]
    store_points("dashboards-large", points)
    table = query_influx(
        devices.ACCOUNT_OF_DEVICES.flux, bucket="dashboards-large", variables=EVERYTHING
    )
    assert table[0].rows == MAX_ROWS == 500
    starts = rows(query_influx(processes.PROCESS_STARTS.flux, bucket="dashboards-large"))
    assert len(starts) == MAX_ANNOTATIONS == 100
    assert starts[-1]["_time"].timestamp() * 1000 == START_MS + 129_000
    silent = next(q for p in rule_queries() if (q := p.values[0]).name == "alert_missing_readings")
    assert len(query_influx(silent.flux, bucket="dashboards-large")) == 700 < MAX_SERIES


@pytest.mark.parametrize(
    ("after_ms", "value"),
    [(60_000, 1), (alerts.LOSS_SHOWN_S * 1000 - 1, 1), (alerts.LOSS_SHOWN_S * 1000, 0)],
)
def test_a_lost_session_is_reported_for_some_hours(
    query_influx: QueryInflux, after_ms: int, value: int
) -> None:
    """The last account of the bridge says when; the time of the evaluation decides."""
    stop_ms = SESSION_LOST_MS + after_ms
    (frame,) = query_influx(alerts.SESSION_LOST.flux, start_ms=START_MS, stop_ms=stop_ms)
    assert frame.fields[-1].labels == {"role": "bridge", "gateway": "site-bridge-1"}
    assert frame.fields[-1].values == [value]


def test_no_lost_session_before_the_loss(query_influx: QueryInflux) -> None:
    assert query_influx(alerts.SESSION_LOST.flux, stop_ms=SESSION_LOST_MS) == []


def test_evicted_records_are_counted_over_a_restart(query_influx: QueryInflux) -> None:
    """What was counted before the restart stays in the sum; the new process has evicted nothing."""
    assert query_influx(alerts.EVICTED_NEW.flux, stop_ms=EVICTED_MS)[0].fields[-1].values == [0]
    (frame,) = query_influx(alerts.EVICTED_NEW.flux)
    assert frame.fields[-1].labels == {"role": "bridge", "gateway": "site-bridge-1"}
    (count,) = frame.fields[-1].values
    assert 50 <= count <= (EVICTED_RESTART_MS - EVICTED_MS) // 1000


def test_a_range_of_the_past_is_answered_for_the_past(query_influx) -> None:
    early = rows(
        query_influx(devices.SILENT_DEVICES.flux, stop_ms=START_MS + 60_000, variables=EVERYTHING)
    )
    assert max(row["silent_s"] for row in early) <= 10

"""The layout of InfluxDB against the real one: made, kept, changed; its tasks make true hours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import mean

import pytest
from pydantic import SecretStr

from deploy.stack.servers import InfluxServer
from pipeline.errors import SinkMisconfigured
from pipeline.points.lines import to_line
from pipeline.points.points import Point, device_point, rollout_point
from pipeline.points.scores import points_of
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from pipeline.stores.influxlayout import (
    GRAFANA_TOKEN,
    STORE_TOKEN,
    Layout,
    rollup_flux,
    rollups,
    site_layout,
)
from pipeline.stores.influxsetup import aggregate, ensure_layout
from tests.pipeline.points.test_scores import ACTIVITY, FORECAST, RUL

HOUR_MS = 3_600_000


@pytest.fixture
def client(real_influx: InfluxServer) -> Iterator[InfluxClient]:
    """An operator's client in an organisation of its own, because it owns tasks and tokens."""
    org = f"org-{time.time_ns()}"
    real_influx.call("POST", "/api/v2/orgs", {"name": org})
    with connect(real_influx, org, real_influx.token) as client:
        yield client


def connect(server: InfluxServer, org: str, token: str) -> InfluxClient:
    return InfluxClient(InfluxConnection(server.url, SecretStr(token), org))


def deeds(client: InfluxClient, layout: Layout, **options: bool) -> dict[str, str]:
    ensured = ensure_layout(client, layout, **options)
    return {f"{c.what} {c.name}": c.action for c in ensured.changes}


def write(client: InfluxClient, bucket: str, points: list[Point]) -> None:
    answer = client.write(bucket, "\n".join(map(to_line, points)).encode())
    assert answer.status == 204, answer.text


def tasks_of(client: InfluxClient) -> list[dict[str, str]]:
    query = {"org": client.connection.org, "limit": "100"}
    return list(client.call("GET", "/tasks", query=query).json["tasks"])


def test_layout_is_made_once_and_then_kept(client: InfluxClient) -> None:
    layout = site_layout()
    planned = deeds(client, layout, dry_run=True)
    assert set(planned.values()) == {"created"}
    assert deeds(client, layout, dry_run=True) == planned, "a dry run does nothing"
    assert deeds(client, layout) == planned
    again = ensure_layout(client, layout)
    assert {c.action for c in again.changes} == {"kept"}
    assert not again.differs
    assert len(again.changes) == 2 + 2 * len(rollups()) + 2


def test_changed_parts_of_the_layout_are_restored(client: InfluxClient) -> None:
    ensure_layout(client, site_layout())
    kept = ensure_layout(client, site_layout()).tokens
    tasks = tasks_of(client)
    client.call("PATCH", f"/tasks/{tasks[0]['id']}", {"status": "inactive"})
    flux = tasks[1]["flux"].replace("aggregateWindow", "window").replace(", fn: mean", "")
    client.call("PATCH", f"/tasks/{tasks[1]['id']}", {"flux": flux})
    own = 'option task = {name: "somebody else\'s", every: 1h}\nbuckets()'
    org = client.call("GET", "/orgs").json["orgs"]
    org_id = next(o["id"] for o in org if o["name"] == client.connection.org)
    client.call("POST", "/tasks", {"orgID": org_id, "flux": own})
    changed = {k: v for k, v in deeds(client, site_layout()).items() if v != "kept"}
    assert changed == {f"task {tasks[0]['name']}": "changed", f"task {tasks[1]['name']}": "changed"}

    fewer = site_layout(aggregates=rollups()[:1])
    removed = [k for k, v in deeds(client, fewer).items() if v == "removed"]
    assert len(removed) == 2 * (len(rollups()) - 1)
    names = {task["name"] for task in tasks_of(client)}
    assert names == {"kpstream rul hourly", "kpstream rul daily", "somebody else's"}
    assert ensure_layout(client, fewer).tokens == kept, "tokens in use stay valid"


def test_a_shorter_retention_must_be_allowed(client: InfluxClient) -> None:
    deeds(client, site_layout(scores_days=30))
    assert deeds(client, site_layout(scores_days=60))["bucket kpstream"] == "changed"
    assert deeds(client, site_layout(scores_days=7))["bucket kpstream"] == "refused"
    assert deeds(client, site_layout(scores_days=7))["bucket kpstream"] == "refused"
    shorter = deeds(client, site_layout(scores_days=7), may_shorten=True)
    assert shorter["bucket kpstream"] == "changed"
    assert deeds(client, site_layout(scores_days=0))["bucket kpstream"] == "changed"
    assert deeds(client, site_layout(scores_days=0))["bucket kpstream"] == "kept"


def test_tokens_have_their_permissions_and_no_others(
    client: InfluxClient, real_influx: InfluxServer
) -> None:
    tokens = ensure_layout(client, site_layout()).tokens
    line = b"rul,site=s rul=1"
    read = 'from(bucket: "kpstream") |> range(start: -1h)'
    org = client.connection.org
    with connect(real_influx, org, tokens[STORE_TOKEN].get_secret_value()) as store:
        assert store.write("kpstream", line).status == 204
        assert store.write("kpstream-hourly", line).status == 403
        with pytest.raises(SinkMisconfigured, match="could not find bucket"):
            store.query(read)
    with connect(real_influx, org, tokens[GRAFANA_TOKEN].get_secret_value()) as grafana:
        assert len(grafana.query(read)) == 1
        assert {row["name"] for row in grafana.query("buckets()")} == {
            "kpstream",
            "kpstream-hourly",
        }
        assert grafana.write("kpstream", line).status == 403
        with pytest.raises(SinkMisconfigured, match="operator token"):
            ensure_layout(grafana, site_layout(scores_days=60))
    with (
        connect(real_influx, org, "no such token") as stranger,
        pytest.raises(SinkMisconfigured, match="operator token"),
    ):
        ensure_layout(stranger, site_layout())


def test_a_token_with_other_rights_is_replaced(client: InfluxClient) -> None:
    first = ensure_layout(client, site_layout()).tokens
    other = site_layout(hourly_bucket="elsewhere")
    second = ensure_layout(client, other).tokens
    assert second[STORE_TOKEN] == first[STORE_TOKEN]
    assert second[GRAFANA_TOKEN] != first[GRAFANA_TOKEN]
    found = client.call("GET", "/authorizations").json["authorizations"]
    ours = [a for a in found if a["org"] == client.connection.org]
    assert sorted(a["description"] for a in ours) == [GRAFANA_TOKEN, STORE_TOKEN]


def scores(hours: list[int]) -> tuple[list[Point], dict[tuple[str, int], list[float]]]:
    """Twenty RUL scores of two machines in each of the hours, and their hourly values."""
    records, expected = [], {}
    for hour_ms in hours:
        for device in ("press-1", "press-2"):
            values = [100.0 - i * 1.25 - (hour_ms // HOUR_MS) % 5 for i in range(20)]
            expected[device, hour_ms] = values
            records += [
                RUL
                | {"device": device, "rul": value, "rul_low": value - 3, "rul_high": value + 3}
                | {"end_ms": hour_ms + i * 60_000 + 1}
                for i, value in enumerate(values)
            ]
    return points_of(records), expected


def hours_of(
    client: InfluxClient, measurement: str, tag: str
) -> dict[tuple[str, int, str], object]:
    rows = client.query(
        'from(bucket: "kpstream-hourly") |> range(start: 0)'
        " |> filter(fn: (r) => r._measurement == measurement)",
        {"measurement": measurement},
    )
    return {
        (row[tag], round(row["_time"].timestamp() * 1000), row["_field"]): row["_value"]
        for row in rows
    }


def past_hour_ms() -> int:
    """The last full hour whose fifth minute has passed: a run for later would wait until then."""
    return (time.time_ns() // 10**6 - 330_000) // HOUR_MS * HOUR_MS


def run_task(client: InfluxClient, name: str, at_ms: int) -> None:
    """Let InfluxDB run a task as if it were `at_ms`, and wait until it has."""
    (task,) = (task for task in tasks_of(client) if task["name"] == name)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))
    path = f"/tasks/{task['id']}/runs"
    run = client.call("POST", path, {"scheduledFor": when}).json
    deadline = time.monotonic() + 30
    while True:
        state = client.call("GET", f"{path}/{run['id']}").json
        if state.get("status") == "success":
            return
        # Between the end of a run and its entry in the history there is no such run.
        failed = state.get("status", "started") not in ("scheduled", "started")
        assert not failed, client.call("GET", f"{path}/{run['id']}/logs").text
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def test_tasks_make_true_hours_and_only_whole_ones(client: InfluxClient) -> None:
    ensure_layout(client, site_layout())
    now_ms = past_hour_ms()
    hours = [now_ms - n * HOUR_MS for n in (30, 3, 2, 1)]
    points, expected = scores([*hours, now_ms])
    write(client, "kpstream", points)
    run_task(client, "kpstream rul hourly", now_ms)
    found = hours_of(client, "rul_hourly", "device")
    assert {hour for _, hour, _ in found} == set(hours[1:]), "three hours, not the one that runs"
    run_task(client, "kpstream rul daily", now_ms)
    found = hours_of(client, "rul_hourly", "device")
    assert {hour for _, hour, _ in found} == set(hours), "and all of the last three days once a day"
    for (device, hour), values in expected.items():
        if hour == now_ms:
            continue
        assert found[device, hour, "rul_mean"] == pytest.approx(mean(values))
        of = {field: found[device, hour, field] for _, _, field in found}
        assert of == {
            "rul_mean": of["rul_mean"],
            "rul_min": min(values),
            "rul_max": max(values),
            "rul_last": values[-1],
            "rul_low_min": min(values) - 3,
            "rul_high_max": max(values) + 3,
            "windows": len(values),
        }
    run_task(client, "kpstream rul daily", now_ms)
    assert hours_of(client, "rul_hourly", "device") == found, "made again, nothing is doubled"


def test_every_task_makes_hours(client: InfluxClient) -> None:
    layout = site_layout()
    ensure_layout(client, layout)
    hour = past_hour_ms() - HOUR_MS
    labels = ["WALKING"] * 3 + ["SITTING"] * 7
    records = [
        ACTIVITY | {"activity": label, "end_ms": hour + i * 1000} for i, label in enumerate(labels)
    ]
    points = points_of(records)
    points += [
        device_point("plant-7", "press-2", "engine", {"received": 10 * i, "windows": i}, hour + i)
        for i in range(1, 6)
    ]
    mark = rollout_point("gw", "rul-fd001", "engine", "swapped", 4, "v3 -> v4", hour + 77)
    write(client, "kpstream", [*points, mark])
    for task in layout.tasks:
        if task.name.endswith("hourly"):
            run_task(client, task.name, hour + HOUR_MS)
    assert hours_of(client, "activity_hourly", "activity") == {
        ("WALKING", hour, "windows"): 3,
        ("SITTING", hour, "windows"): 7,
    }
    assert hours_of(client, "device_hourly", "device") == {
        ("press-2", hour, "received"): 50,
        ("press-2", hour, "windows"): 5,
    }
    assert hours_of(client, "rollout", "model") == {
        ("rul-fd001", hour + 77, "version"): 4,
        ("rul-fd001", hour + 77, "text"): "v3 -> v4",
    }


def test_hours_of_a_forecast_are_its_anomalies_error_and_coverage(client: InfluxClient) -> None:
    ensure_layout(client, site_layout())
    hour = past_hour_ms() - HOUR_MS
    windows = [(0.25, 0, 0.5, 1.0), (0.75, 0, 0.75, 0.75), (0.995, 1, 2.0, 0.25)]
    records = [
        FORECAST
        | {"score": score, "alarm": alarm, "mae": mae, "covered": covered}
        | {"end_ms": hour + minute * 60_000 + 1}
        for minute, (score, alarm, mae, covered) in enumerate(windows)
    ]
    write(client, "kpstream", points_of(records))
    run_task(client, "kpstream anomaly hourly", hour + HOUR_MS)
    assert hours_of(client, "anomaly_hourly", "device") == {
        ("press-2", hour, "score_max"): 0.995,
        ("press-2", hour, "alarm_share"): pytest.approx(1 / 3),
        ("press-2", hour, "mae_mean"): pytest.approx(3.25 / 3),
        ("press-2", hour, "covered_mean"): pytest.approx(2 / 3),
        ("press-2", hour, "windows"): 3,
    }
    assert hours_of(client, "forecast", "device") == {}, "details have no hours"


def test_retention_keeps_a_forecast_of_the_future_and_refuses_an_old_one(
    client: InfluxClient,
) -> None:
    """A forecast of a week ahead is stored; one that is older than the bucket keeps is not."""
    ensure_layout(client, site_layout(scores_days=3))
    now_ms = time.time_ns() // 10**6
    week = {"OT": {str(7 * 24): [1.0, 2.0, 3.0]}}
    record = FORECAST | {"step_ms": HOUR_MS, "forecast": week, "actual": {"OT": 2.0}}
    write(client, "kpstream", points_of([record | {"end_ms": now_ms}]))
    rows = client.query(
        'from(bucket: "kpstream") |> range(start: -1h, stop: 30d)'
        ' |> filter(fn: (r) => r._measurement == "forecast" and r._field == "p50")'
    )
    assert [(row["lead"], row["_value"]) for row in rows] == [("168", 2.0)]
    assert round(rows[0]["_time"].timestamp() * 1000) == now_ms + 168 * HOUR_MS
    old = points_of([record | {"end_ms": now_ms - 4 * 24 * HOUR_MS}])
    score, came, ahead = (to_line(point).encode() for point in old)
    for line in (score, came):
        answer = client.write("kpstream", line)
        assert answer.status == 422
        assert "retention policy" in answer.text
    assert client.write("kpstream", ahead).status == 204, "it is about a time that is kept"


def test_hours_of_long_ago_can_be_computed_on_demand(client: InfluxClient) -> None:
    layout = site_layout(scores_days=0, hourly_days=0)
    ensure_layout(client, layout)
    first = 1_700_000_000_000 // HOUR_MS * HOUR_MS
    hours = [first + n * HOUR_MS for n in (0, 1, 23, 24, 49)]
    points, expected = scores(hours)
    write(client, "kpstream", points)
    aggregate(client, layout, first + 5, first + 49 * HOUR_MS + 5)
    found = hours_of(client, "rul_hourly", "device")
    assert {hour for _, hour, _ in found} == set(hours)
    for (device, hour), values in expected.items():
        assert found[device, hour, "rul_last"] == values[-1]
        assert found[device, hour, "windows"] == len(values)


def test_flux_names_only_what_is_in_the_table_of_measurements() -> None:
    for rollup in rollups():
        flux = rollup_flux(rollup, "a", "b", "source", 'tar"get')
        assert flux.count("|> to(") == flux.count("|> yield(") == len(rollup.parts)
        assert '"tar\\"get"' in flux

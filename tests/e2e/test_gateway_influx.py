"""A gateway with the real InfluxDB: the points of its results file, its account, true hours."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy.stack.servers import InfluxServer
from pipeline.console.queries import all_points
from pipeline.stores.influxclient import InfluxClient
from pipeline.stores.influxlayout import STORE_TOKEN, site_layout
from pipeline.stores.influxsetup import aggregate, ensure_layout
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import NumberedDevices
from tests.e2e.plant import Plant
from tests.pipeline.stores.test_influxsetup import HOUR_MS, connect, hours_of

pytestmark = [pytest.mark.needs_influxd, pytest.mark.needs_mosquitto, pytest.mark.slow]


def test_influxdb_holds_what_the_gateway_holds_after_an_outage(tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as server:
        server.setup("kpstream", "first")
        with connect(server, "kpstream", server.token) as client:
            _outage_and_account(tmp_path / "plant", server, client)


def _outage_and_account(folder: Path, server: InfluxServer, client: InfluxClient) -> None:
    token = ensure_layout(client, site_layout()).tokens[STORE_TOKEN]
    settings = {
        "KPSTREAM_PIPELINE_INFLUX_URL": server.url,
        "KPSTREAM_PIPELINE_INFLUX_TOKEN": token.get_secret_value(),
        "KPSTREAM_GATEWAY_NAME": "gw-7",
        "KPSTREAM_GATEWAY_ACCOUNT_MS": "500",
    }

    def count() -> int:
        rows = client.query(
            'from(bucket: "kpstream") |> range(start: -1d) |> filter(fn: (r) =>'
            ' r._measurement == "activity" and r._field == "version") |> group() |> count()'
        )
        return sum(row["_value"] for row in rows)

    with Plant(folder, broker_kind="mosquitto", **settings) as plant:
        fleet = NumberedDevices(plant.broker.port, devices=5)
        fleet.start()
        plant.wait_until(lambda: count() > 20, "the first scores in InfluxDB")
        server.kill()
        stored = plant.totals()["stored"]
        plant.wait_until(lambda: plant.totals()["stored"] > stored + 40, "scored without it")
        parts = plant.get("health") or {}
        assert "cannot be reached" in parts["parts"]["store-influx"]
        server.start()
        fleet.stop()
        windows = sum((total - 128) // 64 + 1 for total in fleet.published.values())
        plant.wait_until(lambda: count() == windows, "everything in InfluxDB")
        totals = plant.totals()
        device = 'r._measurement == "device" and r._field == "windowed"'
        plant.wait_until(
            lambda: sum(last(client, device).values()) == totals["windowed"], "its account"
        )
        assert plant.stop_gateway() == 0
        results = ResultsFile(plant.results_path, read_only=True)
        try:
            expected = {_key(point): point for point in all_points(results, "activity")}
        finally:
            results.close()

    rows = client.query(
        'from(bucket: "kpstream") |> range(start: -1d) |> filter(fn: (r) => r._measurement =='
        ' "activity")'
    )
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        end_ms = round(row["_time"].timestamp() * 1000)
        found.setdefault((row["device"], end_ms), {})[row["_field"]] = row["_value"]
    assert found.keys() == expected.keys()
    for key, fields in found.items():
        assert fields == {name: expected[key][name] for name in fields}, key
        assert len(fields) == 17, "activity, probability, six classes, nine of a resampled score"
    gateway = last(client, 'r._measurement == "gateway" and r.role == "gateway"', "_field")
    assert (gateway["scored"], gateway["alive"]) == (windows, 1)
    assert {row["gateway"] for row in client.query(GATEWAYS)} == {"gw-7"}

    hours = Counter(
        (fields["activity"], end_ms // HOUR_MS * HOUR_MS, "windows")
        for (_, end_ms), fields in found.items()
    )
    # The tasks' own Flux, for the hour that still runs: they would wait for its end.
    now_ms = time.time_ns() // 10**6
    aggregate(client, site_layout(), now_ms - HOUR_MS, now_ms)
    summed: Counter[Any] = Counter()
    for row in client.query(
        'from(bucket: "kpstream-hourly") |> range(start: -2h)'
        ' |> filter(fn: (r) => r._measurement == "activity_hourly")'
    ):
        at_ms = round(row["_time"].timestamp() * 1000)
        summed[row["activity"], at_ms, row["_field"]] += row["_value"]
    assert summed == hours
    assert hours_of(client, "activity_hourly", "device"), "by device, too"


GATEWAYS = 'from(bucket: "kpstream") |> range(start: -1d) |> filter(fn: (r) => exists r.gateway)'


def last(client: InfluxClient, condition: str, by: str = "device") -> dict[str, Any]:
    rows = client.query(
        f'from(bucket: "kpstream") |> range(start: -1d) |> filter(fn: (r) => {condition}) |> last()'
    )
    return {row[by]: row["_value"] for row in rows}


def _key(point: dict[str, Any]) -> tuple[str, int]:
    return point["device"], point["end_ms"]

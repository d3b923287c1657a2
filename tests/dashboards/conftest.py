"""Points of a simulated site, InfluxDB with these points, and a stand-in for Grafana."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from deploy.stack.servers import InfluxServer
from pipeline.points.labels import label_point
from pipeline.points.points import Point
from pipeline.points.scores import ScoreRecord, points_of
from pipeline.stores.influxlayout import rollup_flux, rollups
from tests.dashboards.simulated_forecasts import explanations_of, forecast_records
from tests.dashboards.simulated_labels import site_labels
from tests.dashboards.simulated_site import START_MS, STOP_MS, SimulatedSite
from tests.fakes.grafana import FakeGrafana
from tests.fakes.grafana_flux import Frame, interpolate, send_query
from tests.fakes.influx import sink_at

SCORES, HOURS = "dashboards-scores", "dashboards-hours"
DAY_MS = 86_400_000

StorePoints = Callable[[str, Sequence[Point]], None]
QueryInflux = Callable[..., list[Frame]]
"""Sends a query as Grafana does: `query_influx(flux, start_ms=, stop_ms=, variables=)`."""


@pytest.fixture(scope="session")
def forecasts(tmp_path_factory: pytest.TempPathFactory) -> list[ScoreRecord]:
    """Score records of the transformers of the simulated site."""
    return forecast_records(tmp_path_factory.mktemp("forecasts"), START_MS, STOP_MS)


@pytest.fixture(scope="session")
def site_points(
    tmp_path_factory: pytest.TempPathFactory, forecasts: list[ScoreRecord]
) -> list[Point]:
    """All points of the simulated site."""
    points = SimulatedSite(tmp_path_factory.mktemp("site")).run()
    labels = [label_point(record) for record in site_labels()]
    return points + points_of(forecasts) + explanations_of(forecasts) + labels


@pytest.fixture(scope="session")
def store_points(real_influx: InfluxServer) -> StorePoints:
    """`store_points(bucket, points)` creates a bucket with these points."""
    org_id = real_influx.call("GET", f"/api/v2/orgs?org={real_influx.org}")["orgs"][0]["id"]

    def store(bucket: str, points: Sequence[Point]) -> None:
        bucket_request = {"name": bucket, "orgID": org_id, "retentionRules": []}
        real_influx.call("POST", "/api/v2/buckets", bucket_request)
        sink = sink_at(real_influx.url, real_influx.token, real_influx.org, bucket)
        assert sink.write(points) == []
        sink.close()

    return store


@pytest.fixture(scope="session")
def query_influx(
    real_influx: InfluxServer, store_points: StorePoints, site_points: list[Point]
) -> QueryInflux:
    """Queries an InfluxDB that holds the points of the simulated site and their hours."""

    def send(
        flux: str,
        *,
        start_ms: int = START_MS,
        stop_ms: int = STOP_MS,
        step_ms: int = 10_000,
        bucket: str = SCORES,
        variables: dict[str, list[str] | str] | None = None,
    ) -> list[Frame]:
        filled = interpolate(
            flux,
            start_ms=start_ms,
            stop_ms=stop_ms,
            step_ms=step_ms,
            bucket=bucket,
            variables=variables,
        )
        return send_query(real_influx.url, real_influx.token, real_influx.org, filled)

    store_points(SCORES, site_points)
    store_points(HOURS, [])
    hours = ("2025-12-31T01:00:00Z", "2026-01-01T01:00:00Z")
    for rollup in rollups():
        send(rollup_flux(rollup, *hours, SCORES, HOURS))
    return send


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    """The stand-in; the test fails if a request was not as documented."""
    with FakeGrafana() as server:
        yield server
    assert server.flaws == []


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings of the environment in which the tests run."""
    for name in list(os.environ):
        if name.startswith("KPSTREAM_GRAFANA_"):
            monkeypatch.delenv(name)

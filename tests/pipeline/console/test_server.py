"""The console's server: its API, /health, /ready, /metrics, and refused hosts."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.console.metrics import MOST_DEVICES, DeviceSeries, exposition
from pipeline.console.server import Console, create_console
from pipeline.errors import ConsoleError
from pipeline.points.points import Point
from pipeline.status.counters import DeviceAccount
from pipeline.status.view import GatewayView, Measure
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.log import until
from tests.fakes.view import LABELS, FakeView, fill

NOW_MS = 1_800_000_000_000
WEB = Path(__file__).parents[3] / "pipeline" / "console" / "web"
PAGE_FILES = sorted(path for path in WEB.rglob("*") if path.is_file())


@dataclass
class Site:
    """A running console with its view and results file."""

    console: Console
    view: FakeView
    results: ResultsFile
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        answer = await self.session.get(self.console.url.rstrip("/") + path, headers=headers)
        await answer.read()
        return answer

    async def page(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status == 200, await answer.text()
        return await answer.json()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    fill(results, NOW_MS, minutes=3)
    view = FakeView.fleet(NOW_MS)
    console = create_console(
        view,
        results,
        port=0,
        allowed_hosts=["gateway.plant"],
        now_ms=lambda: view.now_ms,
        steady_ms=lambda: view.now_ms,
    )
    await console.start()
    async with aiohttp.ClientSession() as session:
        yield Site(console, view, results, session)
    await console.stop()
    await console.stop()
    results.close()


async def test_the_fleet_page_lists_every_device_once(site: Site) -> None:
    page = await site.page("/api/v1/fleet")
    devices = {d["device"]: d for d in page["devices"]}
    assert len(devices) == len(page["devices"]) == 14
    engine = devices["engine-03"]
    assert (engine["task"], engine["unit"], engine["version"]) == ("rul", "cycles", 2)
    assert engine["rul"]["low"] < engine["rul"]["value"] < engine["rul"]["high"]
    assert engine["rul"]["trend"][-1][1] == engine["rul"]["value"]
    assert 30 <= len(engine["rul"]["trend"]) <= 60
    assert engine["account"]["missing"] == 0
    anna = devices["anna"]["activity"]
    assert anna["label"] in LABELS
    assert sum(anna["probabilities"].values()) == pytest.approx(1)
    assert anna["runs"][-1][1] == anna["until_ms"]
    assert page["labels"] == list(LABELS)
    assert "rul" not in devices["engine-09"]
    assert devices["engine-09"]["account"]["windowed"] == 12


async def test_a_device_page_shows_series_versions_and_runs(site: Site) -> None:
    page = await site.page("/api/v1/devices/plant-1/engine-03/engine?span_ms=120000")
    assert page["since_ms"] == page["until_ms"] - 119_999
    assert [version for _, version in page["versions"]] == [1, 2]
    times = [row[0] for row in page["series"]]
    assert times == sorted(times)
    assert len(times) == 120
    assert page["series"][-1][1] == page["device"]["rul"]["value"]
    whole = await site.page("/api/v1/devices/plant-1/engine-03/engine")
    assert len(whole["series"]) == 180
    person = await site.page("/api/v1/devices/lab/anna/imu?span_ms=60000")
    runs = person["device"]["activity"]["runs"]
    assert all(a[1] <= b[0] for a, b in pairwise(runs))


async def test_a_device_without_a_score_and_an_unknown_one(site: Site) -> None:
    page = await site.page("/api/v1/devices/plant-1/engine-09/engine")
    assert "series" not in page
    assert (await site.get("/api/v1/devices/plant-1/nobody/engine")).status == 404


@pytest.mark.parametrize("span", ["0", "-5", "1.5", "x", "9" * 20, "٣"])
async def test_a_span_that_is_no_number_is_refused(site: Site, span: str) -> None:
    answer = await site.get(f"/api/v1/devices/lab/anna/imu?span_ms={span}")
    assert answer.status == 400
    assert "span_ms" in (await answer.json())["error"]


async def test_the_pipeline_page_shows_the_account_and_marks_what_stalls(site: Site) -> None:
    page = await site.page("/api/v1/pipeline")
    totals = page["totals"]
    assert totals["missing"] == 0
    assert totals["dead_letters"]["not_json"] == 41
    assert page["results"]["points"]["rul"] == 8 * 180
    assert page["history"][0]["taken"] == totals["taken"]
    assert not any(p["stalled"] for p in page["partitions"])
    site.view.now_ms += 60_000
    site.view.accounts[0] = replace(site.view.accounts[0], received=10**6)
    page = await site.page("/api/v1/pipeline")
    assert sum(p["stalled"] for p in page["partitions"]) == 3
    assert page["unbalanced"] == ["plant-1/engine-01/engine"]


async def test_the_models_page_shows_lineage_and_refusals(site: Site) -> None:
    rul, har = (await site.page("/api/v1/models"))["models"]
    assert (rul["version"], rul["refused_version"]) == (2, 3)
    assert "damaged" in rul["refused_error"]
    assert har["lineage"]["teacher"] == "all-MiniLM-L6-v2"


async def test_health_and_ready_differ(site: Site) -> None:
    assert (await site.get("/health")).status == 200
    assert (await site.get("/ready")).status == 200
    site.view.connected = False
    assert (await site.get("/health")).status == 200
    answer = await site.get("/ready")
    assert answer.status == 503
    assert "broker" in (await answer.json())["problems"][0]


async def test_a_notice_does_not_make_the_gateway_unready(site: Site) -> None:
    site.view.notices = ("the broker keeps our session for 1 day, asked for 7 days",)
    answer = await site.get("/ready")
    assert answer.status == 200
    assert (await answer.json())["notices"] == list(site.view.notices)


async def test_an_unchanged_page_is_304_and_a_changed_one_is_not(site: Site) -> None:
    first = await site.get("/api/v1/fleet")
    assert int(first.headers["X-Now-Ms"]) == NOW_MS
    again = await site.get("/api/v1/fleet", **{"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    site.view.advance(2_000)
    third = await site.get("/api/v1/fleet", **{"If-None-Match": first.headers["ETag"]})
    assert third.status == 200


async def test_many_open_pages_cost_one_query(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    select = site.results.select
    monkeypatch.setattr(site.results, "select", lambda *a: asked.append(a) or select(*a))
    await site.get("/api/v1/fleet")
    once = len(asked)
    await asyncio.gather(*(site.get("/api/v1/fleet") for _ in range(20)))
    assert len(asked) == once


async def test_metrics_are_prometheus_text(site: Site) -> None:
    answer = await site.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(await answer.text())
        for s in family.samples
    }
    device = (("device", "anna"), ("site", "lab"), ("stream", "imu"))
    assert samples[("kpstream_readings_received_total", *device)] == 36_000
    assert samples["kpstream_dead_letters_total", ("reason", "not_json")] == 41
    assert samples["kpstream_latency_seconds", ("origin", "sensor"), ("quantile", "0.99")] == 0.074
    assert samples[("kpstream_unbalanced_readings",)] == 0
    assert samples[("kpstream_ready",)] == 1


async def test_metrics_are_built_outside_the_event_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def build(view: GatewayView, more: Sequence[Measure], series: DeviceSeries) -> bytes:
        threads.append(threading.current_thread().name)
        return exposition(view, more, series)

    monkeypatch.setattr("pipeline.console.server.exposition", build)
    assert (await site.get("/metrics")).status == 200
    assert [name[:15] for name in threads] == ["console-metrics"]


async def test_a_large_fleet_has_series_for_some_and_one_for_the_others(site: Site) -> None:
    one = DeviceAccount("plant-2", "e", "engine", received=5, windowed=4, late=1)
    accounts = [replace(one, device=f"e{i}") for i in range(MOST_DEVICES)]
    accounts.append(replace(one, device="busy", received=50))
    site.view.accounts[:] = accounts
    text = await (await site.get("/metrics")).text()
    assert f"kpstream_device_streams {len(accounts)}.0" in text
    assert f'kpstream_fleet_readings_total{{outcome="late"}} {len(accounts)}.0' in text
    late = re.findall(r'^kpstream_readings_late_total\{device="(.*?)",.*\} (.*)$', text, re.M)
    assert len(late) == MOST_DEVICES + 1
    assert late[-1] == ("other", "1.0")
    assert ("busy", "1.0") in late


async def test_a_scrape_does_not_wait_for_pages(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_up = threading.Event()
    select = site.results.select
    monkeypatch.setattr(site.results, "select", lambda *a: open_up.wait(60) and select(*a))
    fleet = asyncio.ensure_future(site.get("/api/v1/fleet"))
    await asyncio.sleep(0.05)
    assert (await site.get("/metrics")).status == 200
    assert not fleet.done()
    open_up.set()
    assert (await fleet).status == 200


async def test_more_pages_than_can_be_built_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_up = threading.Event()
    select = site.results.select
    monkeypatch.setattr(site.results, "select", lambda *a: open_up.wait(60) and select(*a))
    where = "/api/v1/devices/lab/anna/imu?span_ms="
    asked = [asyncio.ensure_future(site.get(f"{where}{i}")) for i in range(1, 41)]
    await until(lambda: sum(each.done() for each in asked) == 24)
    open_up.set()
    statuses = [(await each).status for each in asked]
    assert (statuses.count(200), statuses.count(429)) == (16, 24)
    assert (await site.get(f"{where}99")).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""]
)
async def test_other_host_names_are_refused_everywhere(site: Site, host: str) -> None:
    for path in ("/", "/api/v1/fleet", "/metrics", "/web/app.js", "/nothing"):
        answer = await site.get(path, Host=host)
        assert answer.status in {400, 403}
        assert "engine" not in await answer.text()


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "[::1]:80", "gateway.plant:8765"])
async def test_loopback_and_configured_names_are_answered(site: Site, host: str) -> None:
    assert (await site.get("/api/v1/models", Host=host)).status == 200


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/api/v1/fleet", "/nothing", "/ready"])
async def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    headers = (await site.get(path)).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/web/..%2fconsole.py",
        "/web/%2e%2e/console.py",
        "/web/",
        "/web/cards",
        "/web/cards/",
        "/web/nothing.js",
        "/etc",
    ],
)
async def test_only_the_pages_own_files_are_served(site: Site, path: str) -> None:
    answer = await site.get(path)
    assert answer.status == 404
    assert (await answer.json())["error"]


async def test_nothing_but_get_is_answered(site: Site) -> None:
    answer = await site.session.post(site.console.url + "api/v1/fleet", json={})
    assert answer.status == 405


async def test_static_files_have_their_types_and_tags(site: Site) -> None:
    for path in PAGE_FILES:
        where = f"/web/{path.relative_to(WEB).as_posix()}"
        answer = await site.get(where)
        assert answer.status == 200
        again = await site.get(where, **{"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script() -> None:
    for path in PAGE_FILES:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]", text), path
        assert "innerHTML" not in text, path
    html = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", html)


async def test_a_damaged_results_file_is_a_503_with_the_reason(site: Site) -> None:
    site.results.close()
    answer = await site.get("/api/v1/fleet")
    assert answer.status == 503
    assert "closed" in (await answer.json())["error"]
    assert (await site.get("/api/v1/models")).status == 200


async def test_a_view_that_fails_is_a_500_without_details(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.view.accounts = None  # type: ignore[assignment]
    answer = await site.get("/api/v1/fleet")
    assert answer.status == 500
    assert "log" in (await answer.json())["error"]
    assert "NoneType" not in await answer.text()
    assert "could not answer /api/v1/fleet" in caplog.text


async def test_labels_are_always_data(site: Site) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    tags = (("site", "lab"), ("device", "anna"), ("stream", "imu"), ("model", "har-uci"))
    site.results.write([Point("activity", tags, (("activity", hostile),), NOW_MS * 10**6)])
    page = await site.page("/api/v1/fleet")
    assert page["labels"][-1] == hostile


async def test_a_port_in_use_says_what_to_change(site: Site) -> None:
    other = create_console(site.view, site.results, port=site.console.port)
    with pytest.raises(ConsoleError, match="choose another port"):
        await other.start()
    await other.stop()


async def test_an_empty_gateway_has_pages_too(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "r.db")
    console = create_console(FakeView(NOW_MS), results, port=0)
    await console.start()
    async with aiohttp.ClientSession() as session:
        for page in ("fleet", "pipeline", "models"):
            async with session.get(f"{console.url}api/v1/{page}") as answer:
                assert answer.status == 200
        async with session.get(f"{console.url}metrics") as answer:
            assert answer.status == 200
    await console.stop()
    results.close()


async def test_a_fleet_is_served_in_pages_of_a_bounded_size(site: Site) -> None:
    site.view.accounts += [
        DeviceAccount("plant-2", f"e{i:03d}", "engine", received=5, windowed=5) for i in range(200)
    ]
    seen: list[str] = []
    cursor, sizes = "", []
    while cursor is not None:
        page = await site.page(f"/api/v1/fleet?limit=100&sort=name&cursor={cursor}")
        seen += [device["device"] for device in page["devices"]]
        sizes.append(len(page["devices"]))
        assert page["matching"] == page["overview"]["devices"] == 214
        cursor = page["next"]
    assert sizes == [100, 100, 14]
    assert len(set(seen)) == len(seen) == 214
    found = await site.page("/api/v1/fleet?search=E01&state=waiting")
    assert [device["device"] for device in found["devices"]] == [f"e{i:03d}" for i in range(10, 20)]
    assert found["overview"]["devices"] == 214


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=9999999999999999999",
        "limit=x",
        "state=asleep",
        "sort=place",
        "subject=pump",
        "per_section=0",
        "per_section=101",
        "sort=name&per_section=5",
        "cursor=x",
        "cursor=%D9%A3",
        "sort=name&cursor=WzFd",
        "search=" + "x" * 201,
    ],
)
async def test_an_invalid_query_of_the_fleet_is_refused_by_name(site: Site, query: str) -> None:
    answer = await site.get(f"/api/v1/fleet?{query}")
    assert answer.status == 400
    name = query.rpartition("&")[2].partition("=")[0]
    assert (await answer.json())["error"].startswith(name)


@pytest.mark.parametrize("step_ms", [-120_000, 40 * 86_400_000])
async def test_a_clock_that_was_set_freezes_no_page_and_no_metric(
    tmp_path: Path, step_ms: int
) -> None:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    view, times = FakeView.fleet(NOW_MS), {"now": NOW_MS, "steady": 0}
    console = create_console(
        view,
        results,
        port=0,
        now_ms=lambda: times["now"],
        steady_ms=lambda: times["steady"],
    )
    await console.start()
    try:
        async with aiohttp.ClientSession() as session:
            site = Site(console, view, results, session)

            async def received() -> tuple[int, str]:
                page = await site.page("/api/v1/pipeline")
                metrics = await (await site.get("/metrics")).text()
                return page["totals"]["received"], metrics

            before = await received()
            times["now"] += step_ms
            times["steady"] += 60_000
            view.advance(60_000)
            after = await received()
            assert after[0] > before[0]
            assert after[1] != before[1]
            page = await site.get("/api/v1/pipeline")
            assert int(page.headers["X-Now-Ms"]) == NOW_MS + step_ms
    finally:
        await console.stop()
        results.close()

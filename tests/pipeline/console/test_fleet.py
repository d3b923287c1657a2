"""Pages of the fleet: order, search, cursors that survive changes, and the overview."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.console.fleet import Fleet, FleetQuery
from pipeline.console.pages import PageSettings
from pipeline.console.queries import latest
from pipeline.points.points import Point
from pipeline.status.counters import DeviceAccount
from pipeline.status.view import ModelStatus
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.duecases import DUE_CASES
from tests.fakes.transformers import add_transformers
from tests.fakes.view import PEOPLE, FakeView, fill

NOW_MS = 1_800_000_000_000


class Site:
    """A fleet with its view; every page has a fresh index unless the clock is held."""

    def __init__(self, results: ResultsFile) -> None:
        self.results = results
        self.view = FakeView.fleet(NOW_MS)
        self.now_s = 0.0
        self.step_s = 0.0
        self.fleet = Fleet(results, PageSettings(), clock=self._clock)

    def _clock(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    def page(self, **query: Any) -> dict[str, Any]:
        text = {name: str(value) for name, value in query.items() if value is not None}
        return self.fleet.page(self.view, FleetQuery.parse(text), self.view.now_ms)

    def names(self, **query: Any) -> list[str]:
        return [entry["device"] for entry in self.page(**query)["devices"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    fill(results, NOW_MS, minutes=2)
    yield Site(results)
    results.close()


def test_a_silent_machine_near_failure_stays_above_healthy_ones(site: Site) -> None:
    """An engine that ran until it was critical and then stopped is the first to be looked at."""
    heard = {a.device: a.last_recv_ms for a in site.view.accounts}
    critical = site.names(task="rul")[0]
    site.view.accounts = [
        replace(a, last_recv_ms=NOW_MS - 3_600_000) if a.device == critical else a
        for a in site.view.accounts
    ]
    assert heard[critical] > NOW_MS - 60_000
    assert site.names(state="stale", task="rul") == [critical, "engine-06"]
    assert site.names(task="rul")[0] == critical
    assert site.names(task="rul")[-1] == "engine-06"  # it was healthy when it fell silent


def test_the_most_urgent_comes_first_and_the_stale_last(site: Site) -> None:
    engines = site.names(task="rul")
    assert engines[:3] == ["engine-02", "engine-03", "engine-07"]
    assert engines[-2:] == ["engine-09", "engine-06"]  # without a score; stale
    assert site.names()[:3] == engines[:3]
    assert site.names(sort="name")[:5] == list(PEOPLE)
    assert site.names(state="stale") == ["engine-06", "dmitri"]
    assert site.names(state="waiting") == ["engine-09"]
    assert "engine-06" not in site.names(state="live")


def test_a_machine_is_critical_by_the_lower_end_of_its_interval(site: Site) -> None:
    before = site.page()["overview"]["tasks"]["rul"]["critical"]
    fields = (("rul", 31.0), ("rul_low", 12.0), ("rul_high", 50.0), ("version", 1))
    tags = (("site", "plant-1"), ("device", "engine-99"), ("stream", "engine"), ("model", "m"))
    site.results.write([Point("rul", tags, fields, NOW_MS * 1_000_000)])
    page = site.page(task="rul", limit=3)
    assert page["overview"]["tasks"]["rul"]["critical"] == before + 1
    assert "engine-99" in [entry["device"] for entry in page["devices"]]


def test_a_doubtful_machine_is_critical_as_the_alerts_say(site: Site) -> None:
    before = site.page()["overview"]["tasks"]["rul"]
    site.results.write([case.point(NOW_MS) for case in DUE_CASES])
    found = site.page()["overview"]["tasks"]["rul"]
    due = {case.device for case in DUE_CASES if case.is_due}
    assert found["critical"] == before["critical"] + len(due)
    doubtful = [case for case in DUE_CASES if case.quality not in (None, "good")]
    assert found["doubtful"] == before["doubtful"] + len(doubtful)
    assert set(site.names(search="hall/")[: len(due)]) == due
    assert found["lowest"][0] == 5.0  # nonsense of doubtful scores is no lowest value


def test_search_looks_into_site_device_and_stream_in_any_case(site: Site) -> None:
    assert site.names(search="ENGINE-0", limit=3) == ["engine-02", "engine-03", "engine-07"]
    assert site.names(search="lab/") == ["anna", "bo", "carla", "emre", "dmitri"]
    assert set(site.names(search="/imu")) == set(PEOPLE)
    assert site.names(search="%") == site.names(search="nobody") == []


@pytest.mark.parametrize("sort", ["urgent", "site", "name"])
@pytest.mark.parametrize("limit", [1, 4, 13])
def test_pages_follow_each_other_without_gap_or_overlap(site: Site, sort: str, limit: int) -> None:
    whole = site.names(sort=sort)
    cursor, seen = None, []
    while True:
        page = site.page(sort=sort, limit=limit, cursor=cursor)
        assert page["first"] == len(seen)
        assert (page["matching"], sum(page["counts"].values())) == (14, 14)
        seen += [entry["device"] for entry in page["devices"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == whole


def test_a_first_look_has_the_most_urgent_of_each_section(site: Site) -> None:
    add_transformers(site.view, site.results, NOW_MS, hours=6)
    page = site.page(per_section=2)
    assert page["sections"] == [
        {"task": "rul", "subject": "machine", "matching": 9},
        {"task": "activity", "subject": "person", "matching": 5},
        {"task": "forecast", "subject": "machine", "matching": 3},
    ]
    assert [d["device"] for d in page["devices"]][:4] == ["engine-02", "engine-03", "anna", "bo"]
    assert (len(page["devices"]), page["next"], page["matching"]) == (6, None, 17)
    assert len(site.page(per_section=100)["devices"]) == 17


def test_states_of_machines_are_no_activities_of_people(site: Site) -> None:
    model = ModelStatus("m", "activity", "press", 1, subject="machine", labels=("idle", "cutting"))
    site.view.students.append(model)
    tags = (("site", "plant-1"), ("device", "press"), ("stream", "press"), ("model", "m"))
    fields = (("activity", "idle"), ("probability", 0.9), ("version", 1))
    site.results.write([Point("activity", tags, fields, NOW_MS * 1_000_000)])
    page = site.page()
    assert {"task": "activity", "subject": "machine", "matching": 1} in page["sections"]
    assert {"task": "activity", "subject": "person", "matching": 5} in page["sections"]
    assert site.names(task="activity", subject="machine") == ["press"]
    assert set(site.names(subject="person")) == set(PEOPLE)
    site.view.students.remove(model)  # its scores remain, and then the task says who it is
    assert "press" in site.names(subject="person")


def test_the_order_by_site_keeps_the_urgent_first_within_a_site(site: Site) -> None:
    fields = (("rul", 3.0), ("rul_low", 1.0), ("rul_high", 5.0), ("version", 1))
    tags = (("site", "a-plant"), ("device", "pump"), ("stream", "engine"), ("model", "m"))
    site.results.write([Point("rul", tags, fields, NOW_MS * 1_000_000)])
    urgent = site.page(task="rul")["devices"]
    by_site = site.page(task="rul", sort="site")["devices"]
    assert by_site == sorted(urgent, key=lambda d: d["site"])
    assert by_site[0]["device"] == "pump"
    assert len({d["site"] for d in by_site}) > 1


def test_a_cursor_outlives_its_device(site: Site) -> None:
    page = site.page(sort="name", limit=7)
    assert page["devices"][-1]["device"] == "engine-02"
    site.view.accounts = [a for a in site.view.accounts if a.device != "engine-09"]
    site.view.accounts.append(DeviceAccount("lab", "aaron", "imu", received=1, windowed=1))
    assert site.names(sort="name", cursor=page["next"])[0] == "engine-03"


def test_the_overview_counts_the_whole_fleet_whatever_is_searched(site: Site) -> None:
    add_transformers(site.view, site.results, NOW_MS, hours=6)
    overview = site.page(search="nobody")["overview"]
    assert (overview["devices"], overview["sites"], overview["waiting"]) == (17, 3, 1)
    assert overview["live"] + overview["stale"] == 17
    rul, activity, forecast = overview["tasks"].values()
    points = latest(site.results, "rul")
    values = {p.device: p.fields["rul"] for p in points}
    low = {p.device: p.fields["rul_low"] for p in points}
    assert (rul["devices"], rul["scored"]) == (9, 8)
    assert rul["critical"] == sum(value < 20 for value in low.values())
    assert rul["lowest"] == [values["engine-02"], "cycles", "plant-1", "engine-02", "engine"]
    assert activity["common"][1] <= activity["scored"] == 5
    assert forecast["alarms"] == sum(
        bool(p.fields["alarm"]) for p in latest(site.results, "anomaly")
    )
    assert 0 <= forecast["covered"] <= 1


def test_an_empty_fleet_has_a_page(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "r.db")
    page = Fleet(results, PageSettings()).page(FakeView(NOW_MS), FleetQuery(), NOW_MS)
    assert (page["devices"], page["next"], page["overview"]["tasks"]) == ([], None, {})
    results.close()


def test_the_index_rests_ten_times_as_long_as_it_took(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.step_s = 1.0  # each look at the clock: the index takes one second
    site.page()
    site.step_s = 0.0
    site.view.accounts.append(DeviceAccount("lab", "aaron", "imu", received=1, windowed=1))
    site.now_s += 9.9
    assert "aaron" not in site.names()
    site.now_s += 0.2
    assert "aaron" in site.names()


def test_only_the_devices_of_the_page_are_read_in_full(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.view.accounts += [replace(site.view.accounts[0], device=f"pump-{i}") for i in range(3000)]
    for i in range(300):
        tags = (("site", "plant-1"), ("device", f"pump-{i}"), ("stream", "engine"), ("model", "m"))
        site.results.write([Point("rul", tags, (("rul", 50.0 + i),), NOW_MS * 10**6)])
    asked: list[str] = []
    select = site.results.select
    monkeypatch.setattr(site.results, "select", lambda *a: asked.append(a[0]) or select(*a))
    page = site.page(limit=5)
    assert page["matching"] == 3014
    assert len(page["devices"]) == 5
    assert len(asked) < 60

"""The dashboards of a site: its data source, its tasks, and tasks without panels of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards.site import DataSource, is_uid, site_dashboards
from models.tasks.activity import ACTIVITY
from models.tasks.registry import registered, tasks
from models.tasks.rul import RUL
from pipeline.stores.influxlayout import HOURLY_BUCKET
from tests.fakes.grafana_checks import dashboard_flaws

SITE = site_dashboards()


def test_boards_select_the_data_source_of_the_site() -> None:
    site = site_dashboards(source=DataSource(uid="plant-7", name="Plant 7"))
    for uid in site.boards:
        first = site.board_json(uid)["templating"]["list"][0]
        assert (first["type"], first["current"]["value"]) == ("datasource", "plant-7")
        assert first["current"]["text"] == "Plant 7"


def test_bucket_of_the_hours_is_that_of_the_layout() -> None:
    assert f'from(bucket: "{HOURLY_BUCKET}")' in str(SITE.board_json("kpstream-device"))


@pytest.mark.parametrize("uid", ["", "a b", "a/b", "x" * 41, "ü"])
def test_uid_that_grafana_would_refuse_is_invalid(uid: str) -> None:
    assert not is_uid(uid)


PRESSURE = replace(RUL, name="pressure", title="Pressure", hourly=None)
"""A made-up task without a board of its own."""


def test_a_task_without_panels_appears_on_the_general_boards() -> None:
    site = site_dashboards(tasks=(*tasks(), PRESSURE))
    assert list(site.boards) == list(SITE.boards)
    filter_flux = 'r._measurement == "pressure"'
    general = {
        "kpstream-model": ["scores-of-models", "latency-of-models", "devices-of-versions"],
        "kpstream-device": ["device-version", "device-latency", "device-windows"],
    }
    for uid, keys in general.items():
        for key in keys:
            assert filter_flux in site.boards[uid].panel(key).queries[0].flux
    for uid in ("kpstream-fleet", "kpstream-device", "kpstream-model", "kpstream-account"):
        assert filter_flux in site.boards[uid].variables[0].query.flux
        assert dashboard_flaws(site.board_json(uid)) == []


def test_a_site_shows_only_the_panels_of_its_tasks() -> None:
    site = site_dashboards(tasks=(ACTIVITY,))
    assert "rul-now" not in {panel.key for panel in site.boards["kpstream-fleet"].panels}
    assert "kpstream-rul-low" not in {rule.uid for group in site.groups for rule in group.rules}
    assert "union" not in site.boards["kpstream-device"].panel("device-version").queries[0].flux


def test_a_registered_task_needs_no_change_of_the_dashboards() -> None:
    with registered(PRESSURE):
        site = site_dashboards()
    assert '"pressure"' in site.boards["kpstream-model"].panel("scores-of-models").queries[0].flux
    assert '"pressure"' not in str(SITE.board_json("kpstream-model"))

"""The boards: a form that Grafana reads, nothing that leads nowhere, and no panel without words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dashboards.boards.activity import ACTIVITY_CLASSES
from dashboards.site import HOURLY_BUCKET, DataSource, is_uid, site_dashboards
from dashboards.visuals.board import Board
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import OUTCOMES
from dashboards.visuals.views import Column, Note, Table
from models.artifact import read_artifact
from models.tasks.activity import ACTIVITY
from models.tasks.classes import ClassesDecoding
from models.tasks.rul import RUL
from models.zoo import zoo_path
from pipeline.points.measurements import COUNTER_FIELDS
from pipeline.stores.influxlayout import HOURLY_BUCKET as LAYOUT_BUCKET
from tests.fakes.grafana_checks import dashboard_flaws

SITE = site_dashboards()
BOARDS = list(SITE.boards.values())


def panels() -> Iterator[pytest.ParameterSet]:
    for board in BOARDS:
        for panel in board.panels:
            yield pytest.param(board, panel, id=f"{board.uid}-{panel.key}")


PANELS = list(panels())


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_board_is_a_dashboard_that_grafana_reads(board: Board) -> None:
    assert dashboard_flaws(SITE.board_json(board.uid)) == []
    assert is_uid(board.uid)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_lines_of_panels_are_full_and_even(board: Board) -> None:
    lines: dict[int, list[dict]] = {}
    for panel in SITE.board_json(board.uid)["panels"]:
        lines.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])
    for line in lines.values():
        assert sum(place["w"] for place in line) == 24
        assert len({place["h"] for place in line}) == 1


def test_there_are_the_six_boards_with_these_uids_for_ever() -> None:
    assert list(SITE.boards) == [
        "kpstream-fleet",
        "kpstream-device",
        "kpstream-activity",
        "kpstream-model",
        "kpstream-pipeline",
        "kpstream-account",
    ]


def test_ids_of_panels_stay_for_ever() -> None:
    """Alerts and people's links point to them."""
    assert SITE.boards["kpstream-fleet"].panel("rul-now").id == 453_885
    assert SITE.boards["kpstream-pipeline"].panel("processes").id == 125_389


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_keys_of_panels_are_unique(board: Board) -> None:
    keys = [panel.key for panel in board.panels]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_says_what_it_answers_and_what_nothing_means(board: Board, panel: Panel) -> None:
    assert panel.title
    assert panel.style.no_value
    if not isinstance(panel.view, Note):
        assert len(panel.description) > 20
        assert panel.description.endswith(".")


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_uses_only_variables_of_its_board(board: Board, panel: Panel) -> None:
    known = {variable.name for variable in board.variables}
    for query in panel.queries:
        assert set(re.findall(r"\$\{(\w+)", query.flux)) <= known


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_variables_use_only_those_before_them(board: Board) -> None:
    known: set[str] = set()
    for variable in board.variables:
        assert set(re.findall(r"\$\{(\w+)", variable.query.flux)) <= known
        known.add(variable.name)


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_table_has_exactly_the_columns_of_its_query(board: Board, panel: Panel) -> None:
    if isinstance(panel.view, Table):
        (query,) = panel.queries
        names = [column.name for column in panel.view.columns]
        assert sorted(names) == sorted(query.shape.columns)
        titles = [column.title for column in panel.view.columns]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_names_of_series_are_made_of_labels_that_are_there(board: Board, panel: Panel) -> None:
    named = set(re.findall(r"__field\.labels\.(\w+)", panel.style.name))
    for query in panel.queries:
        assert named <= set(query.shape.labels)
        several = set(query.shape.labels) - {"_field"}
        if len(query.shape.labels) > 0 and not isinstance(panel.view, Table):
            by_field = "_field" in query.shape.labels
            assert named or by_field, "series that look alike"
            assert named <= several


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_overrides_are_for_fields_that_are_asked_for(board: Board, panel: Panel) -> None:
    for override in panel.overrides:
        texts = " ".join(query.flux for query in panel.queries)
        known = override.name in OUTCOMES or f'"{override.name}"' in texts
        assert known, override.name


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_bands_are_filled_to_a_series_of_the_same_panel(board: Board, panel: Panel) -> None:
    shown = [override.properties.get("displayName") for override in panel.overrides]
    for override in panel.overrides:
        if below := override.properties.get("custom.fillBelowTo"):
            assert below in shown


def links() -> Iterator[tuple[Panel, Column]]:
    for board in BOARDS:
        for panel in board.panels:
            if isinstance(panel.view, Table):
                for column in panel.view.columns:
                    if column.link:
                        yield panel, column


def test_links_lead_to_boards_with_variables_they_have() -> None:
    found = list(links())
    assert len(found) >= 4
    for panel, column in found:
        assert column.link is not None
        uid, _, rest = column.link[1].removeprefix("/d/").partition("?")
        variables = {variable.name for variable in SITE.boards[uid].variables}
        assert set(re.findall(r"var-(\w+)=", rest)) <= variables | {"datasource"}
        assert isinstance(panel.view, Table)
        titles = {other.title for other in panel.view.columns}
        assert set(re.findall(r"__data\.fields\.(\w+)", rest)) <= titles


def test_rollouts_are_marked_on_every_board() -> None:
    for uid in SITE.boards:
        names = [mark["name"] for mark in SITE.board_json(uid)["annotations"]["list"]]
        assert names == ["Annotations & Alerts", "Rollouts", "Process starts"]


def test_boards_start_with_the_data_source_of_the_bundle() -> None:
    site = site_dashboards(source=DataSource(uid="plant-7", name="Plant 7"))
    for uid in site.boards:
        first = site.board_json(uid)["templating"]["list"][0]
        assert (first["type"], first["current"]["value"]) == ("datasource", "plant-7")
        assert first["current"]["text"] == "Plant 7"


def test_limits_are_the_steps_of_the_colours() -> None:
    site = site_dashboards(Limits(rul_cycles=33, silent_s=444))
    texts = str(site.board_json("kpstream-fleet"))
    assert "'value': 33" in texts
    assert "'value': 444" in texts
    assert "below 33 cycles" in texts


def test_classes_of_the_shipped_student_have_words_and_colours() -> None:
    decoding = read_artifact(zoo_path("har-waist")).manifest.decoding
    assert isinstance(decoding, ClassesDecoding)
    assert set(decoding.labels) <= set(ACTIVITY_CLASSES)


def test_outcomes_are_counters_that_are_stored() -> None:
    assert set(OUTCOMES) <= {field.name for field in COUNTER_FIELDS}


def test_bucket_of_the_hours_is_that_of_the_layout() -> None:
    assert HOURLY_BUCKET == LAYOUT_BUCKET
    assert f'from(bucket: "{LAYOUT_BUCKET}")' in str(SITE.board_json("kpstream-device"))


@pytest.mark.parametrize("uid", ["", "a b", "a/b", "x" * 41, "ü"])
def test_uid_that_grafana_would_refuse_is_none(uid: str) -> None:
    assert not is_uid(uid)


PRESSURE = replace(RUL, name="pressure", title="Pressure", hourly=None)
"""A made-up task without a board of its own."""


def test_a_task_without_panels_appears_on_the_general_boards() -> None:
    site = site_dashboards(tasks=(RUL, ACTIVITY, PRESSURE))
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


def test_a_board_names_its_panels_when_one_is_missing() -> None:
    with pytest.raises(KeyError, match=r"no panel 'gone'; use one of devices-seen, "):
        SITE.boards["kpstream-fleet"].panel("gone")

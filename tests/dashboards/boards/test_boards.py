"""Boards: valid JSON, no dead links, a description for every panel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from dashboards.boards.activity import ACTIVITY_CLASSES
from dashboards.site import is_uid, site_dashboards
from dashboards.visuals.board import Board
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import OUTCOMES
from dashboards.visuals.views import Column, Note, Table
from deploy.settings.settings import GatewaySettings
from models.artifact import read_artifact
from models.tasks.classes import ClassesDecoding
from models.zoo import zoo_path
from pipeline.points.measurements import COUNTER_FIELDS
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


def test_uids_of_boards_never_change() -> None:
    assert list(SITE.boards) == [
        "kpstream-fleet",
        "kpstream-device",
        "kpstream-forecast",
        "kpstream-activity",
        "kpstream-model",
        "kpstream-rollout",
        "kpstream-pipeline",
        "kpstream-account",
    ]


def test_ids_of_panels_never_change() -> None:
    """Alerts and bookmarks refer to them."""
    assert SITE.boards["kpstream-fleet"].panel("rul-now").id == 453_885
    assert SITE.boards["kpstream-pipeline"].panel("processes").id == 125_389


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_keys_of_panels_are_unique(board: Board) -> None:
    keys = [panel.key for panel in board.panels]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_has_a_description_and_a_text_for_no_data(board: Board, panel: Panel) -> None:
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
def test_names_of_series_use_existing_labels(board: Board, panel: Panel) -> None:
    named = set(re.findall(r"__field\.labels\.(\w+)", panel.style.name))
    for query in panel.queries:
        assert named <= set(query.shape.labels)
        several = set(query.shape.labels) - {"_field"}
        if len(query.shape.labels) > 0 and not isinstance(panel.view, Table):
            by_field = "_field" in query.shape.labels
            assert named or by_field, "series with the same name"
            assert named <= several


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_overrides_are_for_fields_of_the_queries(board: Board, panel: Panel) -> None:
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


def test_charts_of_accounts_have_steps_that_hold_every_process() -> None:
    """Processes write every 10 s, each at its own times; scores come as often as their windows."""
    step = {
        panel.key: panel.json(0, 0).get("interval")
        for board in SITE.boards.values()
        for panel in board.panels
    }
    default_ms = GatewaySettings.model_fields["account_ms"].default
    for key in ("rates", "backlog", "ready", "cpu", "readings-rate", "account-of-fleet"):
        assert int(step[key].removesuffix("s")) * 1000 >= 2 * default_ms
    assert {step[key] for key in ("processes", "rul-of-fleet", "device-probabilities")} == {None}


def test_every_board_shows_rollouts_and_process_starts() -> None:
    for uid in SITE.boards:
        names = [annotation["name"] for annotation in SITE.board_json(uid)["annotations"]["list"]]
        more = ["Labels"] if uid == "kpstream-device" else []
        assert names == ["Annotations & Alerts", "Rollouts", "Process starts", *more]


def test_limits_are_the_thresholds_of_the_colours() -> None:
    site = site_dashboards(Limits(rul_cycles=33, silent_s=444))
    texts = str(site.board_json("kpstream-fleet"))
    assert "'value': 33" in texts
    assert "'value': 444" in texts
    assert "below 33 cycles" in texts


def test_classes_of_the_starter_student_have_names_and_colours() -> None:
    decoding = read_artifact(zoo_path("har-waist")).manifest.decoding
    assert isinstance(decoding, ClassesDecoding)
    assert set(decoding.labels) <= set(ACTIVITY_CLASSES)


def test_outcomes_are_counters_that_are_stored() -> None:
    assert set(OUTCOMES) <= {field.name for field in COUNTER_FIELDS}


def test_a_board_names_its_panels_when_one_is_missing() -> None:
    with pytest.raises(KeyError, match=r"no panel 'gone'; use one of devices-seen, "):
        SITE.boards["kpstream-fleet"].panel("gone")

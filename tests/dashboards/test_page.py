"""The page on boards and alerts, and the examples in the guides."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

import dashboards
from dashboards.page import dashboards_page
from dashboards.site import site_dashboards
from dashboards.visuals.limits import Limits
from models.tasks.number import NumberAnswer
from models.tasks.rul import RUL
from tests.fakes.grafana_checks import dashboard_flaws

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "dashboards.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == dashboards_page(site_dashboards()), (
        "out of date: python -m dashboards.page > docs/dashboards.md"
    )


def test_page_has_every_board_and_every_alert_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    site = site_dashboards()
    for uid in site.boards:
        assert text.count(f"(`{uid}`)") == 1
    for group in site.groups:
        for rule in group.rules:
            assert text.count(f"### {rule.title} (`{rule.uid}`") == 1


def test_example_of_the_guide_builds_a_board(capsys) -> None:
    example = re.search(r"```python\n(.*?)```", dashboards.__doc__ or "", re.S)
    assert example is not None
    found: dict = {}
    exec(example[1], found)
    assert dashboard_flaws(found["board"].json()) == []
    assert '"uid": "my-board"' in capsys.readouterr().out


def test_example_of_the_how_to_builds_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = tuple(
        replace(field, name=field.name.replace("rul", "load"), unit="kN") for field in RUL.fields
    )
    answer = NumberAnswer("load", "load_low", "load_high")
    load = replace(
        RUL,
        name="load",
        title="Load",
        answer=answer,
        fields=fields,
        hourly=None,
        due_field="load_due",
    )
    module = types.ModuleType("models.tasks.load")
    module.LOAD = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    how_to = (DOCS / "howto" / "board.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", how_to, re.S)
    assert example is not None
    found: dict = {}
    exec(example[1], found)
    panels = found["load_panels"]([load], Limits(), "hours")
    assert panels.task is load
    assert dashboard_flaws(panels.board.json()) == []

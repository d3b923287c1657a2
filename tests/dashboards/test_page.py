"""The page on boards and alerts, and the example in the package guide."""

from __future__ import annotations

import re
from pathlib import Path

import dashboards
from dashboards.page import dashboards_page
from dashboards.site import site_dashboards
from tests.fakes.grafana_checks import dashboard_flaws

PAGE = Path(__file__).parents[2] / "docs" / "dashboards.md"


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

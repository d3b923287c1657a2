"""The cards on the page about the starter students are those of the students that ship."""

from pathlib import Path

import pytest

from models.artifact import read_artifact
from models.zoo import list_zoo, zoo_path
from training.errors import DataSetError
from training.starters.cards import BEGIN, END, card_tables, write_cards
from training.starters.stress import RESULTS
from training.stress.table import read_stressed

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "starter-students.md"


def shipped():
    return [read_artifact(zoo_path(name)).manifest for name in list_zoo()]


def test_the_page_shows_the_figures_of_the_manifests():
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    found = card_tables(shipped(), read_stressed(ROOT / RESULTS))
    assert shown == found.strip(), "run: python -m training.starters cards"


def test_every_shipped_student_has_a_row_and_every_float_one_a_card():
    text = card_tables(shipped(), {})
    for name in list_zoo():
        assert f"| {name} |" in text
        assert (f"### {name}\n" in text) == (not name.endswith("-int8"))


def test_cards_replace_only_the_text_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nSTALE\n{END}\nafter\n", encoding="utf-8")
    write_cards(shipped(), page, {})
    write_cards(shipped(), page, {})
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "STALE" not in text
    assert text.count("| student |") == 3
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(DataSetError, match="no place for the cards"):
        write_cards(shipped(), page, {})

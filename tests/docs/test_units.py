"""The page of units lists exactly the units that are converted."""

from __future__ import annotations

import re
from pathlib import Path

from ingest.conversion import Conversion
from ingest.units import UNITS, convert

PAGE = (Path(__file__).parents[2] / "docs/units.md").read_text(encoding="utf-8")


def test_the_table_lists_every_unit_under_what_it_measures() -> None:
    table = PAGE.split("| measured | units |")[1]
    found = {
        (unit, cells[0].strip())
        for cells in re.findall(r"^\| ([^|`]+) \| (.+) \|$", table, re.MULTILINE)
        for unit in re.findall(r"`([^`]+)`", cells[1])
    }
    assert found == {(unit, dimension) for unit, (dimension, _, _) in UNITS.items()}


def test_the_page_names_every_key_of_a_conversion() -> None:
    for key in Conversion.model_fields:
        assert re.search(rf"`[^`\n]*\b{key}\b[^`\n]*`", PAGE), key


def test_the_constants_on_the_page_are_those_of_the_table() -> None:
    assert convert("mmHg", "Pa")[0] == 133.322387415
    assert convert("Torr", "Pa")[0] == 101325 / 760

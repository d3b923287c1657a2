"""ARCHITECTURE.md has one line for each folder; functions named there and in reading.md exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES = ("ingest", "pipeline", "models", "training", "deploy", "dashboards")


def test_every_folder_has_one_line_on_the_map() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix() + "/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    lines = re.findall(r"^\| `([\w/]+/)` \|", TEXT, re.M)
    assert len(lines) == len(set(lines))
    assert folders == set(lines) - {"tests/", "findings/"}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/reading.md"])
def test_names_beside_a_path_are_defined_there(page: str) -> None:
    named = re.findall(r"`([\w/]+\.py)`, `(\w+)`", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    for path, name in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:async )?(?:def|class) {name}\b", source, re.M), f"{path}: {name}"

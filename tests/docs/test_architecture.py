"""ARCHITECTURE.md has one line for each folder, and its places exist."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_names_beside_a_place_are_defined_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`, `(\w+)`", TEXT)
    assert named
    for path, name in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?(?:def|class) {name}\b", source, re.M), f"{path}: {name}"

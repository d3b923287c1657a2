"""The threat table of docs/rollout.md against the attacks that are tried and the messages."""

from __future__ import annotations

import re
from pathlib import Path

from tests.deploy.updates.test_attacks import ATTACKS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "rollout.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## What an attacker can do")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| attack")
]


def test_each_attack_that_is_tried_stands_in_the_table_once() -> None:
    named = [name for row in ROWS for name in re.findall(r'"([^"]+)"', row[3])]
    assert sorted(named) == sorted(ATTACKS)


def test_each_test_that_the_table_names_exists() -> None:
    here = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_*.py"))
    for row in ROWS:
        assert len(row) == 4
        assert row[3]
        for name in re.findall(r"`([^`]+)`", row[3]):
            assert f"def {name}(" in tests or (ROOT / name).is_file(), name


def test_the_messages_of_the_table_are_those_of_the_program() -> None:
    files = [*(ROOT / "deploy" / "updates").glob("*.py"), ROOT / "ingest" / "statefile.py"]
    program = "".join(path.read_text(encoding="utf-8") for path in files)
    for row in ROWS:
        for words in re.findall(r"`([^`]+)`", row[2]):
            assert words in program, words
        for name in re.findall(r'"([^"]+)"', row[3]):
            quoted = re.findall(r"`([^`]+)`", row[2])
            assert any(words in ATTACKS[name].words for words in quoted), name

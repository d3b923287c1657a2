"""The frame of the attacks: rows, the table, and verdicts that cannot be forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attack.account import Attack, read_rows, table

FOLDER = Path(__file__).parent
TESTS = """
import pytest

def test_held(attack):
    attack.note("longest pause 3 s")
    attack.report(count=attack.size(short=4, long=4000), unit="bits flipped")

def test_lost(attack):
    attack.report(count=1000, lost=2)

def test_silent(attack):
    pass

def test_absent(attack):
    pytest.skip("needs a compiler")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = pytester.path / "rows.jsonl"
    monkeypatch.setenv("KPSTREAM_ATTACK_ROWS", str(rows))
    monkeypatch.setenv("PYTHONPATH", os.fspath(FOLDER.parent.parent))
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n")
    pytester.makeconftest((FOLDER / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(test_items=TESTS)
    return rows


def test_every_test_has_a_row_and_every_verdict_is_told(
    suite: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_ATTACK", "long")
    result = pytester.runpytest_subprocess("-rA")
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["*passed without attack.report(...)*"])
    rows = {row.test.partition("::")[2]: row for row in read_rows(suite)}
    told = {name: (row.count, row.lost, row.verdict) for name, row in rows.items()}
    assert told == {
        "test_held": ("4,000 bits flipped", "0", "held"),
        "test_lost": ("1,000 readings", "2", "BROKEN"),
        "test_silent": ("-", "-", "BROKEN"),
        "test_absent": ("-", "-", "skipped"),
    }
    text = table(list(rows.values()), "make attack", ["a machine"])
    assert "4 attacks: 1 held, 2 broken, 1 skipped." in text
    assert (
        "| test_items.py::test_held | 4,000 bits flipped | 0 | 0 | held | longest pause 3 s |"
        in text
    )
    assert "| test_items.py::test_lost | 1,000 readings | 2 | 0 | BROKEN |" in text
    assert "needs a compiler" in text


def test_the_ordinary_run_is_short(suite: Path, pytester: pytest.Pytester) -> None:
    pytester.runpytest_subprocess("-k", "held").assert_outcomes(passed=1)
    assert [row.count for row in read_rows(suite)] == ["4 bits flipped"]


def test_an_attack_that_did_not_happen_is_no_success() -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        Attack(is_long=False).report(count=0)


def test_a_cell_cannot_break_the_table() -> None:
    attack = Attack(is_long=False)
    attack.note("a | b\nc")
    line = table([attack.row("t", "passed", "", 1.0)], "make attack", []).splitlines()[-1]
    assert line == "| t | - | - | - | held | a / b c |"

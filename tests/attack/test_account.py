"""The frame of the attacks: rows, the table, and verdicts that cannot be forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attack.account import Attack
from tests.attack.page import page
from tests.attack.results import Kept, Run, begin, end, kept_rows, write_row

FOLDER = Path(__file__).parent
LONG = Run("long", "2026-11-01 10:00", "abc1234", "a machine.")
SHORT = Run("short", "2026-11-02 10:00", "def5678", "a machine.")
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
    kept = kept_rows([suite])
    rows = {one.row.test.partition("::")[2]: one.row for one in kept}
    told = {name: (row.count, row.lost, row.verdict) for name, row in rows.items()}
    assert told == {
        "test_held": ("4,000 bits flipped", "0", "held"),
        "test_lost": ("1,000 readings", "2", "BROKEN"),
        "test_silent": ("-", "-", "BROKEN"),
        "test_absent": ("-", "-", "skipped"),
    }
    text = page(kept, "make attack")
    assert "4 attacks (0 in long form): 1 held, 2 broken, 1 skipped." in text
    held = "4,000 bits flipped | 0 | 0 | held | longest pause 3 s | 1 |"
    assert f"| test_items.py::test_held | short | {held}" in text
    assert "| test_items.py::test_lost | short | 1,000 readings | 2 | 0 | BROKEN |" in text
    assert "needs a compiler" in text


def test_the_ordinary_run_is_short(suite: Path, pytester: pytest.Pytester) -> None:
    pytester.runpytest_subprocess("-k", "held").assert_outcomes(passed=1)
    assert [one.row.count for one in kept_rows([suite])] == ["4 bits flipped"]


def test_an_attack_that_did_not_happen_is_no_success() -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        Attack(is_long=False).report(count=0)


def test_a_suite_that_was_not_run_is_named() -> None:
    assert "0 skipped. Not run: flood, soak." in page([], "make attack", ["flood", "soak"])
    assert "Not run" not in page([], "make attack")


def test_a_cell_cannot_break_the_table() -> None:
    attack = Attack(is_long=False)
    attack.note("a | b\nc")
    text = page([Kept(attack.row("t", "passed", "", 1.0), SHORT)], "make attack")
    assert "| t | short | - | - | - | held | a / b c | 1 |" in text.splitlines()


def test_a_row_of_the_long_form_outlives_a_later_short_one(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    for run, tests in ((SHORT, "ab"), (LONG, "a"), (SHORT, "ab")):
        begin(path, run)
        for test in tests:
            write_row(path, Attack(is_long=False).row(test, "passed", "", 1.0))
    told = [(one.row.test, one.run.form) for one in kept_rows([path, tmp_path / "absent.jsonl"])]
    assert told == [("a", "long"), ("b", "short")]
    text = page(kept_rows([path]), "make attack")
    assert "| 1 | 2026-11-01 10:00 | `abc1234` |" in text
    assert "Machine of run 1, 2: a machine." in text


def test_only_a_suite_that_ended_forgets_tests_that_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    begin(path, LONG)
    for test in ("renamed", "kept"):
        write_row(path, Attack(is_long=True).row(test, "passed", "", 1.0))
    begin(path, LONG)  # interrupted after its first test
    write_row(path, Attack(is_long=True).row("kept", "failed", "", 1.0))
    assert [one.row.verdict for one in kept_rows([path])] == ["BROKEN", "held"]
    begin(path, SHORT)
    write_row(path, Attack(is_long=False).row("kept", "passed", "", 1.0))
    end(path)
    assert [(one.row.test, one.row.verdict) for one in kept_rows([path])] == [("kept", "BROKEN")]

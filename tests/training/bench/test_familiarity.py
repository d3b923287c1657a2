"""The page about familiarity is that of its results, and the results keep what is promised."""

from pathlib import Path

import pytest

from tests.bench.familiarityreport import JOINED, LEFT_OUT, PAGE, RESULTS, write_report
from training.bench.ledger import read_lines

ROOT = Path(__file__).parents[3]
LINES = read_lines(ROOT / RESULTS)


def test_the_page_is_written_from_the_results(tmp_path):
    write_report(LINES, tmp_path / "page.md")
    found = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert found == (ROOT / PAGE).read_text(encoding="utf-8"), (
        "run: python -m tests.bench.familiarity report"
    )


@pytest.mark.parametrize("line", [line for line in LINES if line["case"] not in (LEFT_OUT, JOINED)])
def test_unseen_conditions_are_flagged_and_own_engines_are_not(line):
    (own, *_), others = line["tests"], line["tests"]
    assert others[own]["flagged"] <= 0.05
    new = {name: row for name, row in others.items() if "other conditions" in name}
    assert new
    for row in new.values():
        assert row["flagged"] >= 0.9
        assert row["covered"] >= row["covered_before"]


def test_one_altitude_left_out_is_flagged():
    (line,) = [line for line in LINES if line["case"] == LEFT_OUT]
    for row in line["rows"].values():
        assert row["new_flagged"] >= 0.9


def test_a_student_of_four_sets_knows_the_engines_of_each_and_notices_what_was_left_out():
    (line,) = [line for line in LINES if line["case"] == JOINED]
    for sets in line["own"].values():
        for row in sets.values():
            assert row["flagged"] <= 0.05
    for row in line["left_out"].values():
        assert row["new_flagged"] >= 0.9


def test_a_page_of_no_results_has_a_head_only(tmp_path):
    write_report([], tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8").startswith("# Students that notice")

"""Activities by examples: which windows are examples and which are scored, and the report."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.bench.examples import COUNTS, RESULTS, draw_trials
from training.bench.examplesreport import macro, write_examples_report
from training.bench.ledger import read_lines

pytestmark = pytest.mark.needs_training
LABELS = np.tile(np.repeat([0, 1, 2], 30), 4)
GROUPS = np.repeat(np.arange(4), 90)


def test_examples_are_the_first_windows_of_a_person_and_no_scored_window_overlaps_them() -> None:
    trials = [each for each in draw_trials(LABELS, GROUPS, 1, 0) if each.whom == "personal"]
    assert [each.count for each in trials] == [count for count in COUNTS for _ in range(4)]
    for trial in trials:
        (person,) = set(GROUPS[trial.examples])
        assert set(LABELS[trial.examples]) == {1}
        assert set(GROUPS[trial.scored]) == {person}
        assert not set(trial.scored) & {*trial.examples, trial.examples[-1] + 1}


@pytest.mark.parametrize(("whom", "trials", "givers"), [("one", 4, 1), ("several", 10, 2)])
def test_shared_examples_come_from_people_who_are_not_scored(whom, trials, givers) -> None:
    found = [each for each in draw_trials(LABELS, GROUPS, 1, 0) if each.whom == whom]
    assert len(found) == trials * len(COUNTS)
    for trial in found:
        assert not set(GROUPS[trial.examples]) & set(GROUPS[trial.scored])
        assert len(set(trial.examples)) == trial.count
        counts = np.bincount(GROUPS[trial.examples])
        assert np.count_nonzero(counts) == min(trial.count, givers)
        assert counts.max() - counts[counts > 0].min() <= 1  # in turn


def test_a_mean_counts_every_label_once_and_leaves_out_those_without() -> None:
    lines = [
        {"benchmark": "a", "label": label, "value": value}
        for label, value in (("x", 1.0), ("x", 0.0), ("y", 1.0), ("z", None))
    ]
    found = macro(lines, lambda line: line["value"])
    assert found is not None
    assert found[0] == 0.75
    assert macro(lines[3:], lambda line: line["value"]) is None


def test_the_report_is_that_of_the_ledger(tmp_path) -> None:
    lines = read_lines(RESULTS)
    assert len({line["config"] for line in lines if line["row"] == "examples"}) == 2 * 17
    path = write_examples_report(lines, tmp_path / "examples.md")
    assert path.read_text() == RESULTS.with_suffix(".md").read_text()

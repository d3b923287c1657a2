"""The figures by which a challenger is judged, and the limits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.dummy import dummy_draft
from models.tasks.number import NumberScores
from models.tasks.registry import find_task
from pipeline.scoring.evidence import RECENT, Comparison, Evidence
from pipeline.scoring.thresholds import Thresholds

LIMITS = Thresholds(
    nonfinite_permille=5,
    latency_percent=300,
    latency_ms=2,
    disagreement_permille=300,
    psi_permille=1000,
    spread_percent=20,
    unknown_permille=100,
    error_percent=150,
    coverage_permille=100,
    windows=200,
)
HEALTHY = Evidence(
    windows=200,
    nonfinite_permille=5,
    latency_us=2000,
    latency_percent=300,
    disagreement_permille=300,
    psi_permille=1000,
    spread_percent=20,
    unknown_permille=100,
    error_percent=150,
    coverage_permille=100,
)


def comparison() -> Comparison:
    return Comparison(find_task("rul").answer, dummy_draft("rul").decoding)


def scores(values: Any, valid: Any = None) -> NumberScores:
    found = np.asarray(values, dtype=np.float32)
    is_valid = np.ones(len(found), dtype=bool) if valid is None else np.asarray(valid)
    return NumberScores(found, found - 15, found + 15, is_valid)


def evidence(champion: Any, challenger: Any, times: tuple[float, float] = (1e-3, 1e-3)) -> Evidence:
    found = comparison()
    windows = np.zeros((len(champion), 4, 3), dtype=np.float32)
    found.add(windows, champion, challenger, times)
    return found.evidence()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nonfinite_permille": 6}, "no finite score to 0.6 % of the windows .*limit 0.5 %"),
        (
            {"latency_us": 2001, "latency_percent": 301},
            "needs 301 % of .*limit 300 %., up to 2.001 ms for 99 % of the batches",
        ),
        ({"disagreement_permille": 301}, "disagrees .* by 30.1 % in the mean .limit 30 %"),
        ({"psi_permille": 1001}, "stability index of 1.001 .limit 1"),
        ({"spread_percent": 19}, "vary only 19 % as much .*limit 20 %"),
        ({"unknown_permille": 101}, "calls 10.1 % more of the windows unknown .*limit 10 %"),
        ({"error_percent": 151}, "live error is 151 % of .*limit 150 %"),
        ({"coverage_permille": 101}, "cover 10.1 % less of the readings .*limit 10 %"),
    ],
)
def test_every_limit_is_judged_and_named_with_its_numbers(change, text) -> None:
    assert HEALTHY.verdict(LIMITS) is None
    reason = replace(HEALTHY, **change).verdict(LIMITS)
    assert reason is not None
    assert re.search(text, reason), reason


@pytest.mark.parametrize("change", [{"latency_us": 2001}, {"latency_percent": 5000}])
def test_a_slower_student_must_be_slow_in_both_ways(change) -> None:
    assert replace(HEALTHY, **change).verdict(LIMITS) is None


def test_few_windows_judge_nothing_but_missing_scores() -> None:
    bad = Evidence(windows=199, disagreement_permille=1000, spread_percent=0)
    assert bad.verdict(LIMITS) is None
    assert replace(bad, windows=200).verdict(LIMITS) is not None
    assert Evidence(windows=1, nonfinite_permille=1000).verdict(LIMITS) is not None
    assert Evidence().verdict(Thresholds()) is None


def test_a_share_of_missing_scores_is_never_rounded_to_nothing() -> None:
    valid = np.arange(490) != 7
    found = evidence(scores(np.ones(490)), scores(np.ones(490), valid))
    assert (found.windows, found.nonfinite_permille) == (490, 3)


def test_windows_without_a_score_by_the_champion_do_not_count() -> None:
    champion = scores([50, 0, 60], [True, False, True])
    found = evidence(champion, scores([50, 0, 60], [True, False, True]))
    assert (found.windows, found.nonfinite_permille, found.disagreement_permille) == (2, 0, 0)
    assert evidence(scores([0], [False]), scores([1])) == Evidence()


def test_a_student_without_any_finite_score_has_no_other_figures() -> None:
    found = evidence(scores([50, 60]), scores([0, 0], [False, False]))
    assert (found.nonfinite_permille, found.disagreement_permille) == (1000, None)


def test_a_number_disagrees_in_widths_of_the_interval() -> None:
    values = np.linspace(20, 100, 200)
    assert evidence(scores(values), scores(values + 3)).disagreement_permille == 100
    assert evidence(scores(values), scores(values + 60)).disagreement_permille == 1000


def test_spread_and_distribution_show_a_student_that_hardly_answers() -> None:
    values = np.linspace(20, 100, 200)
    flat = evidence(scores(values), scores(60 + values / 100))
    assert flat.spread_percent == 1
    assert flat.psi_permille > 3000


def test_scores_that_hardly_vary_say_nothing_about_spread_and_distribution() -> None:
    quiet = 124 + np.linspace(-0.5, 0.5, 200)
    found = evidence(scores(quiet), scores(np.full(200, 124.0)))
    assert (found.spread_percent, found.psi_permille) == (None, 0)
    assert found.verdict(Thresholds()) is None


def test_the_figures_are_of_the_newest_windows_and_memory_is_bounded() -> None:
    found = comparison()
    windows = np.zeros((50, 4, 3), dtype=np.float32)
    for _ in range(40):
        found.add(windows, scores(np.full(50, 60)), scores(np.full(50, 60)), (1e-3, 1e-3))
    for _ in range(RECENT // 50):
        found.add(windows, scores(np.full(50, 60)), scores(np.full(50, 66)), (1e-3, 4e-3))
    late = found.evidence()
    assert (late.windows, late.disagreement_permille) == (2500, 200)
    assert (late.latency_us, late.latency_percent) == (4000, 400)


def test_one_slow_batch_of_many_is_no_evidence() -> None:
    found = comparison()
    windows = np.zeros((1, 4, 3), dtype=np.float32)
    for n in range(400):
        found.add(windows, scores([60]), scores([60]), (1e-3, 0.05 if n == 7 else 1e-3))
    assert (found.evidence().latency_us, found.evidence().latency_percent) == (1000, 112)


def test_a_student_that_is_slow_at_times_and_one_that_always_is_are_both_seen() -> None:
    windows = np.zeros((1, 4, 3), dtype=np.float32)
    at_times, always = comparison(), comparison()
    for n in range(400):
        at_times.add(windows, scores([60]), scores([60]), (1e-3, 1e-2 if n % 50 == 0 else 1e-3))
        busy = 1e-2 if n % 50 == 0 else 1e-3  # the machine, for either student
        always.add(windows, scores([60]), scores([60]), (busy, 1e-2))
    assert at_times.evidence().latency_percent == 1000
    assert always.evidence().latency_percent > 800

"""Ratios, targets, the page, the order of runs and their journal."""

from __future__ import annotations

import pytest

from tests.bench.peers.journal import Journal, Run
from tests.bench.peers.page import results_page, shown
from tests.bench.peers.plan import CASES, FULL, QUICK, steps
from tests.bench.peers.table import Target, judge, median_of, ratio_of

COST = ("cpu_per_million",)


def flood(candidate: str, round_: int, cost: float, *, holds: bool = True) -> Run:
    figures = {"cpu_per_million": cost, "holds": holds, "check": "1 of 1 scores"}
    return Run("flood w1", candidate, round_, figures)


def test_a_ratio_is_the_median_of_neighbouring_runs() -> None:
    runs = [flood("now", n, cost) for n, cost in enumerate([10, 20, 30])]
    runs += [flood("baseline", n, cost) for n, cost in enumerate([20, 20, 120])]
    assert ratio_of(runs, "flood w1", COST, "baseline") == 0.5
    assert median_of(runs, "flood w1", "baseline", COST) == 20


def test_a_run_with_a_wrong_score_has_no_time() -> None:
    runs = [flood("now", 0, 10), flood("now", 1, 1, holds=False), flood("baseline", 1, 20)]
    assert median_of(runs, "flood w1", "now", COST) == 10
    assert ratio_of(runs, "flood w1", COST, "baseline") is None


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("a", "flood w1", COST, of_baseline=0.5), True),
        (Target("a", "flood w1", COST, of_baseline=0.4), False),
        (Target("a", "flood w1", COST, of_baseline=0.5, of_script=1.0), None),
        (Target("a", "flood w1", COST, at_most=10), True),
        (Target("a", "flood w1", COST, at_most=9), False),
        (Target("a", "flood w1", COST, of_baseline=0.6, more_is_better=True), False),
        (Target("a", "flood w1", COST), None),
        (Target("a", "flood w1", ("other",), at_most=9), None),
    ],
)
def test_a_target_is_met_missed_or_not_measured(target: Target, met: bool | None) -> None:
    runs = [flood("now", 0, 10), flood("baseline", 0, 20)]
    assert judge(runs, [target])[0].is_met is met


def test_rounds_interleave_candidates_and_turn_round() -> None:
    both = [(step.round, step.candidate) for step in steps(FULL, ["puback"])]
    assert both == [(0, "now"), (0, "baseline"), (1, "baseline"), (1, "now"), (2, "now"),
                    (2, "baseline")]  # fmt: skip
    for form in (FULL, QUICK):
        assert {step.case for step in steps(form)} == set(CASES)


def test_a_finished_run_is_found_and_a_failed_one_is_not(tmp_path) -> None:
    journal = Journal(tmp_path / "bench/runs.jsonl")
    assert journal.runs() == []
    journal.add(flood("now", 0, 10, holds=False))
    assert journal.find("flood w1", "now", 0) is None
    with (tmp_path / "bench/runs.jsonl").open("a") as file:
        file.write('{"case": "flood w1", "cand')  # the benchmark was killed
    journal.add(flood("now", 0, 11))
    found = journal.find("flood w1", "now", 0)
    assert found is not None
    assert found.figures["cpu_per_million"] == 11


META = {
    "machine": {"cpu": "a", "cores": 2, "memory_gb": 4, "python": "3.11", "system": "b",
                "load_before": 0.0, "versions": {"numpy": "2"}},
    "now": "aaaa", "baseline": "bbbb", "form": "quick", "peers": {"quix": "quixstreams 3"},
}  # fmt: skip


def test_the_page_names_failures_and_absent_peers_and_lacks_nothing_without_runs() -> None:
    assert results_page(META, []).startswith("<!-- Written by `make bench-peers ARGS=--quick`. -->")
    live = {"200": {"cpu_per_million": 300.0, "share": 0.06}}
    runs = [
        flood("now", 0, 50), flood("baseline", 0, 200), flood("paho-batch", 0, 60),
        Run("day", "now", 0, {"live": live, "holds": True}),
        Run("peers w1", "ekuiper", 0, {"absent": "`kuiperd` is not on PATH"}),
        Run("peers w1", "quix", 0, {"error": "RuntimeError: no", "holds": False}),
        Run("floor", "now", 0, {"w1": {"parse": 5, "network": 15, "write": 5}, "w2":
            {"parse": 1, "network": 1, "write": 1}, "holds": True}),
    ]  # fmt: skip
    page = results_page(META, runs)
    assert "| eKuiper | `kuiperd` is not on PATH |" in page
    assert "| Quix Streams and Kafka | not right or not done |" in page
    assert "- peers w1, Quix Streams and Kafka, round 1: RuntimeError: no" in page
    assert "| W1 | 5.0 | 15.0 | 5.0 | 25.0 | 50.0 | 2.0 |" in page
    row = next(row for row in shown(runs) if row[0].startswith("flood, W1"))
    assert row[1:4] == ("50.0", "200", "0.25")
    assert row[-1] == "met"

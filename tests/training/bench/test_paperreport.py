"""The tables of the paper's ground: right from made-up lines, and the same on the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.bench.ledger import read_lines
from training.bench.paperground import ARMS
from training.bench.paperreport import gain_table, render_paper_ground

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results" / "paper_ground.jsonl"


def line(arm: str, seed: int, last: float, *, best: float, steady: float = 0.0) -> dict[str, Any]:
    """A run on FD001 whose checkpoint 20 of 24 has the best test score."""

    def series(end: float) -> dict[str, list[float]]:
        return {
            "rmse": [30.0] * 19 + [best] + [25.0] * 3 + [end],
            "nasa_score": [900.0] * 19 + [100.0] + [800.0] * 3 + [400.0],
        }

    readouts = ("vote", "mean", "argmax")
    if arm == "none":
        readouts = ("head-decayed", "capped-decayed")
    found = {name: series(last) for name in readouts}
    if arm == "none":
        found |= {"head": series(steady), "capped": series(steady)}
    held_out = {name: {"rmse": 20.0, "nasa_score": 1.0} for name in found}
    return {
        "config": f"{arm}/{seed}",
        "network": "cnn",
        "benchmark": "FD001",
        "arm": arm,
        "seed": seed,
        "variant": "",
        "steps": 660,
        "test": found,
        "sample": found,
        "held_out": held_out,
    }


def made_up(seeds: int) -> list[dict[str, Any]]:
    """None 20 (25 where the rate stays), text 15, random 16; best passes 16, 14 and 14."""
    return [
        line(arm, seed, last, best=best, steady=25.0)
        for seed in range(seeds)
        for arm, last, best in zip(ARMS, (20.0, 15.0, 16.0), (16.0, 14.0, 14.0), strict=True)
    ]


def test_the_gain_falls_into_scoring_text_rates_and_protocol() -> None:
    (row,) = [each for each in gain_table(made_up(3)).splitlines() if each.startswith("| FD001")]
    cells = [each.strip().split(" [")[0] for each in row.strip("|").split("|")]
    assert cells == ["FD001", "CNN", "3", "+25.0", "+20.0", "+5.0", "+40.0", "+12.5", "-12.5"]


def test_a_cell_without_all_arms_is_left_out_and_two_seeds_have_no_interval() -> None:
    lines = made_up(2)
    assert "[" not in gain_table(lines).splitlines()[2]
    only = [each for each in lines if each["arm"] != "random"]
    assert "CNN" not in gain_table(only)
    assert "14.00" in render_paper_ground(only)


def test_the_pages_show_what_the_runs_gave() -> None:
    lines = read_lines(RESULTS)
    table = gain_table(lines)
    page = (ROOT / "docs" / "knowledge-pruning.md").read_text(encoding="utf-8")
    assert table in page, f"the table of the paper's ground must be:\n{table}"
    results = (RESULTS.with_suffix(".md")).read_text(encoding="utf-8")
    assert results == render_paper_ground(lines), "python -m training.bench.papercommand report"

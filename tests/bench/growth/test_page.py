"""The page of `make growth`, and what callgrind answers."""

from __future__ import annotations

import pytest

from tests.bench.growth.page import growth_page, write_picture
from tests.bench.growth.runs import counted_instructions
from tests.bench.peers.journal import Run

META = {
    "machine": {"cpu": "a", "cores": 2, "memory_gb": 4, "python": "3.11", "system": "b",
                "load_before": 0.0, "versions": {"numpy": "2"}},
    "now": "aaaa", "baseline": None, "rate": 500,
}  # fmt: skip


def devices(count: int, cost: float) -> Run:
    figures = {"cpu_per_million": cost, "rss_mb": 90.0, "ready_s": 1.0, "holds": True,
               "receive_to_score_ms": {"p50": 300, "p99": 400}}  # fmt: skip
    return Run(f"devices {count}", "now", 0, figures)


RUNS = [
    devices(10_000, 109.0),
    devices(100, 100.0),
    Run("recovery 50000", "now", 0, {"ready_s": 8.25, "recovered": True, "holds": True}),
    Run("instructions", "now", 0,
        {"instructions": 150_000, "flood_us": 50.0, "live_us": 200.0, "holds": True}),
]  # fmt: skip


def test_the_page_has_growth_recovery_and_the_computed_board() -> None:
    page = growth_page(META, RUNS, "growth.png")
    assert page.index("| 100 | now |") < page.index("| 10,000 | now |")
    assert "changes by +9% (`now`)" in page
    assert "| 50,000 | now | 8.25 |" in page
    # 200/s x 600,000 instructions, of 1.5e9 a second
    assert "| 200 readings a second, live | 11% | 8% | 6% |" in page


def test_a_page_without_runs_is_a_page() -> None:
    assert growth_page(META, [], "growth.png").startswith("<!-- Written by `make growth`. -->")


def test_instructions_of_all_threads_are_added() -> None:
    answer = "PID 7: python\n  Th 1   1,000\n  Th 2 500\n"
    assert counted_instructions(answer) == 1500


def test_the_picture_is_written(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    write_picture(tmp_path / "growth.png", RUNS)
    assert (tmp_path / "growth.png").stat().st_size > 1000

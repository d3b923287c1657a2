"""The page of the teacher trials: each teacher against its controls, from the results file.

`python -m training.bench.teachersreport` writes docs/results/forecast_teachers.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.bench.ledger import read_lines
from training.bench.stats import Line, differences, interval_95

__all__ = ["main", "write_teachers_page"]

_STUDENTS = {"llata": "LLaTA", "timellm": "TIME-LLM"}
_BASE = "none"
_FEWEST = 3  # seeds of an interval
_HEAD = """# Teachers of forecasts: trials

Written by `python -m training.bench.teachersreport` from forecast_teachers.jsonl; do not edit.

Each row is a teacher itself, not a student of it. `none` has no language model, `random` has one
with random weights. Errors are standardised; the test error is that of every {stride}rd test
window, scored once, with the pass that validation chose (0: the ridge that the net starts as).
`over none` is the mean difference of the test MSE from `none` with the same seed, negative is
better, with its 95 % interval from three seeds on. A method or a seed that is not in a table has
not been run.
"""
_COLUMNS = (
    "teacher with",
    "seeds",
    "validation MSE",
    "test MSE",
    "test MAE",
    "over none",
    "test MSE, ETTh2 unseen",
    "chosen pass",
    "computing time, s",
)


def write_teachers_page(lines: Sequence[Line], folder: Path) -> Path:
    """Write the page with one table for each teacher and benchmark; return its path."""
    stride = max((line["test_stride"] for line in lines), default=0)
    text = [_HEAD.format(stride=stride)]
    for student, title in _STUDENTS.items():
        own = [line for line in lines if line["student"] == student]
        for benchmark in dict.fromkeys(line["benchmark"] for line in own):
            text.append(f"## {title}: {benchmark}\n")
            text.append(_table([line for line in own if line["benchmark"] == benchmark]))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "forecast_teachers.md"
    page.write_text("\n".join(text), encoding="utf-8")
    return page


def _table(lines: Sequence[Line]) -> str:
    methods: dict[str, list[Line]] = {}
    for line in lines:
        methods.setdefault(line["method"], []).append(line)
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    rows += [_row(name, found, methods.get(_BASE, [])) for name, found in methods.items()]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _row(method: str, lines: Sequence[Line], base: Sequence[Line]) -> tuple[str, ...]:
    held_out = [line["held_out"]["mse"] for line in lines if "held_out" in line]
    times = [line["training_seconds"] for line in lines if "training_seconds" in line]
    passes = sorted(str(line["best_pass"]) for line in lines if "best_pass" in line)
    other = [line["test ETTh2"]["mse"] for line in lines if "test ETTh2" in line]
    apart = [] if method == _BASE else differences(lines, base, "mse")
    return (
        method,
        str(len(lines)),
        _mean(held_out),
        _mean([line["test"]["mse"] for line in lines]),
        _mean([line["test"]["mae"] for line in lines]),
        _difference(apart),
        _mean(other),
        ", ".join(passes),
        f"{np.mean(times):.0f}" if times else "",
    )


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _difference(values: Sequence[float]) -> str:
    if not values:
        return ""
    half = f" ± {interval_95(values):.4f}" if len(values) >= _FEWEST else ""
    return f"{np.mean(values):+.4f}{half}"


def main() -> None:
    """Write the page beside the results file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    results = Path("docs/results/forecast_teachers.jsonl")
    parser.add_argument("--results", type=Path, default=results)
    asked = parser.parse_args()
    print(write_teachers_page(list(read_lines(asked.results)), asked.results.parent))


if __name__ == "__main__":
    main()

"""The page of the teacher trials: each teacher against its controls, from the results file.

`python -m training.bench.teachersreport` writes docs/results/forecast_teachers.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.bench.ledger import read_results
from training.bench.published import published_errors
from training.bench.shifts import DISTURBANCES, TRANSFERS
from training.bench.stats import Line, differences
from training.bench.verdicts import Difference, controls_of, over_seeds, verdict
from training.errors import exit_on_errors

__all__ = ["main", "write_teachers_page"]

_STUDENTS = {"llata": "LLaTA", "timellm": "TIME-LLM"}
_BASE, _RIDGE = "none", "ridge"
_LENGTHS = {"llata": (96,), "timellm": (96, 512)}
"""Look-backs of the papers' rows that are shown."""
_UNSEEN = tuple(f"test {name}" for name in TRANSFERS.values())
_DISTURBED = tuple(f"test, {kind}" for kind in DISTURBANCES)
_HEAD = """# Teachers of forecasts: trials

Written by `python -m training.bench.teachersreport` from forecast_teachers.jsonl; do not edit.

Each row is a teacher itself, not a student of it; those are in
[forecast_taught.md](forecast_taught.md). `none` has no language model, `random` has one with random
weights. Errors are standardised; the test error is that of every 23rd test window (ETTm1: 97th),
scored once, with the pass that validation chose (0: the ridge that the net starts as).

`over none` and `over random` are the mean difference of the test MSE from that control with the
same seed, negative is better, with its 95 % interval from three seeds on. A teacher `helps` only if
both intervals are below zero; `hurts`: the interval over `none` is above zero. Twenty comparisons
without an effect have one outside its interval; nothing is corrected for that.

`unseen` is the test part of the sister set (ETTh2 for ETTh1, ETTm2 for ETTm1). `channel missing`:
one channel after the other is replaced by its training mean. `short history`: the older half of the
look-back repeats its oldest known reading. Rows in *italics* are re-printed from papers, with the
language model of each; all of their test windows count. A method or a seed that is not in a table
has not been run, and an empty cell was not measured.
"""
_COLUMNS = (
    "teacher with",
    "seeds",
    "validation MSE",
    "test MSE",
    "test MAE",
    "over none",
    "over random",
    "verdict",
    "unseen",
    "channel missing",
    "short history",
    "chosen pass",
    "computing time, s",
)


def write_teachers_page(lines: Sequence[Line], folder: Path) -> Path:
    """Write the page with one table for each teacher and benchmark; return its path."""
    text = [_HEAD]
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
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *_published(lines[0])]
    rows += [_row(name, found, methods) for name, found in methods.items()]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _published(line: Line) -> list[tuple[str, ...]]:
    """The papers' rows of the data set, horizon and share of a table."""
    name, _, horizon = line["benchmark"].partition(",")[0].partition("-")
    share = line.get("settings", {}).get("share", 1.0)
    return [
        (f"*{one.model}; {one.backbone}; look-back {one.length}*", "", "", f"{error:.3f}")
        + ("",) * (len(_COLUMNS) - 4)
        for one, error in published_errors(name, int(horizon), share)
        if one.length in _LENGTHS[line["student"]]
        and one.model.startswith((_STUDENTS[line["student"]], "PatchTST"))
    ]


def _row(method: str, lines: Sequence[Line], methods: dict[str, list[Line]]) -> tuple[str, ...]:
    held_out = [line["held_out"]["mse"] for line in lines if "held_out" in line]
    times = [line["training_seconds"] for line in lines if "training_seconds" in line]
    passes = sorted(str(line["best_pass"]) for line in lines if "best_pass" in line)
    others = [one for key in _UNSEEN for line in lines if (one := line.get(key))]
    over = {
        name: over_seeds(differences(lines, methods.get(name, []), "mse"))
        for name in (_BASE, *controls_of(method))
        if name != method
    }
    random = next((one for name, one in over.items() if name != _BASE), None)
    is_judged = method not in (_BASE, _RIDGE)
    return (
        method,
        str(len(lines)),
        _mean(held_out),
        _mean([line["test"]["mse"] for line in lines]),
        _mean([line["test"]["mae"] for line in lines]),
        _text(over.get(_BASE)),
        _text(random),
        verdict(method, over[_BASE], [over[name] for name in controls_of(method)])
        if is_judged
        else "",
        _mean([one["mse"] for one in others]),
        *(_mean([line[key]["mse"] for line in lines if key in line]) for key in _DISTURBED),
        ", ".join(passes),
        f"{np.mean(times):.0f}" if times else "",
    )


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _text(difference: Difference | None) -> str:
    return "" if difference is None else str(difference)


@exit_on_errors("training.bench.teachersreport")
def main() -> None:
    """Write the page beside the results file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    results = Path("docs/results/forecast_teachers.jsonl")
    parser.add_argument("--results", type=Path, default=results)
    asked = parser.parse_args()
    lines = read_results(asked.results, "python -m training.bench.llata or .timellm")
    print(write_teachers_page(lines, asked.results.parent))


if __name__ == "__main__":
    main()

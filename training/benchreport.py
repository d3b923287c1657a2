"""From the results file to tables (Markdown) and a plot: means, spread, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import MissingExtraError
from training.ledger import Run

__all__ = ["interval_95", "paired_gains", "write_report"]

# Two-sided 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_FEWEST = 3  # values, to be given an interval
_HEADLINE = {"rul": "rmse", "activity": "macro_f1"}
_WORDS = {"rmse": "RMSE", "nasa_score": "NASA score", "macro_f1": "macro-F1"}

Line = dict[str, Any]


def interval_95(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of a few values (Student's t); nan for one value.

    >>> round(interval_95([1.0, 2.0, 3.0]), 2)
    2.48
    """
    count = len(values)
    if count < 2:
        return math.nan
    factor = _T[count - 2] if count - 2 < len(_T) else 1.96
    return float(factor * np.std(values, ddof=1) / math.sqrt(count))


def paired_gains(lines: Sequence[Line], base: Sequence[Line], metric: str) -> list[float]:
    """Relative gain in percent over `base`, for every seed that both have; positive is better.

    For macro-F1 it is the gain of the F1 itself, as the literature counts it.
    """
    old = {line["seed"]: line["test"][metric] for line in base}
    sign = 1 if metric == "macro_f1" else -1
    return [
        100 * sign * (line["test"][metric] - old[line["seed"]]) / old[line["seed"]]
        for line in lines
        if line["seed"] in old
    ]


def write_report(runs: Sequence[Run], lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write `knowledge_pruning.md` and `knowledge_pruning.png`; lines of no plan are left out.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    planned = {run.digest: run for run in runs}
    known = [line for line in lines if line["config"] in planned]
    tables = _tables(runs, known)
    text = [
        "# Knowledge Pruning: results\n\n"
        "Written by `python -m training.bench report` from knowledge_pruning.jsonl; do not edit.\n"
        f"{len(known)} of {len(planned)} planned runs are done. A missing row is a missing run.\n\n"
        "Protocol **clean**: engines or people held out for choices and calibration, weights after "
        "the last pass, test set scored once. Every seed has its own draw of held-out groups.\n"
        "Mean (standard deviation) [95 % interval of the mean, Student's t, from three values on]. "
        "Gain: relative to `none` with the same seed and draw, in percent, positive is better.\n"
        "Protocol **literature**: the pass with the best test result. That selects on the test "
        "set; it is shown only beside published numbers, no claim rests on it.\n"
        "Times were taken on a machine that did other work besides: p99 and seconds are upper "
        "bounds.\n",
        *(_table(*key, found) for key, found in tables.items()),
        _summary(tables),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    page, plot = folder / "knowledge_pruning.md", folder / "knowledge_pruning.png"
    page.write_text("\n".join(text), encoding="utf-8")
    _plot(tables, plot)
    return [page, plot]


def _tables(
    runs: Sequence[Run], lines: Sequence[Line]
) -> dict[tuple[str, str, str], dict[str, list[Line]]]:
    """(benchmark, student, task) -> method -> lines, in the order of the plans."""
    found: dict[tuple[str, str, str], dict[str, list[Line]]] = {}
    by_digest = {line["config"]: line for line in lines}
    for run in runs:
        if run.digest in by_digest:
            key = (run.benchmark, run.table, run.recipe.task)
            rows = found.setdefault(key, {}).setdefault(run.method, [])
            rows.append(by_digest[run.digest])
    return found


def _table(benchmark: str, student: str, task: str, rows: dict[str, list[Line]]) -> str:
    metric = _HEADLINE[task]
    second = "nasa_score" if task == "rul" else "accuracy"
    quality = "interval_coverage" if task == "rul" else "calibration_error"
    words = {
        "accuracy": "accuracy",
        "interval_coverage": "90 % interval covers",
        "calibration_error": "ECE",
        **_WORDS,
    }
    head = [
        "method",
        "seeds",
        f"held-out {words[metric]}",
        f"**test {words[metric]}**",
        f"test {words[second]}",
        words[quality],
        "gain over none, %",
        f"literature {words[metric]} / {words[second]}",
        "ONNX bytes",
        "p50 / p99 ms",
        "s per run",
    ]
    body = []
    for method, lines in rows.items():
        body.append(
            [
                method,
                str(len(lines)),
                _spread([line["held_out"][metric] for line in lines]),
                _spread([line["test"][metric] for line in lines], interval=True),
                _spread([line["test"][second] for line in lines]),
                _mean([line["test"][quality] for line in lines]),
                _gain(lines, rows.get("none", []), metric) if method != "none" else "",
                _pair([line.get("literature") for line in lines], metric, second),
                _mean([line.get("onnx_bytes") for line in lines]),
                _pair_of(lines, "latency_ms_p50", "latency_ms_p99"),
                _mean([line["seconds"] for line in lines]),
            ]
        )
    lines_of_text = [f"\n## {benchmark}, student `{student}`\n", _row(head), _row(["---"] * 11)]
    command = f"python -m training.bench run --data DATA_FOLDER --only {benchmark}"
    return "\n".join([*lines_of_text, *map(_row, body), f"\nMade by: `{command}`\n"])


def _summary(tables: dict[tuple[str, str, str], dict[str, list[Line]]]) -> str:
    """Mean relative gain over benchmarks, each with its mean over seeds."""
    text = [
        "\n## Gain over `none`, mean over tables\n",
        "The paper (arXiv 2406.08765, abstract) states 19.7 % on average for regression and up to "
        "13.7 % for classification; how it averages is not known. [95 % interval over "
        "benchmarks.] Tables with few engines or people are left out; "
        "rows with different numbers of sets cannot be compared.\n",
        _row(["method", "RUL: RMSE, %", "RUL: NASA score, %", "activity: macro-F1, %"]),
        _row(["---"] * 4),
    ]
    methods = dict.fromkeys(method for rows in tables.values() for method in rows)
    for method in methods:
        if method == "none":
            continue
        cells = []
        for task, metric in (("rul", "rmse"), ("rul", "nasa_score"), ("activity", "macro_f1")):
            means = [
                float(np.mean(gains))
                for key, rows in tables.items()
                if key[2] == task and method in rows and "," not in key[1]
                if (gains := paired_gains(rows[method], rows.get("none", []), metric))
            ]
            cells.append(_interval(means) + f" ({len(means)} sets)" if means else "")
        text.append(_row([method, *cells]))
    return "\n".join(text) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.2f}"
        if abs(value) >= 2
        else f"{value:.3f}"
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _number(float(np.mean(known))) if known else ""


def _spread(values: Sequence[float], *, interval: bool = False) -> str:
    text = _number(float(np.mean(values)))
    if len(values) > 1:
        text += f" ({_number(float(np.std(values, ddof=1)))})"
    return f"{text} {_range(values)}".strip() if interval else text


def _interval(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.1f} {_range(values)}".strip()


def _range(values: Sequence[float]) -> str:
    half, mean = interval_95(values), float(np.mean(values))
    # Of two values Student's t says no more than that they are two.
    return "" if len(values) < _FEWEST else f"[{_number(mean - half)}, {_number(mean + half)}]"


def _gain(lines: Sequence[Line], base: Sequence[Line], metric: str) -> str:
    gains = paired_gains(lines, base, metric)
    return _interval(gains) if gains else ""


def _pair(found: Sequence[dict[str, float] | None], first: str, second: str) -> str:
    known = [one for one in found if one]
    if not known:
        return ""
    return " / ".join(_mean([one[metric] for one in known]) for metric in (first, second))


def _pair_of(lines: Sequence[Line], first: str, second: str) -> str:
    if first not in lines[0]:
        return ""
    return " / ".join(_mean([line[key] for line in lines]) for key in (first, second))


def _plot(tables: dict[tuple[str, str, str], dict[str, list[Line]]], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    count = max(len(tables), 1)
    figure = Figure(figsize=(3.4 * min(count, 4), 3.2 * math.ceil(count / 4)), layout="constrained")
    axes = figure.subplots(math.ceil(count / 4), min(count, 4), squeeze=False).flat
    for axis, ((benchmark, student, task), rows) in zip(axes, tables.items(), strict=False):
        metric = _HEADLINE[task]
        for place, lines in enumerate(rows.values()):
            values = [line["test"][metric] for line in lines]
            axis.scatter(values, [place] * len(values), s=14, color="tab:blue", alpha=0.6)
            axis.scatter([np.mean(values)], [place], marker="|", s=160, color="black")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.invert_yaxis()
        axis.set(title=f"{benchmark}, {student}", xlabel=f"test {_WORDS[metric]}")
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})

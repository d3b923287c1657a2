"""The report of forecasting runs: a page of tables and its plot, made from the results file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.bench.forecastplan import ForecastRun
from training.bench.forecastplot import plot_forecasts
from training.bench.published import HORIZONS, PUBLISHED
from training.bench.stats import Line, error_with_spread, table_row

__all__ = ["forecast_lines", "write_forecast_report"]

_SETS = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
_NAMES = {"seasonal_naive": "seasonal naive", "ridge": "ridge"}
"""Rows that every run measures beside its student."""


def write_forecast_report(
    runs: Sequence[ForecastRun], lines: Sequence[Line], folder: Path
) -> list[Path]:
    """Write `forecast.md` and its plot, without lines that belong to no plan.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    known = forecast_lines(runs, lines)
    lengths = sorted({line["length"] for line in known})
    text = [_head(len(known), len({run.digest for run in runs}))]
    for length in lengths:
        text.append(_averages(length, known))
    for length in lengths:
        text.append(_cells(length, known))
    text += [_bands(known), _graphs(known)]
    folder.mkdir(parents=True, exist_ok=True)
    page, plot = folder / "forecast.md", folder / "forecast.png"
    page.write_text("\n".join(text), encoding="utf-8")
    plot_forecasts(known, plot)
    return [page, plot]


def forecast_lines(runs: Sequence[ForecastRun], lines: Sequence[Line]) -> list[Line]:
    """Keep the lines of planned runs, in the order of the plans."""
    by_digest = {line["config"]: line for line in lines}
    return [by_digest[run.digest] for run in runs if run.digest in by_digest]


def _head(done: int, planned: int) -> str:
    return (
        "# Forecast: results\n\n"
        "Written by `python -m training.bench report` from forecast.jsonl; do not edit.\n"
        f"{done} of {planned} planned runs are done. A missing cell is a missing run.\n\n"
        "Errors are on readings standardised by the training part, over all windows, channels and "
        "steps of the test part. Validation chose everything (pass, penalty, rank, band, "
        "recipe); the test part was scored once for each line.\n"
        "A network starts from the ridge and gives it back where no pass is better on validation. "
        "Mean (standard deviation over seeds). Rows in *italics* are re-printed from papers, with "
        "the language model that they run at inference; `training/bench/published.py` names the "
        "tables.\n"
        "The machine did other work while times were taken: milliseconds and seconds are upper "
        "bounds.\n"
    )


def _averages(length: int, lines: Sequence[Line]) -> str:
    """Mean squared error averaged over the four horizons: one row per model, a column per set."""
    text = [f"\n## Look-back {length}: average over horizons 96, 192, 336 and 720\n"]
    text += [table_row(["model", "language model", *_SETS]), table_row(["---"] * (2 + len(_SETS)))]
    for one in PUBLISHED:
        if one.length == length:
            cells = [f"{float(np.mean(one.errors[name])):.3f}" for name in _SETS]
            text.append(table_row([f"*{one.model}*", f"*{one.backbone}*", *cells]))
    for key, name in _NAMES.items():
        cells = [_baseline(_of(lines, length, one), key) for one in _SETS]
        text.append(table_row([name, "none", *cells]))
    for student in _students(lines):
        cells = [_average(_of(lines, length, one, student)) for one in _SETS]
        if any(cells):
            text.append(table_row([f"**{student}**", "none", *cells]))
    return "\n".join(text) + "\n"


def _baseline(lines: Sequence[Line], key: str) -> str:
    """Average over horizons of what has no seed.

    A ridge with a line of its own counts before the one that a network started from, which may have
    been fitted on fewer windows.
    """
    own = [line for line in lines if key == line["student"]]
    beside = {line["horizon"]: line[key]["mse"] for line in lines}
    found = beside | {line["horizon"]: line["test"]["mse"] for line in own}
    return error_with_spread([float(np.mean(list(found.values())))]) if len(found) == 4 else ""


def _average(lines: Sequence[Line]) -> str:
    """Average over horizons for every seed that has them all; empty if none has."""
    found: dict[int, dict[int, float]] = {}
    for line in lines:
        found.setdefault(line["seed"], {})[line["horizon"]] = line["test"]["mse"]
    whole = [float(np.mean(list(one.values()))) for one in found.values() if len(one) == 4]
    return error_with_spread(whole) + (_unexported(lines) if whole else "")


def _unexported(lines: Sequence[Line]) -> str:
    """Mark graphs that are too large to be students; their errors are shown all the same."""
    count = sum("export_error" in line for line in lines)
    return f" ({count} above 400 kB)" if count else ""


def _cells(length: int, lines: Sequence[Line]) -> str:
    """One table per set: validation, test, and the paired difference from the ridge."""
    text = [
        f"\n## Look-back {length}: every horizon\n",
        "Difference from the ridge on the same test windows, with its 95 % interval from a "
        "moving-block bootstrap over time; of several seeds the mean of each.\n",
    ]
    head = ["set", "horizon", "student", "seeds", "validation, ridge", "validation", "test, ridge"]
    head += ["**test MSE**", "test MAE", "minus ridge", "best pass"]
    text += [table_row(head), table_row(["---"] * len(head))]
    for name in _SETS:
        for horizon in HORIZONS:
            for student in _students(lines):
                some = [
                    line for line in _of(lines, length, name, student) if line["horizon"] == horizon
                ]
                if some:
                    text.append(table_row([name, str(horizon), student, *_cell(some)]))
    return "\n".join(text) + "\n"


def _cell(lines: Sequence[Line]) -> list[str]:
    difference, low, high = (
        float(np.mean([line["against_ridge"][key] for line in lines]))
        for key in ("difference", "low", "high")
    )
    same = all(line["best_pass"] == 0 for line in lines)
    return [
        str(len(lines)),
        error_with_spread([line["validation"]["ridge_mse"] for line in lines[:1]]),
        error_with_spread([line["validation"]["mse"] for line in lines]),
        error_with_spread([line["ridge"]["mse"] for line in lines[:1]]),
        error_with_spread([line["test"]["mse"] for line in lines]) + _unexported(lines),
        error_with_spread([line["test"]["mae"] for line in lines]),
        "is the ridge" if same else f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]",
        ", ".join(str(line["best_pass"]) for line in lines),
    ]


def _bands(lines: Sequence[Line]) -> str:
    """Coverage of p10 to p90 and pinball loss on test time."""
    text = [
        "\n## Band p10 to p90 on test time\n",
        "The promise is 80 %. `least` and `most` are the lowest and the highest coverage of a step "
        "ahead, `near` is the share of the steps that cover 78 to 82 %, `pinball` the mean loss "
        "over p10, p50 and p90.\n",
        "A line without `near` is older than the present rule of the band: its band was set on the "
        "validation part alone.\n",
        _kept(lines),
    ]
    head = ["set", "look-back", "horizon", "student", "coverage", "least", "most", "near"]
    head += ["ridge's coverage", "pinball", "ridge's pinball"]
    text += [table_row(head), table_row(["---"] * len(head))]
    for line in _first_seeds(lines):
        test, ridge = line["test"], line["ridge"]
        where = [line["benchmark"], str(line["length"]), str(line["horizon"]), line["student"]]
        shares = [test["coverage"], test["coverage_low"], test["coverage_high"], ridge["coverage"]]
        losses = [f"{one['pinball']:.4f}" for one in (test, ridge)]
        found = [f"{share:.3f}" for share in shares]
        near = f"{test['steps_near']:.2f}" if _is_present_band(line) else ""
        text.append(table_row([*where, *found[:3], near, found[3], *losses]))
    return "\n".join(text) + "\n"


def _kept(lines: Sequence[Line]) -> str:
    """How many steps of each student keep the promise: for each set and look-back, and over all."""
    head = ["student", "set", "look-back", "cells", "steps", "near", "mean coverage", "pinball"]
    text = [table_row(head), table_row(["---"] * len(head))]
    present = [line for line in _first_seeds(lines) if _is_present_band(line)]
    for student in dict.fromkeys(line["student"] for line in present):
        own = [line for line in present if line["student"] == student]
        groups: dict[tuple[str, str], list[Line]] = {}
        for line in own:
            groups.setdefault((line["benchmark"], str(line["length"])), []).append(line)
        for where, some in {**groups, ("all", "all"): own}.items():
            text.append(table_row([student, *where, *_kept_cells(some)]))
    return "\n".join(text) + "\n"


def _kept_cells(lines: Sequence[Line]) -> list[str]:
    steps = np.array([line["horizon"] for line in lines])
    near, covered, pinball = (
        np.array([line["test"][key] for line in lines])
        for key in ("steps_near", "coverage", "pinball")
    )
    share = float((near * steps).sum() / steps.sum())
    means = [f"{share:.3f}", f"{covered.mean():.3f}", f"{pinball.mean():.4f}"]
    return [str(len(lines)), str(steps.sum()), *means]


def _is_present_band(line: Line) -> bool:
    return "steps_near" in line["test"]


def _graphs(lines: Sequence[Line]) -> str:
    """Size, time and training seconds of the exported graphs."""
    text = ["\n## Graphs: forecast and backtest of one window, batch 1, one thread\n"]
    head = ["set", "look-back", "horizon", "student", "weights", "bytes", "p50 / p99 ms"]
    head += ["int8 bytes", "int8 p50 / p99 ms", "int8 difference, sd", "training s"]
    text += [table_row(head), table_row(["---"] * len(head))]
    for line in _first_seeds(lines):
        where = [line["benchmark"], str(line["length"]), str(line["horizon"]), line["student"]]
        weights, seconds = f"{line['parameters']:,}", f"{line['training_seconds']:.0f}"
        if "export_error" in line:
            text.append(table_row([*where, weights, "not exported", "", "", "", "", seconds]))
            continue
        small = line["int8"]
        eight = ["refused", "", ""]
        if "refused" not in small:
            times = f"{small['latency_ms_p50']:.2f} / {small['latency_ms_p99']:.2f}"
            eight = [f"{small['bytes']:,}", times, f"{small['difference']:.2g}"]
        text.append(
            table_row(
                [
                    *(*where, weights, f"{line['onnx_bytes']:,}"),
                    f"{line['latency_ms_p50']:.2f} / {line['latency_ms_p99']:.2f}",
                    *(*eight, seconds),
                ]
            )
        )
    return "\n".join(text) + "\n"


def _of(
    lines: Sequence[Line], length: int, benchmark: str, student: str | None = None
) -> list[Line]:
    return [
        line
        for line in lines
        if (line["length"], line["benchmark"]) == (length, benchmark)
        and student in (None, line["student"])
    ]


def _students(lines: Sequence[Line]) -> list[str]:
    """Names of the students, without the ridge, which has its own row."""
    return [one for one in dict.fromkeys(line["student"] for line in lines) if one != "ridge"]


def _first_seeds(lines: Sequence[Line]) -> list[Line]:
    """The line of the first seed of every cell."""
    cells: dict[tuple[str, int, int, str], Line] = {}
    for line in lines:
        key = (line["benchmark"], line["length"], line["horizon"], line["student"])
        if key not in cells or line["seed"] < cells[key]["seed"]:
            cells[key] = line
    return [cells[key] for key in sorted(cells)]

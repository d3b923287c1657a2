"""Plots of the report: every run of every benchmark, and the curves over few groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from training.bench.stats import Line, by_choice, interval_95
from training.errors import MissingExtraError
from training.evaluate import MEASURE_TITLES

__all__ = ["plot_benchmarks", "plot_curves", "plot_open"]

_COLUMNS = 5
_COLOURS = {
    "none": "black",
    "kp-text": "tab:red",
    "kp-random": "tab:blue",
    "kp-permuted": "tab:green",
}


class _Rows(Protocol):
    @property
    def rows(self) -> dict[str, list[Line]]: ...


def plot_benchmarks(
    tables: Sequence[tuple[str, str, str, dict[str, list[Line]]]], path: Path
) -> None:
    """Plot one panel per benchmark: a dot per run, a bar at the mean.

    Args:
        tables: Benchmark, student, measure, and method to lines.
        path: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = max(math.ceil(len(tables) / _COLUMNS), 1)
    figure = _figure(3.2 * min(max(len(tables), 1), _COLUMNS), 3.0 * rows)
    axes = figure.subplots(rows, min(max(len(tables), 1), _COLUMNS), squeeze=False).flat
    for axis, (benchmark, student, metric, methods) in zip(axes, tables, strict=False):
        for place, (method, lines) in enumerate(methods.items()):
            values = [line["test"][metric] for line in lines]
            colour = _COLOURS.get(method, "tab:gray")
            axis.scatter(values, [place] * len(values), s=14, color=colour, alpha=0.6)
            axis.scatter([np.mean(values)], [place], marker="|", s=160, color="black")
        axis.set_yticks(range(len(methods)), list(methods))
        axis.invert_yaxis()
        axis.set(
            title=f"{benchmark}, {student}", xlabel=f"test {MEASURE_TITLES.get(metric, metric)}"
        )
        axis.grid(axis="x", alpha=0.3)
    for axis in figure.axes[len(tables) :]:
        axis.remove()
    _save(figure, path)


def plot_curves(curves: Mapping[tuple[str, str], Sequence[tuple[str, _Rows]]], path: Path) -> None:
    """Plot one panel per benchmark: the measure over decreasing numbers of groups.

    Args:
        curves: (benchmark, measure) to (groups, rows of a table), most groups first.
        path: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure(5.0 * max(len(curves), 1), 3.4)
    axes = figure.subplots(1, max(len(curves), 1), squeeze=False).flat
    for axis, ((benchmark, metric), tables) in zip(axes, curves.items(), strict=False):
        for shift, (method, colour) in enumerate(_COLOURS.items()):
            found = [
                (place, [line["test"][metric] for line in table.rows[method]])
                for place, (_, table) in enumerate(tables)
                if method in table.rows
            ]
            axis.errorbar(
                [place + 0.06 * (shift - 1.5) for place, _ in found],
                [float(np.mean(values)) for _, values in found],
                yerr=[interval_95(values) if len(values) > 2 else 0 for _, values in found],
                label=method,
                color=colour,
                marker="o",
                markersize=4,
                capsize=2,
            )
        axis.set_xticks(range(len(tables)), [groups for groups, _ in tables])
        axis.set(
            title=benchmark,
            ylabel=f"test {MEASURE_TITLES.get(metric, metric)}",
            xlabel="to learn from",
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    _save(figure, path)


def plot_open(tables: Sequence[tuple[str, str, dict[str, list[Line]]]], path: Path) -> None:
    """Plot two panels per benchmark, readout `kp`: a dot per choice of labels, a bar at the mean.

    Args:
        tables: Benchmark, student, and method to lines.
        path: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = {"auroc": "area under the curve", "alarm_recall": "recall at 10 % alarm"}
    figure = _figure(3.4 * max(len(tables), 1), 2.4 * len(names))
    axes = figure.subplots(len(names), max(len(tables), 1), squeeze=False)
    for column, (benchmark, student, methods) in enumerate(tables):
        for axis, (name, word) in zip(axes[:, column], names.items(), strict=True):
            for place, (method, lines) in enumerate(methods.items()):
                values = list(by_choice(lines, "kp", name).values())
                colour = _COLOURS.get(method, "tab:gray")
                axis.scatter(values, [place] * len(values), s=14, color=colour, alpha=0.6)
                axis.scatter([np.mean(values)], [place], marker="|", s=160, color="black")
            axis.set_yticks(range(len(methods)), list(methods))
            axis.invert_yaxis()
            axis.set(xlim=(-0.03, 1.03), xlabel=word)
            axis.grid(axis="x", alpha=0.3)
        axes[0, column].set_title(f"{benchmark}, {student.partition(', ')[2]}")
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})

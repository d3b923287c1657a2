"""The plot of taught students: difference from the student without a teacher, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.bench.stats import interval_95
from training.errors import MissingExtraError

__all__ = ["plot_taught"]

_COLUMNS = 3
_SCALE = 1000
_COLOURS = {"llata": "tab:purple", "timellm": "tab:red"}


def plot_taught(cells: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Plot one panel per cell: the mean paired difference of every teacher, left is better.

    Args:
        cells: Paired differences of the test MSE from `none` by title and teacher.
        path: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis, (title, arms) in zip(axes, cells.items(), strict=False):
        names = [name for name, values in arms.items() if name != "none" and values]
        for place, name in enumerate(names):
            values = [_SCALE * value for value in arms[name]]
            half = interval_95(values) if len(values) > 1 else 0.0
            colour = _COLOURS.get(name.partition("-")[0], "tab:gray")
            is_control = "-" in name
            axis.errorbar(
                [float(np.mean(values))],
                [place],
                xerr=[half],
                fmt="o",
                color=colour,
                markerfacecolor="white" if is_control else colour,
                capsize=3,
            )
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(f"test MSE minus none, x {_SCALE}")
        axis.locator_params(axis="x", nbins=5)
        axis.grid(alpha=0.3, axis="x")
    for axis in axes[len(cells) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})

"""The plot of forecasting runs: error by horizon, students beside ridge and published rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.bench.published import HORIZONS, PUBLISHED
from training.bench.stats import Line
from training.errors import MissingExtraError

__all__ = ["plot_forecasts"]

_SETS = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
_SHOWN = {"LLaTA (CALF)": "tab:purple", "TIME-LLM": "tab:red", "PatchTST": "tab:gray"}
_COLOURS = {"ridge": "black", "mlp": "tab:blue"}


def plot_forecasts(lines: Sequence[Line], path: Path) -> None:
    """Plot one panel per look-back and set: mean squared error over the horizon.

    Args:
        lines: Lines of the results file.
        path: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    lengths = sorted({line["length"] for line in lines}) or [96]
    figure = Figure(figsize=(3.2 * len(_SETS), 3.0 * len(lengths)), layout="constrained")
    axes = figure.subplots(len(lengths), len(_SETS), squeeze=False)
    for row, length in zip(axes, lengths, strict=True):
        for axis, name in zip(row, _SETS, strict=True):
            _draw(axis, length, name, lines)
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw(axis: Any, length: int, name: str, lines: Sequence[Line]) -> None:
    places = range(len(HORIZONS))
    for one in PUBLISHED:
        if one.length == length and one.model in _SHOWN:
            colour = _SHOWN[one.model]
            axis.plot(places, one.errors[name], "--", color=colour, label=f"{one.model} (paper)")
    here = [line for line in lines if (line["length"], line["benchmark"]) == (length, name)]
    ridge = {line["horizon"]: line["ridge"]["mse"] for line in here}
    _line(axis, "ridge", [[ridge[one]] if one in ridge else [] for one in HORIZONS])
    for student in dict.fromkeys(line["student"] for line in here if line["student"] != "ridge"):
        found = [
            [
                line["test"]["mse"]
                for line in here
                if (line["student"], line["horizon"]) == (student, horizon)
            ]
            for horizon in HORIZONS
        ]
        _line(axis, student, found)
    axis.set_xticks(places, [str(horizon) for horizon in HORIZONS])
    axis.set(title=f"{name}, look-back {length}", xlabel="horizon", ylabel="test MSE")
    axis.grid(alpha=0.3)


def _line(axis: Any, name: str, values: Sequence[Sequence[float]]) -> None:
    known = [(place, float(np.mean(some))) for place, some in enumerate(values) if some]
    axis.plot(
        [place for place, _ in known],
        [value for _, value in known],
        color=_COLOURS.get(name),
        marker="o",
        markersize=4,
        label=name,
    )

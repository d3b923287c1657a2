"""The picture of a run: learning curve, and scores against truths on held-out groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.activity import confusion_matrix
from training.datasets.contract import DataSet
from training.errors import MissingExtraError
from training.evaluate import MEASURE_TITLES, group_errors
from training.forecast_gate import HeldOutTime, Verdict

__all__ = ["write_forecast_plot", "write_plot"]


def write_plot(
    path: Path,
    losses: Sequence[float],
    held_out: Sequence[float],
    truth: NDArray[np.int64],
    scored: NDArray[np.float32],
    data: DataSet,
) -> None:
    """Write the picture of a run as a PNG.

    Args:
        path: File to write.
        losses: Training loss of every pass.
        held_out: Headline measure on held-out groups after every pass.
        truth: Labels `[n]` of the held-out windows.
        scored: Numbers `[n]` or probabilities `[n, classes]`.
        data: Gives task and labels.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _new_figure()
    curve, scores = figure.subplots(1, 2)
    headline = data.contract.headline.name
    _plot_curve(curve, losses, held_out, MEASURE_TITLES.get(headline, headline))
    if data.labels is None:
        _plot_numbers(scores, truth, scored, data)
    else:
        _plot_classes(scores, truth, scored, data.labels)
    figure.savefig(path, dpi=110)


def write_forecast_plot(
    path: Path,
    losses: Sequence[float],
    validation: Sequence[float],
    verdict: Verdict,
    held_out: HeldOutTime,
) -> None:
    """Write the picture of a forecasting run as a PNG: learning curve, and gains over time.

    Args:
        path: File to write.
        losses: Training loss of every pass from pass 0, where it is NaN.
        validation: Validation error of the same passes.
        verdict: The new student and its rivals.
        held_out: The held-out time.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _new_figure()
    curve, blocks = figure.subplots(1, 2)
    passes = np.arange(len(losses))
    curve.plot(passes, losses, color="tab:gray", label="training loss")
    curve.plot(passes, validation, color="tab:blue", label="validation, mean squared error")
    curve.set(xlabel="pass over the data (0: untrained)", title="Learning curve")
    curve.legend()
    curve.xaxis.get_major_locator().set_params(integer=True)
    new = group_errors(verdict.new.errors, held_out.blocks)
    days = np.array(list(new)) * held_out.block_ms / 86_400_000
    for rival in verdict.rivals:
        old = group_errors(rival.errors, held_out.blocks)
        blocks.plot(days, [old[block] - new[block] for block in new], label=rival.name)
    blocks.axhline(0, color="black", linewidth=0.8)
    blocks.set(
        xlabel="days since the held-out time began",
        ylabel="gain over a rival, by block (above 0: better)",
        title="Held-out time",
    )
    blocks.legend()
    figure.savefig(path, dpi=110)


def _new_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    return Figure(figsize=(10, 4.2), layout="constrained")


def _plot_curve(axis: Any, losses: Sequence[float], held_out: Sequence[float], title: str) -> None:
    passes = np.arange(1, len(losses) + 1)
    axis.plot(passes, losses, color="tab:gray", label="training loss")
    axis.set(xlabel="pass over the data", ylabel="training loss", title="Learning curve")
    axis.xaxis.get_major_locator().set_params(integer=True)
    other = axis.twinx()
    other.plot(passes, held_out, color="tab:blue", label=f"held-out {title}")
    other.set_ylabel(f"held-out {title}", color="tab:blue")


def _plot_numbers(
    axis: Any, truth: NDArray[np.int64], scored: NDArray[np.float32], data: DataSet
) -> None:
    field = data.contract.field(data.contract.answer.headline_field)
    axis.plot([0, data.largest], [0, data.largest], color="tab:gray", linewidth=1)
    axis.scatter(truth, scored, s=4, alpha=0.3, edgecolors="none")
    axis.set(
        xlabel=f"true {field.name} ({field.unit})",
        ylabel=f"scored {field.name}",
        title="Held-out windows",
    )


def _plot_classes(
    axis: Any, truth: NDArray[np.int64], scored: NDArray[np.float32], labels: Sequence[str]
) -> None:
    counts = confusion_matrix(truth, scored.argmax(axis=1), len(labels))
    axis.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if count > counts[row].sum() / 2 else "black"
        axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=ink)
    names = [label.replace("WALKING_", "W. ").capitalize() for label in labels]
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="scored", ylabel="true", title="Held-out windows")

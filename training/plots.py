"""One picture of a run: the learning curve and how the student does on held-out groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import MissingExtraError
from training.evaluate import confusion_matrix

__all__ = ["write_plot"]


def write_plot(
    path: Path,
    losses: Sequence[float],
    held_out: Sequence[float],
    truth: NDArray[np.int64],
    scored: NDArray[np.float32],
    labels: Sequence[str] | None,
) -> None:
    """Write a PNG.

    Args:
        path: the file.
        losses: training loss of every pass.
        held_out: RMSE or macro-F1 on held-out groups after every pass.
        truth: `[n]` labels of the held-out windows.
        scored: `[n]` cycles or `[n, classes]` probabilities.
        labels: class names; None for RUL.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        module = "matplotlib"
        raise MissingExtraError(module) from exc
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    curve, scores = figure.subplots(1, 2)
    passes = np.arange(1, len(losses) + 1)
    curve.plot(passes, losses, color="tab:gray", label="training loss")
    curve.set(xlabel="pass over the data", ylabel="training loss", title="Learning curve")
    curve.xaxis.get_major_locator().set_params(integer=True)
    other = curve.twinx()
    what = "RMSE (cycles)" if labels is None else "macro-F1"
    other.plot(passes, held_out, color="tab:blue", label=f"held-out {what}")
    other.set_ylabel(f"held-out {what}", color="tab:blue")
    if labels is None:
        scores.plot([0, 125], [0, 125], color="tab:gray", linewidth=1)
        scores.scatter(truth, scored, s=4, alpha=0.3, edgecolors="none")
        scores.set(xlabel="true RUL (cycles)", ylabel="scored RUL", title="Held-out windows")
    else:
        counts = confusion_matrix(truth, scored.argmax(axis=1), len(labels))
        scores.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues")
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if count > counts[row].sum() / 2 else "black"
            scores.text(column, row, str(count), ha="center", va="center", fontsize=8, color=ink)
        names = [label.replace("WALKING_", "W. ").capitalize() for label in labels]
        scores.set_xticks(range(len(names)), names, rotation=30, ha="right")
        scores.set_yticks(range(len(names)), names)
        scores.set(xlabel="scored", ylabel="true", title="Held-out windows")
    figure.savefig(path, dpi=110)

"""Teacher scores of an ensemble on the windows a student learns from, made out of fold.

The ensemble has two networks of the student's kind, but larger: one with the plain head, one that
votes over random anchors. The groups are divided into three folds; each window is scored by members
that have seen neither the window nor its neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.manifest import Scaler
from training.distill import BuildMethod, distill
from training.recipes import Recipe
from training.scoring import scale_windows, score_scaled
from training.windows import WindowSet

__all__ = ["score_with_ensemble"]

_FOLDS = 3
_WIDER = 1.5
_MEMBERS: tuple[dict[str, Any], ...] = ({"method": "none"}, {"method": "kp", "anchors": "random"})


def score_with_ensemble(
    recipe: Recipe,
    data: WindowSet,
    scaler: Scaler,
    num_answers: int,
    build: BuildMethod,
    preprocessor: nn.Module | None,
) -> NDArray[np.float32]:
    """Train the ensemble and score every window of `data` with members that have not seen it.

    Args:
        recipe: Recipe of the student.
        data: Windows that the student learns from, in raw units.
        scaler: Scaler of the windows.
        num_answers: Number of classes, or the largest number + 1.
        build: Makes the untrained members; see `training.distill.distill`.
        preprocessor: Part of the graph between scaler and encoder.

    Returns:
        Numbers `[n]` or probabilities `[n, classes]`, in the order of `data`.
    """
    width = tuple(8 * round(_WIDER * width / 8) for width in recipe.conv_channels)
    epochs = recipe.teacher_epochs or recipe.epochs
    names = np.random.default_rng(recipe.seed).permutation(np.unique(data.groups))
    teacher_scores: NDArray[np.float32] | None = None
    for fold in np.array_split(names, min(_FOLDS, len(names))):
        is_out = np.isin(data.groups, fold)
        for changes in _MEMBERS:
            member = replace(recipe, conv_channels=width, epochs=epochs, **changes)
            run = distill(
                member,
                data.where(~is_out),
                scaler,
                num_answers,
                build,
                preprocessor=preprocessor,
            )
            if run.student is None:  # impossible without a deadline
                continue
            inputs = scale_windows(data.windows[is_out], scaler, None)
            scored = score_scaled(run.student, inputs) / np.float32(len(_MEMBERS))
            if teacher_scores is None:
                teacher_scores = np.zeros((len(data), *scored.shape[1:]), dtype=np.float32)
            teacher_scores[is_out] += scored
    assert teacher_scores is not None  # noqa: S101 (there is at least one fold)
    return teacher_scores

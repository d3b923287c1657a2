"""Scores of a teacher on the windows a student learns from, made out of fold.

The teacher is an ensemble of larger networks of the student's kind, one with the plain head and
one that votes over random anchors. The groups are cut into three folds; each window is scored by
members that have seen neither it nor its neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.manifest import Scaler
from training.distill import distill, scale_windows, score_student
from training.recipes import Recipe
from training.windows import WindowSet

__all__ = ["teach"]

_FOLDS = 3
_WIDER = 1.5
_MEMBERS: tuple[dict[str, Any], ...] = ({"method": "none"}, {"method": "kp", "anchors": "random"})


def teach(
    recipe: Recipe,
    data: WindowSet,
    scaler: Scaler,
    num_answers: int,
    front: nn.Module | None,
) -> NDArray[np.float32]:
    """Train the ensemble and score every window of `data` with members that have not seen it.

    Returns:
        `[n]` cycles or `[n, classes]` probabilities, in the order of `data`.
    """
    width = tuple(8 * round(_WIDER * width / 8) for width in recipe.conv_channels)
    epochs = recipe.teacher_epochs or recipe.epochs
    names = np.random.default_rng(recipe.seed).permutation(np.unique(data.groups))
    found: NDArray[np.float32] | None = None
    for fold in np.array_split(names, min(_FOLDS, len(names))):
        is_out = np.isin(data.groups, fold)
        for changes in _MEMBERS:
            member = replace(recipe, conv_channels=width, epochs=epochs, **changes)
            run = distill(member, data.where(~is_out), scaler, num_answers, front=front)
            if run.student is None:  # impossible without a deadline
                continue
            inputs = scale_windows(data.windows[is_out], scaler, None)
            scored = score_student(run.student, inputs) / np.float32(len(_MEMBERS))
            if found is None:
                found = np.zeros((len(data), *scored.shape[1:]), dtype=np.float32)
            found[is_out] += scored
    assert found is not None  # noqa: S101 (there is at least one fold)
    return found

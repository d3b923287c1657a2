"""Teacher scores of gradient boosting on the windows a student learns from, made out of fold.

Trees and networks err in different ways, so their mean is better than either. A student that learns
half from the labels and half from the trees comes close to that mean, in one small graph. The
scores are made out of fold, because those of trees on windows that they have learned from carry
little more than the labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.classical import fit_classical, scale_for_baselines
from training.datasets.contract import DataSet
from training.recipes import Recipe
from training.windows import WindowSet, fold_groups

__all__ = ["score_with_boosting"]

_FOLDS = 5


def score_with_boosting(data: DataSet, recipe: Recipe, seen: WindowSet) -> NDArray[np.float32]:
    """Score every window by trees that have not seen its group.

    Args:
        data: Gives task, labels and scaling.
        recipe: Gives the seed.
        seen: Windows that the student learns from, in raw units.

    Returns:
        Numbers `[n]` or probabilities `[n, classes]`, in the order of `seen`.
    """
    shape = (len(seen),) if data.labels is None else (len(seen), len(data.labels))
    scores = np.zeros(shape, dtype=np.float32)
    folds = min(_FOLDS, len(np.unique(seen.groups)))
    for groups in fold_groups(seen.groups, folds, recipe.seed):
        learned, unseen = scale_for_baselines(
            data, seen.without_groups(groups), seen.of_groups(groups)
        )
        place = np.isin(seen.groups, groups)
        scores[place] = fit_classical("boosting", data, learned, recipe.seed)(unseen.windows)
    return scores

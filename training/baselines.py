"""Whether a student is worth its trouble: classical baselines on its held-out groups.

A student of own data is published only if it is better than every baseline by the rule that
compares it with the running student (`training.decision`), on the same held-out groups.
`judge_baselines` measures that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.classical import BASELINES, fit_classical, scale_for_baselines
from training.datasets.contract import DataSet
from training.datasets.enough import held_out_parts
from training.evaluate import Rival, judge_rival
from training.recipes import Recipe
from training.windows import WindowSet

__all__ = ["judge_baselines"]


def judge_baselines(
    data: DataSet, recipe: Recipe, held_out: WindowSet, scored: NDArray[np.float32]
) -> tuple[Rival, ...]:
    """Compare a student with every baseline, on the split of the recipe.

    Args:
        data: The data set.
        recipe: Gives the split and the seed of boosting.
        held_out: Windows on which the student was measured; with `folds` all of them.
        scored: Its scores of these windows.

    Returns:
        The baselines in the order of `BASELINES`.
    """
    shape = (len(held_out), *scored.shape[1:])
    found = {name: np.zeros(shape, dtype=np.float32) for name in BASELINES}
    for groups in held_out_parts(data.train.groups, recipe):
        place = np.isin(held_out.groups, groups)
        seen, unseen = scale_for_baselines(
            data, data.train.without_groups(groups), held_out.where(place)
        )
        for name in BASELINES:
            found[name][place] = fit_classical(name, data, seen, recipe.seed)(unseen.windows)
    return tuple(
        judge_rival(data.contract, name, held_out.labels, (scores, scored), held_out.groups)
        for name, scores in found.items()
    )

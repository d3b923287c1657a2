"""Whether a student is worth its trouble: classical baselines on its held-out groups.

A student of own data is published only if it is better than every baseline by the rule that
compares it with the running student (`training.evaluate.Comparison`), on the same held-out groups.
`judge_baselines` measures that, and `unbeaten` names the ones that it is not better than.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.classical import BASELINES, fit_classical, scale_for_baselines
from training.datasets.contract import DataSet
from training.datasets.enough import held_out_parts
from training.evaluate import Comparison, compare_groups, group_errors
from training.recipes import Recipe
from training.windows import WindowSet

__all__ = ["Baseline", "judge_baselines", "unbeaten"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline on the held-out windows of a student.

    Attributes:
        name: `constant`, `ridge` or `boosting`.
        metrics: Its measures.
        comparison: The student against it, by group; positive gains favour the student.
    """

    name: str
    metrics: dict[str, float]
    comparison: Comparison


def judge_baselines(
    data: DataSet, recipe: Recipe, held_out: WindowSet, scored: NDArray[np.float32]
) -> tuple[Baseline, ...]:
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
    answer, groups = data.contract.answer, held_out.groups
    new = group_errors(answer.window_errors(held_out.labels, scored), groups)
    return tuple(
        Baseline(
            name,
            data.contract.measure(held_out.labels, scores),
            compare_groups(
                group_errors(answer.window_errors(held_out.labels, scores), groups), new
            ),
        )
        for name, scores in found.items()
    )


def unbeaten(baselines: Sequence[Baseline]) -> tuple[str, ...]:
    """Name the baselines that the student is not (clearly) better than."""
    return tuple(one.name for one in baselines if not one.comparison.is_better)

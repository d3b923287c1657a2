"""Whether data are enough for what is asked of them, and what would be.

Two things can be asked. To **train and measure** a student takes two groups, because it is measured
on groups that it has not learned from, and examples of everything it has to tell on both sides. To
**publish** it takes groups enough to say that it is better: with fewer than five, one student wins
on all of them by chance in more than one case of twenty (1/2 to the power of 4 is 6 %).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.datasets.contract import DataSet
from training.datasets.own_description import several_faults
from training.errors import DataSetError
from training.recipes import Recipe
from training.windows import WindowSet, fold_groups, hold_out_groups

__all__ = ["LEAST_COMPARED", "held_out_parts", "require_enough"]

LEAST_COMPARED = 5
"""Fewest groups on which a student can be shown to be better; see above."""
_LEAST_WINDOWS = 100
_LEAST_OF_CLASS = 10


def held_out_parts(groups: NDArray[np.int64], recipe: Recipe) -> list[NDArray[np.int64]]:
    """The groups that a recipe holds out, one part after the other with `folds`, or all at once."""
    if recipe.folds:
        return fold_groups(groups, recipe.folds, recipe.split_seed)
    return [hold_out_groups(groups, recipe.hold_out, recipe.split_seed)]


def require_enough(data: DataSet, recipe: Recipe, *, publish: bool) -> tuple[str, ...]:
    """Refuse data that are too few for what is asked.

    Args:
        data: The data set.
        recipe: Gives the split.
        publish: Whether the student is to be published if it is better.

    Returns:
        What publishing would need in addition, a sentence each; empty with `publish`.

    Raises:
        DataSetError: Something is too little; the message says all of it, and what would be enough.
    """
    faults = _to_train(data, recipe)
    wanted = [] if faults else _to_publish(data, recipe)
    if faults or (publish and wanted):
        place = f"{data.title}: too little for what is asked"
        if wanted:
            wanted.append("Without --publish, the student is trained and measured all the same")
            msg = f"{place}: {'. '.join(wanted)}"
            raise DataSetError(msg)
        raise DataSetError(several_faults(place, faults))
    return tuple(wanted)


def _to_train(data: DataSet, recipe: Recipe) -> list[str]:
    groups = np.unique(data.train.groups)
    word = data.group_word
    if len(groups) < 2:
        return [
            f"the data have {len(groups)} {word}, and a student is measured on {word}s that it has "
            f"not learned from: record one more {word} at least, {LEAST_COMPARED} to publish"
        ]
    if recipe.folds > len(groups):
        return [
            f"{recipe.folds} folds of {len(groups)} {word}s are too many: set folds to "
            f"{len(groups)} at most in the recipe"
        ]
    faults = []
    parts = held_out_parts(data.train.groups, recipe)
    seen = min(int((~np.isin(data.train.groups, part)).sum()) for part in parts)
    if seen < _LEAST_WINDOWS:
        faults.append(
            f"{seen} windows to learn from, and {_LEAST_WINDOWS} are the least: record longer, or "
            f"shorten window.length ({data.length}) or window.hop ({data.hop}) in the description"
        )
    return faults + (
        _failures(data, parts) if data.labels is None else _classes(data, data.labels, parts)
    )


def _failures(data: DataSet, parts: list[NDArray[np.int64]]) -> list[str]:
    """Numbers: on both sides somebody must have come below the cap."""
    word, failed = data.group_word, _groups_below_cap(data)
    if len(failed) < 2:
        return [
            f"{len(failed)} {word}s have windows whose answer is below the cap {data.largest}: a "
            f"student needs 2 at least, 1 to learn from and 1 to be measured on, and to publish "
            f"{LEAST_COMPARED} to be measured on. Record until more {word}s fail, or mark the ones "
            "that did"
        ]
    lost = [part for part in parts if not 0 < np.isin(failed, part).sum() < len(failed)]
    if not lost:
        return []
    names = ", ".join(data.name_groups(failed[:10]))
    return [
        f"{len(failed)} {word}s have failed ({names}), and the split of the recipe has all or none "
        f"of them on one side: set folds = {min(len(failed), 5)} in the recipe, or another "
        "split_seed, or raise hold_out"
    ]


def _classes(data: DataSet, labels: tuple[str, ...], parts: list[NDArray[np.int64]]) -> list[str]:
    faults, word = [], data.group_word
    for number, label in enumerate(labels):
        has = data.train.where(data.train.labels == number)
        groups = np.unique(has.groups)
        if len(has) < 2 * _LEAST_OF_CLASS or len(groups) < 2:
            faults.append(
                f"{label!r} has {len(has)} windows of {len(groups)} {word}s: it needs "
                f"{2 * _LEAST_OF_CLASS} windows of 2 {word}s. Record more of it, or add it "
                "to activity.ignore"
            )
            continue
        seen = min(int((~np.isin(has.groups, part)).sum()) for part in parts)
        if seen < _LEAST_OF_CLASS:
            faults.append(
                f"{label!r} has {seen} windows to learn from after the split, and "
                f"{_LEAST_OF_CLASS} are the least: record it with more {word}s, or choose another "
                "split_seed in the recipe"
            )
    return faults


def _to_publish(data: DataSet, recipe: Recipe) -> list[str]:
    word, groups = data.group_word, np.unique(data.train.groups)
    compared = np.unique(np.concatenate(held_out_parts(data.train.groups, recipe)))
    kind = f"{word}s"
    if data.labels is None:
        kind = f"{word}s that failed"
        groups, compared = (
            np.intersect1d(_groups_below_cap(data), one) for one in (groups, compared)
        )
    if len(compared) >= LEAST_COMPARED:
        return []
    lines = [
        f"{len(compared)} {kind} are held out, and to say that a student is better takes "
        f"{LEAST_COMPARED}: with fewer, one wins on all of them by chance too often"
    ]
    if len(groups) >= LEAST_COMPARED and not recipe.folds:
        lines.append(
            f"The data have {len(groups)} {kind}: set folds = {min(len(groups), 5)} in the recipe, "
            "which measures on all of them, or raise hold_out"
        )
    else:
        more = LEAST_COMPARED - len(groups)
        lines.append(
            f"The data have {len(groups)} {kind}: record {max(more, 1)} more, and set folds = "
            f"{LEAST_COMPARED} in the recipe"
        )
    return lines


def _groups_below_cap(data: DataSet) -> NDArray[np.int64]:
    part: WindowSet = data.train
    return np.unique(part.groups[part.labels < (data.largest or 0)])

"""Fewer labels to learn from: a share of the windows, with every class and every group kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.datasets.contract import DataSet

__all__ = ["keep_labels"]


def keep_labels(data: DataSet, held_out: NDArray[np.int64], share: float, seed: int) -> DataSet:
    """Drop most labels, and their windows, outside the held-out groups.

    Args:
        data: Data set; its test set is not read.
        held_out: Groups that keep all their windows.
        share: Share of the windows of every class to keep (of all windows where the answer is a
            number), at least one window.
        seed: Seed of the draw.
    """
    train = data.train
    random = np.random.default_rng(seed)
    is_kept = np.isin(train.groups, held_out)
    kinds = train.labels if data.labels is not None else np.zeros_like(train.labels)
    for kind in np.unique(kinds):
        places = np.flatnonzero(~np.isin(train.groups, held_out) & (kinds == kind))
        is_kept[random.permutation(places)[: max(round(share * len(places)), 1)]] = True
    return replace(data, train=train.where(is_kept))

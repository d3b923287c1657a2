"""Too little of something is told before the training, with what would be enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.datasets.dummy import make_dummy
from training.datasets.enough import require_enough
from training.errors import DataSetError
from training.recipes import Recipe
from training.windows import WindowSet

RUL = make_dummy("rul", groups=30)
HAR = make_dummy("activity", groups=30)


def part(data, groups: int, windows: int | None = None):
    kept = data.train.groups <= groups
    kept &= np.arange(len(kept)) < (windows or len(kept))
    return replace(data, train=data.train.where(kept))


def healthy(data, failed: int):
    """All engines but the first ones have not come below the cap."""
    train = data.train
    labels = np.where(train.groups <= failed, train.labels, data.largest)
    return replace(data, train=replace(train, labels=labels))


def rare(data, groups: int, label: int = 2):
    """A class that only some people show."""
    train: WindowSet = data.train
    return replace(data, train=train.where((train.labels != label) | (train.groups <= groups)))


FEW = {
    "one engine": (part(RUL, 1), {}, "the data have 1 engine", "record one more engine at least"),
    "more folds than engines": (
        part(RUL, 3),
        {"folds": 5},
        "5 folds of 3 engines",
        "set folds to 3",
    ),
    "few windows": (part(RUL, 9, 90), {}, "windows to learn from", "shorten window.length (30)"),
    "one failure": (
        healthy(RUL, 1),
        {},
        "1 engines have windows whose answer is below",
        "2 at least",
    ),
    "failures on one side": (
        healthy(RUL, 2),
        {},
        "all or none of them on one side",
        "set folds = 2",
    ),
    "a class of one person": (rare(HAR, 1), {}, "windows of 1 subjects", "activity.ignore"),
}


@pytest.mark.parametrize(("data", "changes", "told", "advice"), FEW.values(), ids=FEW)
def test_too_little_to_train(data, changes, told, advice):
    with pytest.raises(DataSetError) as refused:
        require_enough(data, Recipe(task=data.task, **changes), publish=False)
    assert told in str(refused.value)
    assert advice in str(refused.value)


def test_several_classes_that_are_too_rare_are_told_at_once():
    data = rare(rare(HAR, 1, 1), 1, 2)
    with pytest.raises(DataSetError, match="has 2 faults"):
        require_enough(data, Recipe(task=data.task), publish=False)


@pytest.mark.parametrize("data", [part(RUL, 10), part(HAR, 10)], ids=["number", "classes"])
def test_publishing_takes_five_groups_to_compare(data):
    few, enough = Recipe(task=data.task), Recipe(task=data.task, folds=5)
    lacking = require_enough(data, few, publish=False)
    assert "2 " in lacking[0]
    assert "takes 5" in lacking[0]
    assert "set folds = 5" in lacking[1]
    with pytest.raises(DataSetError, match="Without --publish"):
        require_enough(data, few, publish=True)
    assert require_enough(data, enough, publish=True) == ()

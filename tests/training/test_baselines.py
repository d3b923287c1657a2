"""Baselines are fitted on what a student may see, and measured on what it was measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("sklearn", reason="needs the extra [training]; make test installs it")

from training.baselines import judge_baselines
from training.datasets.dummy import make_dummy
from training.recipes import Recipe
from training.teachers.boosting import score_with_boosting
from training.windows import hold_out_groups

pytestmark = pytest.mark.needs_training
RUL = make_dummy("rul", groups=6)
HAR = make_dummy("activity", groups=6)
# Nothing tells these classes, so that no baseline is as good as a perfect student.
_SHUFFLED = np.random.default_rng(0).permutation(HAR.train.labels)
HAR = replace(HAR, train=replace(HAR.train, labels=_SHUFFLED))
HAR = replace(HAR, train=HAR.train.where(np.arange(len(HAR.train)) % 3 == 0))

_TWO = [part.where(part.labels < 2) for part in (HAR.train, HAR.test)]
TWO = replace(HAR, labels=HAR.labels[:2], train=_TWO[0], test=_TWO[1])


def held_out_of(data, recipe):
    if recipe.folds:
        return data.train
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    return data.train.of_groups(groups)


def unbeaten(rivals):
    return tuple(one.name for one in rivals if not one.comparison.is_better)


@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("data", [RUL, HAR, TWO], ids=["number", "classes", "two classes"])
def test_a_perfect_student_beats_every_baseline_and_a_useless_one_none(data, folds):
    recipe = Recipe(task=data.task, folds=folds, hold_out=0.4)
    held_out = held_out_of(data, recipe)
    if data.labels is None:
        perfect = held_out.labels.astype(np.float32)
        useless = np.full(len(held_out), 10_000, dtype=np.float32)
    else:
        perfect = np.eye(len(data.labels), dtype=np.float32)[held_out.labels]
        useless = np.roll(perfect, 1, axis=1)
    good = judge_baselines(data, recipe, held_out, perfect)
    assert [one.name for one in good] == ["constant", "ridge", "boosting"]
    assert unbeaten(good) == ()
    assert all(one.comparison.groups == len(np.unique(held_out.groups)) for one in good)
    bad = judge_baselines(data, recipe, held_out, useless)
    assert unbeaten(bad) == ("constant", "ridge", "boosting")
    assert {one.name: one.measures for one in bad} == {one.name: one.measures for one in good}


@pytest.mark.parametrize("data", [RUL, HAR, TWO], ids=["number", "classes", "two classes"])
def test_no_teacher_score_comes_from_trees_that_saw_the_group(data):
    recipe = Recipe(task=data.task)
    scores = score_with_boosting(data, recipe, data.train)
    assert len(scores) == len(data.train)
    group = data.train.groups[0]
    is_it = data.train.groups == group
    labels = np.where(is_it, 0, data.train.labels)
    again = score_with_boosting(data, recipe, replace(data.train, labels=labels))
    assert np.array_equal(again[is_it], scores[is_it])
    assert not np.array_equal(again[~is_it], scores[~is_it])

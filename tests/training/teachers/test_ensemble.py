"""The ensemble teacher: scores made out of fold."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.datasets.contract import fit_scaler
from training.datasets.dummy import make_dummy
from training.methods.build import build_method
from training.recipes import shipped_recipe
from training.teachers.ensemble import score_with_ensemble

pytestmark = pytest.mark.needs_training


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_the_teacher_scores_windows_it_has_not_seen(task):
    data = make_dummy(task, groups=3).train
    recipe = shipped_recipe("rul-fd001" if task == "rul" else "har-waist", epochs=1)
    scaler = fit_scaler("zscore", data.windows)
    answers = 126 if task == "rul" else 6
    scores = score_with_ensemble(recipe, data, scaler, answers, build_method, None)
    assert scores.shape == ((len(data),) if task == "rul" else (len(data), 6))
    # Labels of one person cannot change the scores of that person.
    one = data.groups == 2
    other = replace(data, labels=np.where(one, (data.labels + 1) % answers, data.labels))
    again = score_with_ensemble(recipe, other, scaler, answers, build_method, None)
    assert np.array_equal(scores[one], again[one])
    assert not np.array_equal(scores[~one], again[~one])

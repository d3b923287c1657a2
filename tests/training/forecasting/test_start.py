"""The ridge of a recipe: the fits without one stretch of time each."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.datasets.dummy_series import make_dummy_series
from training.forecasting.recipe import ForecastRecipe
from training.forecasting.start import fit_folds, fit_start
from training.forecasting.windows import series_of, training_windows
from training.students.ridge import Moments, fit_ridge

pytestmark = pytest.mark.needs_training

LENGTH, HORIZON, FOLDS = 20, 10, 4
RECIPE = ForecastRecipe(
    data="dummy-forecast", length=LENGTH, horizon=HORIZON, backtest=6, leads=(1,), student="ridge"
)
DATA = make_dummy_series(readings=400)


def test_every_training_window_is_held_out_once_in_stretches_of_time():
    windows = training_windows(DATA, RECIPE, 1)

    held = [rows for _, rows in fit_folds(DATA, RECIPE, fit_start(DATA, RECIPE), FOLDS)]

    assert len(held) == FOLDS
    assert sorted(np.concatenate([one.first for one in held])) == windows.first.tolist()
    for one in held:
        for device in (0, 1):
            own = one.first[one.device == device]
            assert (np.diff(own) == 1).all()
            assert len(own) == pytest.approx(
                np.mean(windows.device == device) * len(windows) / 4, abs=1
            )


def test_a_fold_is_fitted_on_the_windows_whose_targets_share_no_reading_with_it():
    factors = fit_start(DATA, RECIPE)
    windows = training_windows(DATA, RECIPE, 1)

    for found, held in fit_folds(DATA, RECIPE, factors, FOLDS):
        read = {row for first in held.first for row in range(first, first + HORIZON)}
        rest = [
            place
            for place, first in enumerate(windows.first)
            if not read & set(range(first, first + HORIZON))
        ]
        moments = Moments(LENGTH, HORIZON)
        moments.add(series_of(windows.inputs(rest)), series_of(windows.targets(rest)))
        wanted = fit_ridge(moments, factors.penalty, len(factors.up))
        assert len(found.up) == len(factors.up)
        # Weights of directions that hardly occur are rounding, which differs by processor; what the
        # two forecast is not, and one window more or less would show there.
        inputs = series_of(held.inputs())
        centred = inputs - inputs.mean(axis=1, keepdims=True)
        assert np.abs(centred @ (_weights(found) - _weights(wanted))).max() < 1e-3
        fewer = Moments(LENGTH, HORIZON)
        fewer.add(series_of(windows.inputs(rest[1:])), series_of(windows.targets(rest[1:])))
        other = fit_ridge(fewer, factors.penalty, len(factors.up))
        assert np.abs(centred @ (_weights(other) - _weights(wanted))).max() > 1e-2


def _weights(ridge):
    return ridge.down @ ridge.up


def test_a_fold_that_leaves_nothing_to_fit_on_is_passed_over():
    assert list(fit_folds(DATA, RECIPE, fit_start(DATA, RECIPE), 1)) == []

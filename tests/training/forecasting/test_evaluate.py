"""Measures: literal formulas, baselines, coverage, paired intervals."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.forecasting.evaluate import (  # noqa: E402
    Measured,
    last_value,
    measure_baseline,
    measure_student,
    paired_interval,
    seasonal_naive,
)
from training.forecasting.loop import train_student  # noqa: E402
from training.forecasting.quantiles import set_bands  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(
    data="dummy-forecast", length=30, horizon=26, backtest=6, leads=(1,), student="ridge"
)
DATA = make_dummy_series(readings=600)


@pytest.fixture(scope="module", params=["ridge", "mlp"])
def student(request):
    recipe = dataclasses.replace(RECIPE, student=request.param, epochs=1, steps=5, width=8, rank=4)
    trained = train_student(recipe, DATA)
    set_bands(trained, DATA, recipe)
    return trained.student


def test_measures_are_means_over_windows_steps_and_channels(student):
    windows = DATA.windows("test", 30, 26)
    with torch.no_grad():
        found = student(torch.from_numpy(windows.inputs())).numpy()
    truth = windows.targets()
    apart = truth - found[..., 1]
    losses = [
        np.maximum(level * (truth - found[..., place]), (level - 1) * (truth - found[..., place]))
        for place, level in enumerate((0.1, 0.5, 0.9))
    ]
    inside = (found[..., 0] <= truth) & (truth <= found[..., 2])

    measured = measure_student(student, windows)

    assert measured.mse == pytest.approx(np.square(apart).mean(), rel=1e-4)
    assert measured.mae == pytest.approx(np.abs(apart).mean(), rel=1e-4)
    assert measured.pinball == pytest.approx(np.mean(losses), rel=1e-4)
    steps = inside.mean(axis=(0, 2))
    assert np.allclose(measured.coverage, steps)
    assert measured.steps_near == np.mean([0.78 <= share <= 0.82 for share in steps])
    assert np.allclose(measured.window_errors, np.square(apart).mean(axis=(1, 2)), rtol=1e-4)


def test_seasonal_naive_repeats_the_newest_season():
    inputs = torch.arange(30.0).reshape(1, 30, 1)

    found = seasonal_naive(24, 26)(inputs)[0, :, 0]

    assert found.tolist() == [*map(float, range(6, 30)), 6.0, 7.0]
    assert torch.equal(seasonal_naive(48, 3)(inputs), last_value(3)(inputs))


def test_a_baseline_without_a_band_has_no_coverage():
    windows = DATA.windows("test", 30, 26)

    measured = measure_baseline(last_value(26), windows)

    apart = windows.targets() - windows.inputs()[:, -1:]
    assert measured.mse == pytest.approx(np.square(apart).mean(), rel=1e-5)
    assert np.isnan(measured.pinball)
    assert np.isnan(measured.coverage).all()
    assert np.isnan(measured.steps_near)


def test_the_interval_of_a_constant_difference_is_that_difference():
    errors = np.random.default_rng(0).uniform(1, 2, 500)

    found = paired_interval(errors + 0.25, errors, 24)

    assert (found.difference, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_covers_the_true_mean_of_correlated_differences():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        steps = random.normal(size=1200)
        errors = np.convolve(steps, np.ones(25) / 25, mode="valid")  # true mean 0
        found = paired_interval(errors, np.zeros_like(errors), 50)
        hits += found.low <= 0 <= found.high

    assert hits >= 85


def test_errors_of_other_windows_are_refused():
    with pytest.raises(ValueError, match="not of the same windows"):
        paired_interval(np.zeros(4), np.zeros(5), 2)


def test_the_promise_is_kept_within_two_points_by_a_share_of_the_steps():
    some = Measured(0.0, 0.0, 0.0, np.array([0.77, 0.78, 0.80, 0.82, 0.83]), np.zeros(1))

    assert some.steps_near == 0.6

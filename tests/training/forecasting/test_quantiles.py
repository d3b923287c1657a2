"""The band: what it is set on, and that a season of small or large errors does not rule it."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.forecasting.evaluate import measure_student  # noqa: E402
from training.forecasting.loop import train_student  # noqa: E402
from training.forecasting.quantiles import set_bands  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402
from training.forecasting.windows import validation_windows  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(
    data="dummy-forecast", length=30, horizon=12, backtest=6, leads=(1,), width=8, rank=4,
    epochs=1, steps=20, least_gain=0.0,
)  # fmt: skip
READINGS = 2000


def validation_factors(student, data):
    """The 90 % quantiles of the distances below and above p50 on validation, in widths."""
    windows = validation_windows(data, RECIPE)
    series = torch.from_numpy(windows.inputs()).transpose(1, 2).reshape(-1, 30)
    truth = torch.from_numpy(windows.targets()).transpose(1, 2).reshape(-1, 12)
    with torch.no_grad():
        middle, deviation, features = student.forecast(series)
        lower, upper = student.widths(deviation, features)
    found = []
    for apart in ((middle - truth) / lower, (truth - middle) / upper):
        ordered = np.sort(apart.reshape(-1, 3, 12).numpy(), axis=0)
        found.append(ordered[int(np.ceil(0.9 * (len(ordered) + 1))) - 1])
    return np.stack(found)


def seasons(*noise):
    """A wave on which the noise of every fifth of the time has another deviation."""
    data = make_dummy_series(devices=1, readings=READINGS)
    wave = np.sin(np.arange(READINGS) * 2 * np.pi / 24)[:, None] * np.ones(3)
    level = np.repeat(noise, READINGS // len(noise))[:, None]
    rows = wave + level * np.random.default_rng(0).normal(size=wave.shape)
    return dataclasses.replace(data, series=(rows.astype(np.float32),))


def test_both_parts_weigh_by_their_length():
    # Training is 70 % of the time with little noise, validation 10 %, test 20 % (not read).
    quiet = seasons(*[0.1] * 7, 0.5, 0.1, 0.1)
    trained = train_student(dataclasses.replace(RECIPE, student="ridge"), quiet)

    set_bands(trained, quiet, RECIPE)

    inside = {
        part: measure_student(trained.ridge, quiet.windows(part, 30, 12)).mean_coverage
        for part in ("train", "validation", "test")
    }
    assert inside["validation"] < 0.6
    assert 0.8 < inside["train"] < 0.9
    assert (7 * inside["train"] + inside["validation"]) / 8 == pytest.approx(0.8, abs=0.03)
    assert inside["test"] == pytest.approx(inside["train"], abs=0.04)


def test_a_band_without_seasons_keeps_its_promise_on_later_time():
    even = seasons(*[0.3] * 10)
    trained = train_student(dataclasses.replace(RECIPE, student="ridge"), even)

    set_bands(trained, even, RECIPE)

    measured = measure_student(trained.ridge, even.windows("test", 30, 12))
    assert measured.coverage.min() > 0.75
    assert measured.coverage.max() < 0.85


def test_a_network_has_the_band_of_its_ridge_times_their_ratio_on_validation():
    data = seasons(*[0.1] * 7, 0.5, 0.1, 0.1)
    trained = train_student(RECIPE, data)
    assert trained.student.width is not None
    torch.nn.init.normal_(trained.student.width.weight)  # widths that follow the window

    set_bands(trained, data, RECIPE)

    found, ridge = (
        torch.stack([one.below, one.above]).numpy() for one in (trained.student, trained.ridge)
    )
    own, whole = (validation_factors(one, data) for one in (trained.student, trained.ridge))
    assert not np.allclose(own, whole, rtol=0.1)
    assert np.allclose(found, ridge * own / whole, rtol=1e-3)


def test_a_recording_too_short_for_folds_is_calibrated_on_validation():
    short = make_dummy_series(devices=1, readings=260)
    recipe = dataclasses.replace(RECIPE, student="ridge", length=30, horizon=24)
    trained = train_student(recipe, short)

    set_bands(trained, short, recipe)

    assert torch.isfinite(trained.ridge.below).all()
    assert (trained.ridge.below + trained.ridge.above > 0).all()

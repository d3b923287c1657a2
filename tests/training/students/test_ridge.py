"""The closed form: what it solves, and how it chooses."""

import numpy as np
import pytest

from training.students.ridge import Moments, choose_ridge, solve_ridge

LENGTH, HORIZON = 12, 5


@pytest.fixture
def series():
    random = np.random.default_rng(3)
    time = np.arange(400)[:, None] + random.uniform(0, 24, 400)[:, None]
    waves = np.sin(2 * np.pi * (time + np.arange(LENGTH + HORIZON)) / 12)
    level = random.normal(0, 5, (400, 1))
    return (level + waves + 0.1 * random.normal(size=waves.shape)).astype(np.float32)


def split(rows):
    return rows[:, :LENGTH], rows[:, LENGTH:]


def moments_of(rows):
    found = Moments(LENGTH, HORIZON)
    for part in np.array_split(rows, 3):
        found.add(*split(part))
    return found


def test_weights_are_those_of_a_least_squares_fit_on_centred_windows(series):
    inputs, targets = split(series.astype(np.float64))
    mean = inputs.mean(axis=1, keepdims=True)
    penalty = 0.1
    strength = penalty * np.square(inputs - mean).sum() / LENGTH
    rows = np.concatenate([inputs - mean, np.sqrt(strength) * np.eye(LENGTH)])
    wanted, *_ = np.linalg.lstsq(
        rows, np.concatenate([targets - mean, np.zeros((LENGTH, HORIZON))]), rcond=None
    )

    found = solve_ridge(moments_of(series), penalty)

    assert np.abs(found - wanted).max() < 1e-4


def test_the_error_of_the_choice_is_that_of_its_forecasts(series):
    known = series[300:]

    chosen = choose_ridge(moments_of(series[:300]), lambda: iter([split(known)]), ranks=(2, 4))

    inputs, targets = split(known)
    mean = inputs.mean(axis=1, keepdims=True)
    forecasts = mean + (inputs - mean) @ chosen.down @ chosen.up
    assert chosen.error == pytest.approx(np.square(forecasts - targets).mean(), rel=1e-3)


def test_validation_chooses_the_penalty_and_the_rank(series):
    noise = np.random.default_rng(0).normal(size=(300, LENGTH + HORIZON)).astype(np.float32)

    sine = choose_ridge(moments_of(series), lambda: iter([split(series)]), ranks=(1, 2))
    flat = choose_ridge(moments_of(noise[:40]), lambda: iter([split(noise[40:])]), ranks=(1, 2))

    assert sine.down.shape[1] == 2  # a sine of unknown phase has two dimensions
    assert flat.down.shape[1] == 1
    assert sine.penalty < flat.penalty


def test_a_rank_above_the_horizon_is_cut_to_it(series):
    chosen = choose_ridge(moments_of(series), lambda: iter([split(series)]), ranks=(64,))

    assert chosen.down.shape == (LENGTH, HORIZON)
    assert chosen.up.shape == (HORIZON, HORIZON)

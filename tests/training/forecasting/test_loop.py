"""The training loop: determinism, resuming, the choice on validation, teachers, few-shot."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.errors import CheckpointError, DataSetError, RecipeError  # noqa: E402
from training.forecasting.loop import forecast_error, train_student  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402
from training.forecasting.windows import training_windows, validation_windows  # noqa: E402
from training.teachers.products import Products  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(
    data="dummy-forecast", length=24, horizon=12, backtest=6, leads=(1, 12), width=16, rank=4,
    epochs=3, steps=40, batch_size=32, learning_rate=1e-2, average_decay=0.8,
)  # fmt: skip
TAUGHT = dataclasses.replace(RECIPE, teacher="made up")
DATA = make_dummy_series(readings=500)


def weights(trained):
    return torch.cat([one.flatten() for one in trained.student.state_dict().values()])


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others():
    first, again = train_student(RECIPE, DATA), train_student(RECIPE, DATA)
    other = train_student(dataclasses.replace(RECIPE, seed=1), DATA)

    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    stopped = []

    def stop(done):
        stopped.append(done.number)
        if done.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(RECIPE, DATA, folder=tmp_path, on_pass=stop)
    resumed = train_student(
        RECIPE, DATA, folder=tmp_path, on_pass=lambda done: stopped.append(done.number)
    )

    assert stopped == [0, 1, 2, 3]
    assert torch.equal(weights(resumed), weights(train_student(RECIPE, DATA)))


def test_a_run_out_of_time_gives_no_student(tmp_path):
    assert train_student(RECIPE, DATA, folder=tmp_path, deadline_s=time.monotonic()) is None


def test_the_state_of_another_run_is_refused(tmp_path):
    train_student(RECIPE, DATA, folder=tmp_path)

    with pytest.raises(CheckpointError, match="another recipe"):
        train_student(dataclasses.replace(RECIPE, dropout=0.5), DATA, folder=tmp_path)


def test_training_beats_the_ridge_and_the_reported_errors_are_those_of_the_students():
    trained = train_student(RECIPE, DATA)
    known = validation_windows(DATA, RECIPE)

    assert trained.best > 0
    assert trained.validation < trained.ridge_validation
    assert trained.validation == pytest.approx(forecast_error(trained.student, known))
    assert trained.ridge_validation == pytest.approx(forecast_error(trained.ridge, known))


def test_a_network_that_only_gets_worse_stays_the_ridge():
    wild = dataclasses.replace(RECIPE, learning_rate=10.0, steps=30, average_decay=0.0)

    trained = train_student(wild, DATA)

    assert trained.best == 0
    assert trained.validation == pytest.approx(trained.ridge_validation)


def test_a_gain_below_the_least_one_does_not_replace_the_ridge():
    found = train_student(dataclasses.replace(RECIPE, least_gain=0.0), DATA)
    gain = 1 - found.validation / found.ridge_validation

    kept = train_student(dataclasses.replace(RECIPE, least_gain=1.01 * gain), DATA)

    assert gain > 0
    assert (found.best > 0, kept.best) == (True, 0)


def test_the_run_ends_when_validation_does_not_improve():
    wild = dataclasses.replace(RECIPE, learning_rate=10.0, epochs=50, patience=2)

    trained = train_student(wild, DATA)

    assert len(trained.passes) - 1 == trained.best + 2


def test_the_test_part_has_no_influence():
    changed = dataclasses.replace(
        DATA,
        series=tuple(
            np.concatenate([rows[:end], rows[end:] * 3 + 1]).astype(np.float32)
            for rows, (_, end, _) in zip(DATA.series, DATA.borders, strict=True)
        ),
    )

    assert torch.equal(
        weights(train_student(RECIPE, DATA)), weights(train_student(RECIPE, changed))
    )


def test_a_share_keeps_the_windows_at_the_beginning_of_every_device():
    few = training_windows(DATA, dataclasses.replace(RECIPE, share=0.2), 1)
    every = training_windows(DATA, RECIPE, 1)

    starts = np.cumsum([0, *(len(rows) for rows in DATA.series)])
    last = few.first + few.horizon - starts[few.device]
    assert set(few.device) == {0, 1}
    rows = int((DATA.borders[0][0] - RECIPE.length) * 0.2) + RECIPE.length
    assert last.max() == rows  # as in the few-shot protocol of the literature
    assert set(few.first) < set(every.first)


def test_a_share_without_a_window_is_refused():
    with pytest.raises(DataSetError, match="larger share"):
        training_windows(DATA, dataclasses.replace(RECIPE, share=0.01), 1)


def teacher(noise, features=None):
    windows = training_windows(DATA, RECIPE, RECIPE.stride)
    truth = windows.targets()
    random = np.random.default_rng(0)
    forecasts = truth + noise * random.uniform(0.5, 1, truth.shape)
    return Products(forecasts.astype(np.float16), features or {}, {"key": str(noise)})


def test_a_teacher_changes_the_student_only_where_it_is_nearer_to_the_truth():
    plain = train_student(RECIPE, DATA)
    useless = train_student(TAUGHT, DATA, products=teacher(1e3))
    good = train_student(TAUGHT, DATA, products=teacher(0.01))

    assert torch.equal(weights(plain), weights(useless))
    assert not torch.equal(weights(plain), weights(good))


def test_scales_and_features_of_a_teacher_enter_the_loss():
    count = len(training_windows(DATA, RECIPE, RECIPE.stride))
    shape = (count, len(DATA.channels), 5)
    features = {"4": np.random.default_rng(1).normal(size=shape).astype(np.float16)}
    found = [
        weights(train_student(dataclasses.replace(TAUGHT, **change), DATA, products=products))
        for products in [teacher(0.01, features)]
        for change in ({}, {"scales_weight": 1.0}, {"features_weight": 1.0})
    ]

    assert not any(torch.equal(one, other) for one, other in itertools.combinations(found, 2))


def test_products_of_other_windows_are_refused():
    few = Products(teacher(0.1).forecasts[:-1])

    with pytest.raises(DataSetError, match="run the teacher"):
        train_student(TAUGHT, DATA, products=few)


def test_a_teacher_without_products_and_products_without_a_teacher_are_refused():
    with pytest.raises(RecipeError, match="teacher is 'made up', but there are no products"):
        train_student(TAUGHT, DATA)
    with pytest.raises(RecipeError, match="name their teacher"):
        train_student(RECIPE, DATA, products=teacher(0.01))

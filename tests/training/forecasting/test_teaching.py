"""Products for a student by the name of its teacher: controls without a language model."""

import dataclasses
import re
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from tests.fakes.smallseries import make_series  # noqa: E402
from training.errors import RecipeError  # noqa: E402
from training.forecasting import teaching  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402
from training.forecasting.teaching import TEACHERS, teacher_products  # noqa: E402
from training.forecasting.windows import training_windows  # noqa: E402

pytestmark = pytest.mark.needs_training

DATA = make_series()
RECIPE = ForecastRecipe(
    data="made-up", length=24, horizon=6, backtest=6, leads=(1,), width=8, rank=4, epochs=1,
    steps=5, stride=3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_members(monkeypatch):
    small = tuple({**member, "width": 8, "rank": 4} for member in teaching._MEMBERS["ensemble"][:2])
    monkeypatch.setitem(teaching._MEMBERS, "ensemble", small)


def named(teacher, **changes):
    return dataclasses.replace(RECIPE, teacher=teacher, **changes)


@pytest.mark.parametrize(("teacher", "members"), [("ridge", 1), ("ensemble", 2)])
def test_networks_speak_of_the_student_s_windows_and_are_trained_once(tmp_path, teacher, members):
    found = teacher_products(named(teacher), DATA, tmp_path)
    windows = training_windows(DATA, RECIPE, RECIPE.stride)

    assert found.forecasts.shape == windows.targets().shape
    assert np.square(found.forecasts - windows.targets()).mean() < 0.6 * windows.targets().var()
    assert found.header["validation"] > 0
    assert len(found.header["best_passes"]) == members
    for seed in (1, 2):
        again = teacher_products(named(teacher, seed=seed), DATA, tmp_path)
        assert again.header == found.header
    assert len(list(tmp_path.iterdir())) == 1


def test_another_teacher_seed_trains_the_teacher_anew_and_the_ridge_has_no_luck(tmp_path):
    first, other = (
        teacher_products(named("ensemble", teacher_seed=n), DATA, tmp_path) for n in (0, 1)
    )
    assert first.header["key"] != other.header["key"]
    first_seed, other_seed = (
        min(
            int(seed)
            for seed in re.findall(r"seed = (\d+)", one.header["request"]["config"]["members"])
        )
        for one in (first, other)
    )
    assert (first_seed, other_seed) == (100, 110)
    ridges = [teacher_products(named("ridge", teacher_seed=n), DATA, tmp_path) for n in (0, 1)]
    assert ridges[0].header == ridges[1].header


@pytest.mark.parametrize("teacher", ["llata", "timellm-random", "llata-shuffled"])
def test_a_teacher_with_a_language_model_gets_the_teacher_seed(tmp_path, monkeypatch, teacher):
    asked = {}
    monkeypatch.setattr(teaching, "products_of", lambda *_, **settings: asked.update(settings))
    teacher_products(named(teacher, seed=5, teacher_seed=3), DATA, tmp_path)
    assert asked["seed"] == 3


def test_shuffled_products_are_the_same_forecasts_of_other_windows(tmp_path):
    asked = named("llata-none", length=32, horizon=8)
    found = teacher_products(asked, DATA, tmp_path)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(teaching, "products_of", lambda name, *_, **__: found)
        mixed = teacher_products(named("llata-shuffled"), DATA, tmp_path)
        other = teacher_products(named("llata-shuffled", seed=1), DATA, tmp_path)

    assert not np.array_equal(mixed.forecasts, found.forecasts)
    assert not np.array_equal(mixed.forecasts, other.forecasts)
    np.testing.assert_array_equal(
        np.sort(mixed.forecasts.sum(axis=(1, 2), dtype=np.float64)),
        np.sort(np.asarray(found.forecasts).sum(axis=(1, 2), dtype=np.float64)),
    )
    assert mixed.header["key"] != found.header["key"] != other.header["key"]


def test_no_teacher_no_time_and_an_unknown_teacher(tmp_path):
    assert teacher_products(RECIPE, DATA, tmp_path) is None
    out_of_time = teacher_products(named("ensemble"), DATA, tmp_path, deadline_s=time.monotonic())
    assert out_of_time is None
    with pytest.raises(RecipeError, match="'gpt2', expected one of none, ridge, ensemble, llata"):
        teacher_products(named("gpt2"), DATA, tmp_path)
    assert {"llata-random", "timellm-none", "llata-shuffled"} < set(TEACHERS)

import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.fakes.smallseries import make_series
from training.errors import TeacherError
from training.teachers.forecast_teachers import (
    FORECAST_TEACHERS,
    products_of,
    training_stride,
)

pytestmark = pytest.mark.needs_training

DATA = make_series()


@pytest.mark.parametrize("teacher", ["llata-none", "timellm-none"])
def test_products_are_of_the_windows_of_the_student(tmp_path, teacher):
    found = products_of(teacher, DATA, tmp_path, length=32, horizon=8, stride=5)
    windows = DATA.windows("train", 32, 8, 5)
    assert len(found) == len(windows)
    # The teachers start from the ridge, and half of the variance is a rhythm.
    assert np.square(found.forecasts - windows.targets()).mean() < 0.6 * windows.targets().var()
    again = products_of(teacher, DATA, tmp_path, length=32, horizon=8, stride=5)
    assert again.header["key"] == found.header["key"]
    np.testing.assert_array_equal(again.forecasts, found.forecasts)


def test_no_teacher_has_no_products_and_an_unknown_one_is_refused(tmp_path):
    assert products_of("none", DATA, tmp_path, length=32, horizon=8) is None
    with pytest.raises(TeacherError, match="'gpt2', expected none or one of llata, llata-minilm"):
        products_of("gpt2", DATA, tmp_path, length=32, horizon=8)
    assert {"llata-random", "timellm-none"} < set(FORECAST_TEACHERS)


@pytest.mark.parametrize(("share", "stride"), [(1.0, 11), (0.3, 5), (0.1, 1)])
def test_training_windows_are_few_and_hit_all_hours(share, stride):
    data = replace(make_series(rows=12_000), borders=((8640, 11_520, 12_000),), period=24)
    assert training_stride(data, 96, 96, share) == stride
    assert math.gcd(stride, 24) == 1


@pytest.mark.parametrize("teacher", ["llata-none", "timellm-none"])
def test_the_first_training_has_the_default_seed_and_the_next_another(
    tmp_path, monkeypatch, teacher
):
    asked = []

    def note(data, config, folder, **settings):
        asked.append(config)
        return SimpleNamespace(products=None)

    method = teacher.partition("-")[0]
    monkeypatch.setattr(f"training.teachers.forecast_teachers.train_{method}", note)
    for settings in ({}, {"seed": 0}, {"seed": 2}):
        products_of(teacher, DATA, tmp_path, length=32, horizon=8, **settings)
    first, again, third = asked
    assert first == again == replace(third, seed=type(third)().seed)
    assert third.seed == first.seed + 2


@pytest.mark.parametrize("method", ["llata", "timellm"])
def test_all_variants_of_a_method_differ_in_their_language_model_only(
    tmp_path, monkeypatch, method
):
    asked = []

    def note(data, config, folder, **settings):
        asked.append(asdict(config))
        return SimpleNamespace(products=None)

    monkeypatch.setattr(f"training.teachers.forecast_teachers.train_{method}", note)
    for end in ("", "-minilm", "-random", "-none"):
        products_of(method + end, DATA, tmp_path, length=32, horizon=8)
    own = {"backbone", "weights", "text"}
    shared = [{k: v for k, v in one.items() if k not in own} for one in asked]
    assert all(one == shared[0] for one in shared)
    assert [(one["backbone"], one["weights"]) for one in asked] == [
        ("smollm2", "trained"),
        ("minilm", "trained"),
        ("smollm2", "random"),
        ("none", "trained"),
    ]

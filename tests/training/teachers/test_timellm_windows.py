"""Windows of one channel each, their order, their prompts, and the ridge."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from tests.fakes.smallseries import SMALL_TIMELLM, make_series  # noqa: E402
from training.datasets.ett import read_ett  # noqa: E402
from training.teachers.timellm_config import TimeLLMConfig  # noqa: E402
from training.teachers.timellm_windows import (  # noqa: E402
    channel_windows,
    few_windows,
    fit_ridge,
    share_prompts,
)

pytestmark = pytest.mark.needs_training


@pytest.fixture(scope="module")
def data():
    """Two devices of different length."""
    one, other = make_series(), make_series(rows=260, seed=1)
    return replace(
        one,
        devices=("one", "other"),
        series=one.series + other.series,
        times_ms=one.times_ms + other.times_ms,
        borders=((120, 160, 210), (150, 200, 260)),
    )


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("stride", [1, 3])
def test_few_windows_are_those_of_the_series(data, part, stride):
    found = few_windows(data, SMALL_TIMELLM, part, stride)
    asked = data.windows(part, 32, 8, stride)
    assert np.array_equal(found.first, asked.first)
    assert np.array_equal(found.device, asked.device)


def test_a_share_is_the_oldest_of_each_device(data):
    found = few_windows(data, SMALL_TIMELLM, "train", 1, 0.5)
    whole = data.windows("train", 32, 8)
    for device, (train_end, _, _) in enumerate(data.borders):
        rows = int((train_end - 32) * 0.5) + 32
        expected = whole.first[whole.device == device][: rows - 32 - 8 + 1]
        assert np.array_equal(found.first[found.device == device], expected)


def test_a_row_is_a_channel_of_a_window_with_its_own_prompt(data):
    windows = few_windows(data, SMALL_TIMELLM, "train", 5)
    found = channel_windows(data, replace(SMALL_TIMELLM, statistics="exact"), windows)
    inputs, targets = windows.inputs(), windows.targets()
    for row in (0, 1, 7, len(found) - 1):
        window, channel = divmod(row, 2)
        assert np.array_equal(found.inputs[row], inputs[window, :, channel])
        assert np.array_equal(found.targets[row], targets[window, :, channel])
        values = inputs[window, :, channel].astype(float)
        lowest = (values.min() - values.mean()) / np.sqrt(values.var() + 1e-5)
        assert f"min {lowest:.3f};" in found.prompts.texts[found.prompts.index[row]]


def test_chosen_windows_keep_their_channels_and_prompts(data):
    whole = few_windows(data, SMALL_TIMELLM, "train", 1)
    few = few_windows(data, SMALL_TIMELLM, "train", 2)
    found = channel_windows(data, SMALL_TIMELLM, whole)
    asked = channel_windows(data, SMALL_TIMELLM, few)
    kept = found.at(np.searchsorted(whole.first, few.first))
    assert torch.equal(kept.inputs, asked.inputs)
    texts = [kept.prompts.texts[place] for place in kept.prompts.index]
    assert texts == [asked.prompts.texts[place] for place in asked.prompts.index]


def test_parts_share_one_list_of_prompts(data):
    parts = [
        channel_windows(data, SMALL_TIMELLM, few_windows(data, SMALL_TIMELLM, part, 1))
        for part in ("train", "validation")
    ]
    texts, shared = share_prompts(parts)
    assert list(texts) == sorted({text for part in parts for text in part.prompts.texts})
    for before, after in zip(parts, shared, strict=True):
        assert after.prompts.texts == texts
        assert [texts[place] for place in after.prompts.index] == [
            before.prompts.texts[place] for place in before.prompts.index
        ]


def test_the_ridge_solves_its_normal_equations(data):
    train, held_out = (
        channel_windows(data, SMALL_TIMELLM, few_windows(data, SMALL_TIMELLM, part, 1))
        for part in ("train", "validation")
    )
    weights = fit_ridge(train, held_out).double().numpy()
    mean = train.inputs.numpy().mean(axis=1, keepdims=True)
    inputs, targets = train.inputs.numpy() - mean, train.targets.numpy() - mean
    candidates = [
        np.linalg.solve(inputs.T @ inputs + penalty * np.eye(32), inputs.T @ targets).T
        for penalty in (1, 10, 100, 1000, 10_000)
    ]
    errors = []
    centre = held_out.inputs.numpy().mean(axis=1, keepdims=True)
    for candidate in candidates:
        forecast = (held_out.inputs.numpy() - centre) @ candidate.T + centre
        errors.append(np.mean((forecast - held_out.targets.numpy()) ** 2))
    np.testing.assert_allclose(weights, candidates[int(np.argmin(errors))], atol=1e-3)


@pytest.mark.needs_data
@pytest.mark.slow
def test_one_linear_map_reaches_the_number_of_the_literature_on_etth1(data_dir):
    """Acceptance check 7: look-back 336, horizon 96, test MSE about 0.375 (DLinear)."""
    etth1 = read_ett(data_dir / "ett.zip", "ETTh1")
    config = TimeLLMConfig(backbone="none", length=336)
    train, held_out, test = (
        channel_windows(etth1, config, few_windows(etth1, config, part, stride))
        for part, stride in (("train", 1), ("validation", 7), ("test", 7))
    )
    weights = fit_ridge(train, held_out)
    mean = test.inputs.mean(dim=1, keepdim=True)
    error = (test.inputs - mean) @ weights.T + mean - test.targets
    assert float(error.square().mean()) == pytest.approx(0.375, abs=0.01)

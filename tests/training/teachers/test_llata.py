import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.fakes.smallseries import make_series  # noqa: E402
from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.datasets.ett import read_ett  # noqa: E402
from training.errors import TeacherError  # noqa: E402
from training.teachers.llata import train_llata  # noqa: E402
from training.teachers.llata_config import LlataConfig  # noqa: E402
from training.teachers.llata_training import (  # noqa: E402
    forecast_windows,
    may_text_teach,
)
from training.teachers.llata_windows import fit_ridge, training_windows  # noqa: E402

pytestmark = pytest.mark.needs_training

DATA = make_series()
CONFIG = LlataConfig(
    heads=4,
    word_count=9,
    epochs=3,
    batch=32,
    stride=2,
    product_stride=3,
    rate=1e-3,
    start="none",
)


def load(name, blocks, random_weights_seed=None):
    assert name == "smollm2"
    return tiny_backbone(seed=random_weights_seed or 0)


def train(folder, config=CONFIG, data=DATA, **options):
    return train_llata(data, config, folder, length=16, horizon=4, **{"load": load, **options})


@pytest.mark.parametrize("text", ["cached", "live", "off"])
def test_products_are_the_forecasts_of_the_training_windows(tmp_path, text):
    run = train(tmp_path, replace(CONFIG, text=text))
    windows = training_windows(DATA, 16, 4, 3)
    assert len(run.products) == len(windows)
    expected = forecast_windows(run.net, windows)
    np.testing.assert_allclose(run.products.forecasts, expected, atol=2e-3)
    best = min(epoch.validation for epoch in run.history)
    assert run.products.header["validation"] == best
    assert run.products.header["weights_hash"] == "random seed 0"
    assert run.history[-1].losses["task"] < run.history[0].losses["task"]


def test_features_are_the_last_states_of_the_temporal_branch(tmp_path):
    run = train(tmp_path, replace(CONFIG, text="off", features=True, epochs=1, blocks=2))
    inputs = training_windows(DATA, 16, 4, 3).inputs()
    with torch.no_grad():
        states = run.net(torch.from_numpy(inputs)).time_states
    assert set(run.products.features) == {"time-2"}
    np.testing.assert_allclose(run.products.features["time-2"], states[2].numpy(), atol=5e-3)


def test_a_second_run_needs_no_language_model(tmp_path):
    first = train(tmp_path)

    def refuse(name, blocks, random_weights_seed=None):
        pytest.fail("a language model was loaded")

    second = train(tmp_path, load=refuse)
    np.testing.assert_array_equal(second.products.forecasts, first.products.forecasts)
    assert second.history == first.history
    assert second.net is None


def test_the_same_run_gives_the_same_products(tmp_path):
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    np.testing.assert_array_equal(first.products.forecasts, second.products.forecasts)
    other = train(tmp_path / "c", replace(CONFIG, seed=2))
    assert not np.array_equal(first.products.forecasts, other.products.forecasts)


@pytest.mark.parametrize("text", ["cached", "live"])
def test_an_interrupted_run_continues_as_if_it_had_not_been(tmp_path, text):
    config = replace(CONFIG, text=text)
    whole = train(tmp_path / "a", config)

    class Killed(Exception):
        pass

    def kill(epoch):
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path / "b", config, on_epoch=kill)
    rest = train(tmp_path / "b", config)
    assert [e.validation for e in rest.history] == [e.validation for e in whole.history]
    np.testing.assert_array_equal(rest.products.forecasts, whole.products.forecasts)


def test_a_deadline_ends_the_run_without_products(tmp_path):
    run = train(tmp_path, deadline_s=time.monotonic())
    assert (run.products, run.net, run.history) == (None, None, ())


def test_the_test_part_is_not_read(tmp_path):
    rows = DATA.series[0].copy()
    rows[DATA.borders[0][1] :] = 1e6
    other = replace(DATA, series=(rows,))
    run = train(tmp_path / "a", data=other)
    np.testing.assert_array_equal(run.products.forecasts, train(tmp_path / "b").products.forecasts)


def test_a_run_from_ridge_gives_the_ridge_back_if_no_pass_is_better(tmp_path):
    run = train(tmp_path, replace(CONFIG, start="ridge", rate=3.0, patience=2, text="cached"))
    errors = [epoch.validation for epoch in run.history]
    assert [epoch.number for epoch in run.history] == [0, 1, 2]
    assert min(errors) == errors[0] == run.history[0].text_validation
    windows = training_windows(DATA, 16, 4, 2)
    weights = fit_ridge(windows, DATA.windows("validation", 16, 4, CONFIG.validation_stride))
    inputs = training_windows(DATA, 16, 4, 3).inputs()
    mean = inputs.mean(axis=1, keepdims=True)
    expected = np.einsum("ntc,th->nhc", inputs - mean, weights) + mean
    np.testing.assert_allclose(run.products.forecasts, expected, atol=3e-3)


def test_a_run_from_ridge_gets_better_than_the_ridge_and_can_be_interrupted(tmp_path):
    config = replace(CONFIG, start="ridge", stride=1, rate=0.01, epochs=2)
    rooms = make_dummy_series(devices=1, readings=700)
    whole = train(tmp_path / "a", config, rooms)
    assert min(epoch.validation for epoch in whole.history) < whole.history[0].validation

    def kill(epoch):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "b", config, rooms, on_epoch=kill)
    rest = train(tmp_path / "b", config, rooms)
    np.testing.assert_array_equal(rest.products.forecasts, whole.products.forecasts)


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    run = train(tmp_path, replace(CONFIG, rate=0.3, patience=1, epochs=9, text="off"))
    errors = [epoch.validation for epoch in run.history]
    assert len(errors) < 9
    assert errors.index(min(errors)) == len(errors) - 2
    windows = DATA.windows("validation", 16, 4, CONFIG.validation_stride)
    found = np.square(forecast_windows(run.net, windows) - windows.targets()).mean()
    assert found == pytest.approx(min(errors), rel=1e-5)


def test_the_rule_of_refusal_decides_the_next_epoch(tmp_path):
    run = train(tmp_path, replace(CONFIG, epochs=4, rate=0.01))
    assert {epoch.is_text_refused for epoch in run.history} == {True, False}
    before = None
    for epoch in run.history:
        assert epoch.is_text_refused is not may_text_teach(before)
        assert ("output" in epoch.losses) is not epoch.is_text_refused
        before = epoch
    trusting = train(tmp_path, replace(CONFIG, refuse_worse_text=False))
    assert all("output" in e.losses and not e.is_text_refused for e in trusting.history)


def test_out_of_fold_products_come_from_nets_that_have_not_seen_the_block(tmp_path):
    whole = train(tmp_path, replace(CONFIG, text="off"))
    folds = train(tmp_path, replace(CONFIG, text="off", folds=3))
    assert folds.history[0].validation == whole.history[0].validation
    assert folds.products.forecasts.shape == whole.products.forecasts.shape
    targets = training_windows(DATA, 16, 4, 3).targets()
    assert np.isfinite(folds.products.forecasts).all()
    assert not np.array_equal(folds.products.forecasts, whole.products.forecasts)
    errors = [np.square(r.products.forecasts - targets).mean() for r in (folds, whole)]
    assert errors[0] > errors[1]


@pytest.mark.parametrize("change", [{"words": "random"}, {"weights": "random"}])
def test_controls_change_what_they_should(tmp_path, change):
    config = replace(CONFIG, text="live", epochs=1)
    first, control = train(tmp_path, config), train(tmp_path, replace(config, **change))
    assert first.history[0].text_validation != control.history[0].text_validation
    is_same = first.history[0].validation == control.history[0].validation
    assert is_same is (change == {"words": "random"})


def test_without_a_backbone_none_is_loaded(tmp_path):
    config = replace(CONFIG, backbone="none", text="off", width=24)
    run = train(tmp_path, config, load=None)
    assert run.products.header["weights_hash"] == "none"


def test_a_state_of_other_settings_is_refused(tmp_path):
    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_epoch=stop)
    path = next(tmp_path.glob("llata-work-*")) / "last.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(TeacherError, match="cannot be read"):
        train(tmp_path)


@pytest.mark.needs_data
def test_a_linear_forecast_of_etth1_is_as_good_as_published(data_dir, tmp_path):
    data = read_ett(data_dir / "ett.zip", "ETTh1")
    config = LlataConfig(
        backbone="none",
        text="off",
        encoder=False,
        width=96,
        epochs=6,
        stride=2,
        rate=2e-3,
        product_stride=24,
        dropout=0.0,
        start="none",
    )
    run = train_llata(data, config, tmp_path, length=336, horizon=96)
    test = data.windows("test", 336, 96, stride=4)
    apart = forecast_windows(run.net, test) - test.targets()
    # DLinear's published values are 0.375 and 0.399 with all windows.
    assert np.square(apart).mean() < 0.395
    assert np.abs(apart).mean() < 0.415

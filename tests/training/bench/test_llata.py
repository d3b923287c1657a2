"""Trials of LLaTA: which runs a plan has, and what a line says."""

import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("transformers")

from tests.fakes.smallseries import make_series  # noqa: E402
from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.bench.llata import (  # noqa: E402
    ARMS,
    BENCHMARKS,
    LlataTrial,
    do_trial,
    plan,
    ridge_forecasts,
)
from training.bench.timellm import TEST_STRIDE  # noqa: E402
from training.teachers.llata_config import LlataConfig  # noqa: E402

pytestmark = pytest.mark.needs_training

CONFIG = LlataConfig(heads=4, word_count=9, epochs=2, batch=32, rate=1e-3, text="live")
TRIAL = LlataTrial("made up", "smollm2, text", CONFIG, 16, 4)
DATA = make_series(rows=300)


def load(name, blocks, random_weights_seed=None):
    return tiny_backbone()


def test_a_plan_has_every_arm_with_every_seed_and_one_ridge():
    trials = plan(list(BENCHMARKS), list(ARMS), [1, 2, 3])
    assert len(trials) == len(BENCHMARKS) * (3 * (len(ARMS) - 1) + 1)
    assert len({trial.digest for trial in trials}) == len(trials)


def test_arms_of_a_benchmark_differ_in_their_own_settings_only():
    own = {key for settings in ARMS.values() for key in settings}
    shared = [
        {k: v for k, v in trial.config.as_request().items() if k not in own}
        for trial in plan(["ETTh1-96, look-back 96, 5 %"], list(ARMS), [4])
    ]
    assert all(settings == shared[0] for settings in shared)


def test_a_line_has_the_errors_of_both_branches_and_of_the_transfer(tmp_path):
    other = replace(make_series(rows=300, seed=5), name="other")
    line = do_trial(TRIAL, DATA, [other], tmp_path, load=load)
    assert (line["benchmark"], line["method"], line["seed"]) == ("made up", "smollm2, text", 1)
    assert line["held_out"]["mse"] > 0
    assert len(line["text_held_out_mse"]) == len(line["text_refused"]) == 3
    assert line["test"] != line["test other"]
    assert line["text_refused"][0] is True
    assert line["settings"]["text"] == "live"
    assert line["passes"] == 2  # besides the ridge that the net starts as


def test_a_trial_that_the_deadline_ends_has_no_line(tmp_path):
    assert do_trial(TRIAL, DATA, [], tmp_path, deadline_s=time.monotonic(), load=load) is None


def test_the_ridge_forecasts_better_than_the_last_reading(tmp_path):
    trial = replace(TRIAL, arm="ridge", config=replace(CONFIG, backbone="none", text="off"))
    line = do_trial(trial, DATA, [], tmp_path)
    test = DATA.windows("test", 16, 4, TEST_STRIDE)
    last = np.square(test.inputs()[:, -1:] - test.targets()).mean()
    assert line["test"]["mse"] < 0.7 * last
    assert not list(tmp_path.iterdir())
    shifted = ridge_forecasts(DATA, trial, test.inputs() + 5)
    np.testing.assert_allclose(shifted, ridge_forecasts(DATA, trial, test.inputs()) + 5, atol=1e-6)

"""Trials of TIME-LLM: which runs a plan has, and what a line says."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from tests.fakes.smallseries import SMALL_TIMELLM, make_series  # noqa: E402
from training.bench.timellm import (  # noqa: E402
    ARMS,
    BENCHMARKS,
    TEST_STRIDE,
    Trial,
    do_trial,
    plan,
)

pytestmark = pytest.mark.needs_training

BARE = replace(SMALL_TIMELLM, backbone="none")
OWN = ("backbone", "weights", "prompt", "prototype_source")
"""Settings that arms may change."""


def test_a_plan_has_every_arm_with_every_seed_and_one_ridge():
    trials = plan(list(BENCHMARKS), list(ARMS), [0, 1, 2])
    assert len(trials) == len(BENCHMARKS) * (3 * (len(ARMS) - 1) + 1)
    assert len({trial.digest for trial in trials}) == len(trials)


def test_arms_of_a_benchmark_share_all_settings_but_their_own():
    (bare,) = (trial.config for trial in plan(["ETTh1-96, 5 %"], ["none"], [4]))
    for trial in plan(["ETTh1-96, 5 %"], list(ARMS), [4]):
        own = {name: getattr(trial.config, name) for name in ARMS[trial.arm]}
        assert own == ARMS[trial.arm]
        defaults = {name: getattr(SMALL_TIMELLM, name) for name in OWN}
        assert replace(trial.config, **defaults) == replace(bare, **defaults)


def test_a_line_has_the_test_error_of_the_set_and_of_the_transfer(tmp_path):
    data, other = make_series(rows=400), replace(make_series(rows=400, seed=5), name="other")
    line = do_trial(Trial("made up", "none", BARE), data, [other], tmp_path)
    assert (line["benchmark"], line["method"], line["seed"]) == ("made up", "none", 0)
    assert line["trained_weights"] == 17 * 4 + (4 * 4 + 1) * 8
    assert line["held_out"]["mse"] > 0
    assert line["test"] != line["test other"]
    assert line["data"] == data.digest[:16]


def test_the_ridge_is_scored_on_the_same_windows_as_the_teachers(tmp_path):
    data = make_series(rows=400)
    line = do_trial(Trial("made up", "ridge", BARE), data, [], tmp_path)
    windows = data.windows("test", BARE.length, BARE.horizon, TEST_STRIDE)
    # The noise has a deviation of 0.3, and no forecast is better than the variance of noise.
    floor = np.mean(0.3**2 / data.deviation**2)
    last = np.mean((windows.inputs()[:, -1:] - windows.targets()) ** 2)
    assert 0.4 * floor < line["test"]["mse"] < last
    assert not list(tmp_path.iterdir())

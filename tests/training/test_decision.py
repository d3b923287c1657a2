"""The rule for publishing, as a table."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.dummy import write_dummy
from models.manifest import Manifest
from models.tasks.registry import find_task
from training.decision import HELD, NOT_BETTER, REJECTED, RejectedVersion, decide
from training.evaluate import Comparison, Rival, judge_rival, noise_of_gain

# The unit of the dummy is cycles, and its headline measure RMSE.


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    folder = tmp_path_factory.mktemp("students")
    return {
        name: write_dummy(folder / name, name="pump", seed=seed, version=version).manifest
        for name, seed, version in (("new", 1, 5), ("same", 1, 2), ("other", 2, 2))
    }


def rival(low: float, high: float, gain: float = 1.0, noise: float = 0.1, name="running") -> Rival:
    comparison = Comparison((low + high) / 2, low, high, 5, 9)
    return Rival(name, comparison, {"rmse": 20.0}, 20.0, gain, noise)


CLEAR = rival(3, 9)
CASES = {
    "nothing runs": ({"running": None}, "first", 0, "No student scores the stream"),
    "clearly better": ({"rivals": [CLEAR]}, "better", 0, "better than every rival"),
    "the same graph": (
        {"running": "same", "rivals": [CLEAR]},
        "same",
        NOT_BETTER,
        "the same graph as that of the running pump v2",
    ),
    "worse": (
        {"rivals": [rival(-9, -3)]},
        "not better",
        NOT_BETTER,
        "worse than running .*-9, -3",
    ),
    "unclear": ({"rivals": [rival(-1, 9)]}, "not better", NOT_BETTER, "not clearly better"),
    "identical scores": ({"rivals": [rival(0, 0, 0, 0)]}, "not better", NOT_BETTER, "not clearly"),
    "a baseline is as good": (
        {"rivals": [CLEAR, rival(-1, 2, name="ridge")]},
        "not better",
        NOT_BETTER,
        "not clearly better than ridge",
    ),
    "a baseline is as good, and nothing runs": (
        {"running": None, "rivals": [rival(-1, 2, name="ridge")]},
        "not better",
        NOT_BETTER,
        "ridge",
    ),
    "within the noise": (
        {"rivals": [rival(3, 9, gain=0.3, noise=0.5)]},
        "too small",
        NOT_BETTER,
        "RMSE is better than that of running by 0.3 cycles, .* smallest .* matters, 0.5 cycles",
    ),
    "rounding": (
        {"rivals": [rival(1e-6, 2e-6, gain=1e-5, noise=1e-9)]},
        "too small",
        NOT_BETTER,
        "smallest gain that matters, 0.02 cycles",
    ),
    "above the noise": ({"rivals": [rival(3, 9, gain=0.51, noise=0.5)]}, "better", 0, ""),
    "errors fall, but the headline measure does not": (
        {"rivals": [rival(3, 9, gain=-0.2)]},
        "too small",
        NOT_BETTER,
        "by -0.2 cycles",
    ),
    "chosen by the user": (
        {"rivals": [CLEAR], "min_gain": 2.0},
        "too small",
        NOT_BETTER,
        "2 cycles",
    ),
    "any clear gain": (
        {"rivals": [rival(1e-6, 2e-6, gain=1e-5)], "min_gain": 0.0},
        "better",
        0,
        "",
    ),
    "the bytes of a rejected version": (
        {"rivals": [CLEAR], "rejected": [("same", None)]},
        "rejected",
        REJECTED,
        r"same scores as v2, which was rejected \(rolled back\)",
    ),
    "equal to a rejected version": (
        {"rivals": [CLEAR], "rejected": [("other", rival(-2, 3))]},
        "rejected",
        REJECTED,
        r"equal to v2, which was rejected .*\[-2, 3\]",
    ),
    "clearly better than a rejected version": (
        {"rivals": [CLEAR], "rejected": [("other", rival(1, 3))]},
        "better",
        0,
        "",
    ),
    "clearly worse than a rejected version": (
        {"rivals": [CLEAR], "rejected": [("other", rival(-3, -1))]},
        "better",
        0,
        "",
    ),
    "a rejected version of another window": (
        {"rivals": [CLEAR], "rejected": [("other", None)]},
        "better",
        0,
        "",
    ),
    "held": (
        {"rivals": [CLEAR], "obstacle": "pump is held since Monday"},
        "held",
        HELD,
        "better, but pump is held since Monday",
    ),
    "held, and worse": (
        {"rivals": [rival(-9, -3)], "obstacle": "pump is held since Monday"},
        "not better",
        NOT_BETTER,
        "worse",
    ),
    "held, and nothing runs": (
        {"running": None, "obstacle": "pump is held since Monday"},
        "held",
        HELD,
        "held since Monday",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(students: dict[str, Manifest], case: str) -> None:
    given, outcome, code, told = CASES[case]
    facts = {"running": "other", "rivals": [], "rejected": [], **given}
    running = facts.pop("running")
    rejected = [
        RejectedVersion(students[name], "rolled back", found)
        for name, found in facts.pop("rejected")
    ]
    decision = decide(
        students["new"],
        None if running is None else students[running],
        facts.pop("rivals"),
        rejected,
        **facts,
    )
    assert (decision.outcome, decision.exit_code) == (outcome, code)
    assert decision.publishes == (code == 0)
    assert re.search(told, decision.reason), decision.reason


def test_the_gain_is_that_of_the_headline_measure_in_its_direction() -> None:
    truth = np.repeat(np.arange(10), 20)
    old, new = (np.float32(truth + off) for off in (3.0, 1.0))
    rul = judge_rival(find_task("rul"), "old", truth, (old, new), truth)
    assert (rul.value, rul.gain) == pytest.approx((3.0, 2.0))
    assert rul.noise == pytest.approx(0, abs=1e-6)  # every group says the same
    labels = truth % 2
    good = np.eye(2, dtype=np.float32)[labels]
    half = good.copy()
    half[truth < 5] = half[truth < 5][:, ::-1]
    found = judge_rival(find_task("activity"), "old", labels, (half, good), truth)
    assert found.gain == pytest.approx(1 - found.value)
    assert found.gain > 0.3
    assert judge_rival(find_task("activity"), "old", labels, (good, half), truth).gain < -0.3


def test_the_noise_is_the_standard_error_over_groups() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    values = random.normal(0, 1, 40)[groups]
    noise = noise_of_gain(lambda rows: float(values[rows].mean()), groups, resamples=2000)
    assert noise == pytest.approx(values[::10].std() / np.sqrt(40), rel=0.1)


@pytest.mark.parametrize(
    ("task", "is_told"), [("rul", True), ("activity", True), ("forecast", False)]
)
def test_only_a_task_with_the_option_is_told_to_publish_despite_baselines(tmp_path, task, is_told):
    new = write_dummy(tmp_path / task, task).manifest
    decision = decide(new, None, [rival(-1, 2, name="ridge")])
    assert decision.outcome == "not better"
    assert ("add --despite-baselines" in decision.reason) == is_told

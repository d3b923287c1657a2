"""What the language model of LLaTA is worth: the teacher itself against its controls.

`python -m training.bench.llata --data ett.zip --only smollm2,none --seeds 1,2` appends one line per
trial to docs/results/forecast_teachers.jsonl and leaves out those that have a line. A trial trains
one teacher with the settings of one arm and scores its best pass on the test part once, and on the
test part of another set, which training has not seen.

All arms of a benchmark share windows, passes and learning rate, so the backbone is the difference.
Sub-sampling is part of the settings of a line: the test error is that of every `TEST_STRIDE`-th
test window, for the ridge too.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.bench.ledger import append_line, read_lines
from training.bench.shifts import DISTURBANCES, disturb
from training.bench.timellm import TEST_STRIDE, TEST_STRIDES, read_pair, set_of
from training.candidate import code_revision
from training.datasets.series import SeriesSet
from training.errors import exit_on_errors
from training.teachers.backbones import Backbone, load_backbone
from training.teachers.llata import train_llata
from training.teachers.llata_config import LlataConfig
from training.teachers.llata_net import LlataNet
from training.teachers.llata_training import LlataEpoch, forecast_windows
from training.teachers.llata_windows import fit_ridge, training_windows

__all__ = ["ARMS", "BENCHMARKS", "LlataTrial", "do_trial", "main", "plan", "ridge_forecasts"]

RIDGE = "ridge"
"""Arm of the closed-form ridge on the same windows; it has no seed."""
ARMS: dict[str, dict[str, Any]] = {
    RIDGE: {"backbone": "none", "text": "off"},
    "none": {"backbone": "none", "text": "off"},
    "smollm2": {"text": "off"},
    "random": {"text": "off", "weights": "random"},
    "minilm": {"backbone": "minilm", "text": "off"},
    "minilm random": {"backbone": "minilm", "text": "off", "weights": "random"},
    "smollm2 without LoRA": {"text": "off", "lora": False},
    "smollm2, text": {"text": "live"},
    "smollm2, text cached": {"text": "cached"},
    "smollm2, text of the paper": {
        "text": "live",
        "alignment": "paper",
        "refuse_worse_text": False,
    },
    "smollm2, random words": {"text": "live", "words": "random"},
    "minilm, text": {"backbone": "minilm", "text": "live"},
    "minilm, text cached": {"backbone": "minilm", "text": "cached"},
    "minilm, text of the paper": {
        "backbone": "minilm",
        "text": "live",
        "alignment": "paper",
        "refuse_worse_text": False,
    },
}
"""Settings that an arm changes."""
BENCHMARKS: dict[str, dict[str, Any]] = {
    "ETTh1-96, look-back 96": {"stride": 11, "start": "none"},
    "ETTh1-96, look-back 96, 10 %": {"share": 0.1, "start": "none"},
    "ETTh1-96, look-back 96, 5 %": {"share": 0.05, "start": "none"},
    "ETTh1-96, look-back 96, from ridge": {"stride": 11},
    "ETTh1-96, look-back 96, 10 %, from ridge": {"share": 0.1, "rate": 5e-5},
    "ETTh1-96, look-back 96, 5 %, from ridge": {"share": 0.05, "rate": 5e-5},
    "ETTh1-96, look-back 96, 5 %, from ridge, the papers' rate": {"share": 0.05},
    "ETTm1-96, look-back 96, 5 %, from ridge": {
        "share": 0.05,
        "rate": 5e-5,
        "stride": 5,
        "validation_stride": 53,
        "product_stride": 53,
    },
}
"""Settings that a benchmark fixes for all of its arms: some 100 to 240 steps each. With a share and
from ridge, the rate is the one at which the arm without a backbone gains most on validation."""
_COMMON: dict[str, Any] = {
    "epochs": 10,
    "batch": 32,
    "validation_stride": 13,
    "product_stride": 11,
    "patience": 3,
    "cosine_period": 10,
}
_LENGTH = _HORIZON = 96


@dataclasses.dataclass(frozen=True, slots=True)
class LlataTrial:
    """One training of one arm.

    Attributes:
        benchmark: Key of `BENCHMARKS`.
        arm: Key of `ARMS`.
        config: Complete settings, seed included.
        length: Readings in the look-back.
        horizon: Readings in a forecast.
    """

    benchmark: str
    arm: str
    config: LlataConfig
    length: int = _LENGTH
    horizon: int = _HORIZON

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that differ from the defaults."""
        default = LlataConfig().as_request()
        return {k: v for k, v in self.config.as_request().items() if v != default[k]}

    @property
    def digest(self) -> str:
        """Sixteen hex digits of benchmark, arm and settings: what a finished line is known by.

        Settings with their default do not count, so a new setting repeats no trial.
        """
        named = [self.benchmark, self.arm, self.config.seed, self.settings]
        text = json.dumps(named, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def plan(benchmarks: list[str], arms: list[str], seeds: list[int]) -> list[LlataTrial]:
    """List the trials of all benchmarks, seed by seed; the ridge has the first seed only."""
    return [
        LlataTrial(
            benchmark,
            arm,
            LlataConfig(**{**_COMMON, **BENCHMARKS[benchmark], **ARMS[arm], "seed": seed}),
        )
        for benchmark in benchmarks
        for seed in seeds
        for arm in arms
        if arm != RIDGE or seed == seeds[0]
    ]


def do_trial(
    trial: LlataTrial,
    data: SeriesSet,
    transfers: list[SeriesSet],
    folder: Path,
    *,
    deadline_s: float = math.inf,
    load: Callable[..., Backbone] = load_backbone,
) -> dict[str, Any] | None:
    """Make one trial and describe it as a line of the results file; None if the deadline came.

    Args:
        trial: What to train.
        data: Series to learn from.
        transfers: Other series whose test part the same weights forecast.
        folder: Folder of products and weights, shared by all trials.
        deadline_s: `time.monotonic()` from which no further pass starts.
        load: Loads the backbone by name.
    """
    started = time.perf_counter()
    facts: dict[str, Any] = {}
    net: LlataNet | None = None
    if trial.arm != RIDGE:
        run = train_llata(
            data,
            trial.config,
            folder / trial.digest,
            length=trial.length,
            horizon=trial.horizon,
            on_epoch=lambda epoch: print(trial.benchmark, trial.arm, epoch, flush=True),
            deadline_s=deadline_s,
            load=load,
        )
        net = run.net
        if net is None:
            return None
        facts = {"training_seconds": round(run.seconds, 1), **_facts(run.history, net)}
    stride = TEST_STRIDES.get(data.name, TEST_STRIDE)
    tests = {
        ("test" if one is data else f"test {one.name}"): one.windows(
            "test", trial.length, trial.horizon, stride
        )
        for one in (data, *transfers)
    }
    tests |= {f"test, {kind}": disturb(tests["test"], kind) for kind in DISTURBANCES}
    for key, windows in tests.items():
        if net is None:
            found = ridge_forecasts(data, trial, windows.inputs())
        else:
            found = forecast_windows(net, windows).astype(np.float64)
        apart = found - windows.targets()
        facts[key] = {
            "mse": _rounded(np.square(apart).mean()),
            "mae": _rounded(np.abs(apart).mean()),
        }
    return {
        "benchmark": trial.benchmark,
        "student": "llata",
        "method": trial.arm,
        "seed": trial.config.seed,
        "config": trial.digest,
        "data": data.digest[:16],
        "revision": code_revision(),
        "seconds": round(time.perf_counter() - started, 1),
        "settings": trial.settings,
        "test_stride": stride,
        **facts,
    }


def _facts(history: Sequence[LlataEpoch], net: LlataNet) -> dict[str, Any]:
    best = min(history, key=lambda epoch: epoch.validation)
    facts: dict[str, Any] = {
        "passes": history[-1].number,
        "best_pass": best.number,
        "trained_weights": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "held_out": {"mse": _rounded(best.validation)},
    }
    text = [epoch.text_validation for epoch in history if epoch.text_validation is not None]
    if text:
        facts["text_held_out_mse"] = [_rounded(value) for value in text]
        facts["text_refused"] = [epoch.is_text_refused for epoch in history]
    return facts


def ridge_forecasts(
    data: SeriesSet, trial: LlataTrial, inputs: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Forecast `inputs` `[n, length, channels]` with a ridge of the trial's training windows."""
    config, length, horizon = trial.config, trial.length, trial.horizon
    train = training_windows(data, length, horizon, config.stride, config.share)
    held_out = data.windows("validation", length, horizon, config.validation_stride)
    mean = inputs.mean(axis=1, keepdims=True)
    centred = (inputs - mean).transpose(0, 2, 1)
    found: NDArray[np.float64] = centred @ fit_ridge(train, held_out)
    found = found.transpose(0, 2, 1) + mean
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


@exit_on_errors("training.bench.llata")
def main() -> None:
    """Make the trials that have no line yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="ett.zip")
    parser.add_argument("--benchmarks", default=";".join(BENCHMARKS), help="separated by ;")
    parser.add_argument("--only", default=";".join(ARMS), help="arms, separated by ;")
    parser.add_argument("--seeds", default="1", help="separated by commas")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no pass after this")
    parser.add_argument("--folder", type=Path, default=Path("build/teachers"))
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results/forecast_teachers.jsonl")
    )
    asked = parser.parse_args()
    deadline_s = time.monotonic() + 60 * asked.minutes
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    for trial in plan(asked.benchmarks.split(";"), asked.only.split(";"), seeds):
        if trial.digest in {line["config"] for line in read_lines(asked.results)}:
            continue
        data, other = read_pair(asked.data, set_of(trial.benchmark))
        line = do_trial(trial, data, [other], asked.folder, deadline_s=deadline_s)
        if line is not None:
            append_line(asked.results, line)


if __name__ == "__main__":
    main()

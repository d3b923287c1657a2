"""What the language model of TIME-LLM is worth: the teacher itself against its controls.

`python -m training.bench.timellm --data ett.zip --only smollm2,none --seeds 0,1` appends one line
per trial to docs/results/forecast_teachers.jsonl and leaves out those that have a line. A trial
trains one teacher with the settings of one arm and scores its best pass on the test part once. For
a transfer the same weights forecast another set, which training has not seen.

All arms of a benchmark share windows, passes and learning rate, so the backbone is the difference.
Sub-sampling is part of the settings of a line: the test error is that of every `TEST_STRIDE`-th
test window, for the ridge too.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.bench.ledger import append_line, read_lines
from training.bench.shifts import DISTURBANCES, TRANSFERS, disturb
from training.candidate import code_revision
from training.datasets.ett import read_ett
from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import exit_on_errors
from training.teachers.backbones import Backbone
from training.teachers.timellm import (
    OpenBackbone,
    forecast_timellm,
    open_backbone,
    train_timellm,
)
from training.teachers.timellm_config import TimeLLMConfig
from training.teachers.timellm_training import TimeLLMEpoch
from training.teachers.timellm_windows import channel_windows, few_windows, fit_ridge

__all__ = [
    "ARMS",
    "BENCHMARKS",
    "TEST_STRIDE",
    "TEST_STRIDES",
    "Trial",
    "do_trial",
    "main",
    "plan",
    "read_pair",
    "set_of",
]

TEST_STRIDE = 23
"""Coprime with the hours of a day, so that every hour is tested alike."""
TEST_STRIDES: dict[str, int] = {"ETTm1": 97}
"""Strides of the sets whose season is longer, besides `TEST_STRIDE`."""
RIDGE = "ridge"
"""Arm of the closed-form ridge on the same windows; it has no seed."""
ARMS: dict[str, dict[str, Any]] = {
    RIDGE: {"backbone": "none"},
    "none": {"backbone": "none"},
    "smollm2": {},
    "random": {"weights": "random"},
    "no prompt": {"prompt": "none"},
    "wrong domain": {"prompt": "wrong-domain"},
    "shuffled statistics": {"prompt": "shuffled"},
    "random prototypes": {"prototype_source": "random"},
    "minilm": {"backbone": "minilm"},
    "minilm random": {"backbone": "minilm", "weights": "random"},
}
"""Settings that an arm changes."""
_FROM_RIDGE: dict[str, Any] = {"start": "ridge", "learning_rate": 3e-4}
BENCHMARKS: dict[str, dict[str, Any]] = {
    "ETTh1-96": {"stride": 150},
    "ETTh1-96, 5 %": {"share": 0.05, "stride": 6},
    "ETTh1-96, 10 %": {"share": 0.1, "stride": 14},
    "ETTh1-96, from ridge": {**_FROM_RIDGE, "stride": 150},
    "ETTh1-96, 5 %, from ridge": {**_FROM_RIDGE, "share": 0.05, "stride": 6},
    "ETTh1-96, 10 %, from ridge": {**_FROM_RIDGE, "share": 0.1, "stride": 14},
    "ETTm1-96, 5 %, from ridge": {
        **_FROM_RIDGE,
        "share": 0.05,
        "stride": 29,
        "validation_stride": 191,
    },
}
"""Settings that a benchmark fixes for all of its arms: some 75 steps each, a minute of one core."""
_COMMON: dict[str, Any] = {
    "validation_stride": 47,
    "product_stride": 97,
    "patience": 3,
    "learning_rate": 3e-3,
    "batch_size": 16,
    "epochs": 3,
    "patch_stride": 16,
    "statistics_step": 2.0,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One training of one arm.

    Attributes:
        benchmark: Key of `BENCHMARKS`.
        arm: Key of `ARMS`.
        config: Complete settings, seed included.
    """

    benchmark: str
    arm: str
    config: TimeLLMConfig

    @property
    def digest(self) -> str:
        """Sixteen hex digits of benchmark, arm and settings: what a finished line is known by."""
        text = f"{self.benchmark}\n{self.arm}\n{self.config.digest}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(benchmarks: list[str], arms: list[str], seeds: list[int]) -> list[Trial]:
    """List the trials of all benchmarks, seed by seed; the ridge has the first seed only."""
    return [
        Trial(
            benchmark,
            arm,
            TimeLLMConfig(**(_COMMON | BENCHMARKS[benchmark] | ARMS[arm]), seed=seed),
        )
        for benchmark in benchmarks
        for seed in seeds
        for arm in arms
        if arm != RIDGE or seed == seeds[0]
    ]


def do_trial(
    trial: Trial,
    data: SeriesSet,
    transfers: list[SeriesSet],
    folder: Path,
    backbone: OpenBackbone = open_backbone,
) -> dict[str, Any]:
    """Make one trial and describe it as a line of the results file.

    Args:
        trial: What to train.
        data: Series to learn from.
        transfers: Other series whose test part the same weights forecast.
        folder: Folder of products and weights, shared by all trials.
        backbone: Loads the language model.
    """
    started = time.perf_counter()
    measures = _ridge(trial, data, transfers) if trial.arm == RIDGE else None
    if measures is None:
        measures = _teacher(trial, data, transfers, folder, backbone)
    return {
        "benchmark": trial.benchmark,
        "student": "timellm",
        "method": trial.arm,
        "seed": trial.config.seed,
        "config": trial.digest,
        "data": data.digest[:16],
        "revision": code_revision(),
        "seconds": round(time.perf_counter() - started, 1),
        "settings": trial.config.changes(),
        "test_stride": TEST_STRIDES.get(data.name, TEST_STRIDE),
        **measures,
    }


def _teacher(
    trial: Trial,
    data: SeriesSet,
    transfers: list[SeriesSet],
    folder: Path,
    backbone: OpenBackbone,
) -> dict[str, Any]:
    config = trial.config

    def show(epoch: TimeLLMEpoch) -> None:
        print(trial.benchmark, trial.arm, epoch, flush=True)

    products = train_timellm(data, config, folder, show, backbone=backbone)
    assert products is not None  # noqa: S101 (there is no deadline)
    keys = ("passes", "best_pass", "prompts", "trained_weights", "frozen_weights")
    found: dict[str, Any] = {key: products.header[key] for key in keys}
    found["training_seconds"] = products.header["cpu_seconds"]
    found["held_out"] = {"mse": _rounded(products.header["validation_mse"])}
    for key, (target, change) in _conditions(data, transfers).items():
        stride = TEST_STRIDES.get(data.name, TEST_STRIDE)
        test = forecast_timellm(data, config, folder, "test", stride, target, backbone, change)
        found[key] = {"mse": _rounded(test.mse), "mae": _rounded(test.mae)}
    return found


def _conditions(
    data: SeriesSet, transfers: list[SeriesSet]
) -> dict[str, tuple[SeriesSet, Callable[[SeriesWindows], SeriesWindows]]]:
    """Name what is forecast: the test part, those of other sets, and the disturbed test part."""
    found: dict[str, tuple[SeriesSet, Callable[[SeriesWindows], SeriesWindows]]]
    found = {"test": (data, lambda windows: windows)}
    found |= {f"test {one.name}": (one, lambda windows: windows) for one in transfers}
    for kind in DISTURBANCES:
        found[f"test, {kind}"] = (data, functools.partial(disturb, kind=kind))
    return found


def _ridge(trial: Trial, data: SeriesSet, transfers: list[SeriesSet]) -> dict[str, Any]:
    config = trial.config
    train = channel_windows(data, config, few_windows(data, config, "train", 1, config.share))
    stride = config.validation_stride
    held_out = channel_windows(data, config, few_windows(data, config, "validation", stride))
    weights = fit_ridge(train, held_out)
    found: dict[str, Any] = {"trained_weights": weights.numel()}
    parts = {"held_out": held_out}
    for key, (target, change) in _conditions(data, transfers).items():
        windows = few_windows(target, config, "test", TEST_STRIDES.get(data.name, TEST_STRIDE))
        parts[key] = channel_windows(target, config, change(windows))
    for key, part in parts.items():
        mean = part.inputs.mean(dim=1, keepdim=True)
        error = ((part.inputs - mean) @ weights.T + mean - part.targets).double()
        found[key] = {"mse": _rounded(float(error.square().mean()))}
        found[key]["mae"] = _rounded(float(error.abs().mean()))
    return found


def _keep_last() -> OpenBackbone:
    """Return a loader that keeps the last two backbones, because trials share them."""

    @functools.lru_cache(maxsize=2)
    def load(backbone: str, weights: str, blocks: int, seed: int) -> Backbone:
        return open_backbone(
            TimeLLMConfig(backbone=backbone, weights=weights, blocks=blocks, seed=seed)
        )

    def find(config: TimeLLMConfig) -> Backbone:
        seed = config.seed if config.weights == "random" else 0
        return load(config.backbone, config.weights, config.blocks, seed)

    return find


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def set_of(benchmark: str) -> str:
    """Return the data set that a benchmark's name begins with.

    >>> set_of("ETTm1-96, 5 %, from ridge")
    'ETTm1'
    """
    return benchmark.partition("-")[0]


@functools.lru_cache(maxsize=2)
def read_pair(path: Path, name: str) -> tuple[SeriesSet, SeriesSet]:
    """Read a data set and the one that its models forecast unseen."""
    return read_ett(path, name), read_ett(path, TRANSFERS[name])


@exit_on_errors("training.bench.timellm")
def main() -> None:
    """Make the trials that have no line yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="ett.zip")
    parser.add_argument("--benchmarks", default=";".join(BENCHMARKS), help="separated by ;")
    parser.add_argument("--only", default=",".join(ARMS), help="arms, separated by commas")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--folder", type=Path, default=Path("build/teachers"))
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results/forecast_teachers.jsonl")
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    backbone = _keep_last()
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    for trial in plan(asked.benchmarks.split(";"), asked.only.split(","), seeds):
        if trial.digest not in {line["config"] for line in read_lines(asked.results)}:
            data, other = read_pair(asked.data, set_of(trial.benchmark))
            line = do_trial(trial, data, [other], asked.folder, backbone)
            append_line(asked.results, line)


if __name__ == "__main__":
    main()

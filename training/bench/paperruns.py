"""One training on the paper's ground, measured at every checkpoint, described as one line.

Nothing is exported: these networks are not students. The plain head is trained once and branches
at 5/8 of the steps: one branch keeps the rate, as in the authors' code, and one has a tenth of it,
as the training with anchors has.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.features import scale
from training.bench.paperground import PaperRun
from training.bench.papernets import build_paper_network
from training.candidate import code_revision
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet, fit_scaler
from training.errors import DataSetError
from training.methods.knowledge_pruning import KnowledgePruning, normalise, vote
from training.methods.plain import Plain
from training.recipes import Recipe
from training.students.conditions import SETTINGS, fit_conditions
from training.teachers.anchors import anchors_of
from training.windows import hold_out_groups

__all__ = ["CHECKPOINTS", "Ground", "do_paper_run", "prepare_ground", "train_plain"]

CHECKPOINTS = {"number": 24, "class": 8}
"""Checkpoints of one training, at equal distances; a multiple of 8."""

_DECAY_AT = 5 / 8
_DECAY = 0.1
_BATCH = 128
_RATE = 1e-3
_WEIGHT_DECAY = 1e-4
_HOLD_OUT = 0.2
_DROPOUT = 0.2
_SAMPLE = 512  # held-out windows that are scored at every checkpoint
_ANCHOR_LENGTH = 11.7  # mean length of the authors' text vectors
_ALPHA = 1 / 0.07
_TRIM = 0.1
_SCORE_BATCH = 512
_MEASURES = ("rmse", "nasa_score", "macro_f1")


@dataclass(frozen=True, slots=True)
class Ground:
    """Scaled windows of one benchmark and seed.

    Attributes:
        data: The benchmark.
        seen: Windows `[n, length, channels]` and labels `[n]` to learn from.
        sample: Evenly chosen held-out windows, scored at every checkpoint.
        held_out: All held-out windows.
        test: The test set.
    """

    data: DataSet
    seen: tuple[Tensor, Tensor]
    sample: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def prepare_ground(benchmark: str, folder: Path, seed: int, variant: str = "") -> Ground:
    """Read a benchmark, hold out groups, and scale by what the others show.

    Args:
        benchmark: Name of the benchmark.
        folder: Data folder.
        seed: Seed of the split.
        variant: `one-scaler`: one scaler for all conditions. `all-engines`: learn from all groups;
            the held-out measures then say nothing.
    """
    data = _read(benchmark, folder)
    if data.test is None:
        msg = f"{data.title} was read without its test set"
        raise DataSetError(msg)
    groups = hold_out_groups(data.train.groups, _HOLD_OUT, seed)
    held_out, seen = data.train.of_groups(groups), data.train.without_groups(groups)
    if variant == "all-engines":
        seen = data.train
    scaled = _scaling(data, seen.windows, one_scaler=variant == "one-scaler")
    parts = [
        (scaled(part.windows), torch.from_numpy(part.labels))
        for part in (seen, held_out, data.test)
    ]
    chosen = np.unique(np.linspace(0, len(held_out) - 1, _SAMPLE).astype(int))
    sample = (parts[1][0][chosen], parts[1][1][chosen])
    return Ground(data, parts[0], sample, parts[1], parts[2])


def do_paper_run(run: PaperRun, ground: Ground) -> dict[str, Any]:
    """Train and measure one run.

    Returns:
        The line: for every readout of the answer the measures on the test set (`test`) and on a
        sample of held-out windows (`sample`) at every checkpoint, and on all held-out windows after
        the last one (`held_out`).
    """
    started = time.perf_counter()
    torch.manual_seed(run.seed)
    model = _build(run, ground)
    record = _Record(run, ground)
    steps = _steps(run, ground)
    count = CHECKPOINTS["class" if ground.data.labels else "number"]
    ends = [round(steps * number / count) for number in range(1, count + 1)]
    decay = ends[int(_DECAY_AT * count) - 1]
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    branch = None
    batches = _batches(ground, run.seed)
    for step in range(1, steps + 1):
        _step(model, optimiser, *next(batches))
        if step in ends:
            record.add(model, last=step == steps)
        if step == decay and run.arm == "none":
            branch = copy.deepcopy((model, optimiser.state_dict()))
        elif step == decay:
            _slow_down(optimiser)
    if branch is not None:
        model, state = branch
        optimiser = torch.optim.Adam(model.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
        optimiser.load_state_dict(state)
        _slow_down(optimiser)
        record.branch(ends.index(decay) + 1)
        for step in range(decay + 1, steps + 1):
            _step(model, optimiser, *next(batches))
            if step in ends:
                record.add(model, "-decayed", last=step == steps)
    return {
        "config": run.key,
        "network": run.network,
        "benchmark": run.benchmark,
        "arm": run.arm,
        "seed": run.seed,
        "passes": run.passes,
        "variant": run.variant,
        "steps": steps,
        "data": ground.data.digest[:16],
        "revision": code_revision(),
        "seconds": round(time.perf_counter() - started, 1),
        "test": record.test,
        "sample": record.sample,
        "held_out": record.held_out,
    }


def train_plain(run: PaperRun, ground: Ground) -> Plain:
    """Train the plain head at a tenth of the rate from 5/8 of the steps on, without measures."""
    torch.manual_seed(run.seed)
    model = _build(run, ground)
    if not isinstance(model, Plain):
        msg = f"{run.key} has anchors, and its plain head was asked for"
        raise TypeError(msg)
    steps = _steps(run, ground)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    batches = _batches(ground, run.seed)
    for step in range(1, steps + 1):
        _step(model, optimiser, *next(batches))
        if step == round(_DECAY_AT * steps):
            _slow_down(optimiser)
    return model


class _Record:
    """Measures by readout: a list over checkpoints, or after the last one (`held_out`)."""

    def __init__(self, run: PaperRun, ground: Ground) -> None:
        self.run, self.ground = run, ground
        self.test: dict[str, dict[str, list[float]]] = {}
        self.sample: dict[str, dict[str, list[float]]] = {}
        self.held_out: dict[str, dict[str, float]] = {}

    def add(self, model: KnowledgePruning | Plain, suffix: str = "", *, last: bool) -> None:
        model.eval()
        for kept, part in ((self.test, self.ground.test), (self.sample, self.ground.sample)):
            for readout, measures in self._measure(model, part).items():
                found = kept.setdefault(readout + suffix, {})
                for name, value in measures.items():
                    found.setdefault(name, []).append(value)
        if last:
            for readout, measures in self._measure(model, self.ground.held_out).items():
                self.held_out[readout + suffix] = measures
        model.train()

    def branch(self, count: int) -> None:
        """Begin the decayed branch with what the first checkpoints measured."""
        for kept in (self.test, self.sample):
            for readout in list(kept):
                kept[f"{readout}-decayed"] = {
                    name: values[:count] for name, values in kept[readout].items()
                }

    def _measure(
        self, model: KnowledgePruning | Plain, part: tuple[Tensor, Tensor]
    ) -> dict[str, dict[str, float]]:
        task, truth = self.ground.data.contract, part[1].numpy()
        with torch.no_grad():
            found = [
                _answers(self.run, model, batch) for batch in torch.split(part[0], _SCORE_BATCH)
            ]
        return {
            readout: {
                name: float(f"{value:.5g}")
                for name, value in task.measure(
                    truth, torch.cat([one[readout] for one in found]).numpy()
                ).items()
                if name in _MEASURES
            }
            for readout in found[0]
        }


def _steps(run: PaperRun, ground: Ground) -> int:
    return run.passes * math.ceil(len(ground.seen[1]) / _BATCH)


def _build(run: PaperRun, ground: Ground) -> KnowledgePruning | Plain:
    data, windows = ground.data, ground.seen[0]
    encoder, width = build_paper_network(
        run.network,
        windows.shape[1],
        windows.shape[2],
        anchors=run.arm != "none",
        dropout=0.0 if run.variant == "no-dropout" else _DROPOUT,
    )
    recipe = Recipe(
        task=data.task,
        method="none" if run.arm == "none" else "kp",
        anchors="random" if run.arm == "random" else "text",
        feature_size=width,
        batch_size=_BATCH,
        prior_correction=0.0,
        trim=_TRIM,
        learn_alpha=run.variant != "alpha-absent",
        seed=run.seed,
    )
    if run.arm == "none":
        return Plain(encoder, recipe, data.num_answers)
    vectors = anchors_of(recipe).vectors
    if run.variant != "unit-anchors":
        vectors = _ANCHOR_LENGTH * vectors
    counts = np.bincount(ground.seen[1].numpy(), minlength=data.num_answers)
    model = KnowledgePruning(encoder, recipe, vectors, counts)
    if run.variant == "alpha-absent":
        model.log_alpha.data.zero_()
    return model


def _answers(run: PaperRun, model: KnowledgePruning | Plain, windows: Tensor) -> dict[str, Tensor]:
    """Every readout of the answer: numbers `[batch]`, or probabilities `[batch, classes]`."""
    if isinstance(model, Plain):
        output = model.head(model.encoder(windows))
        if model.largest is None:
            return {"head": torch.softmax(output, dim=1)}
        number = output[:, 0] * model.largest
        return {"head": number, "capped": number.clamp(0, model.largest)}
    alpha = _ALPHA if run.variant == "alpha-absent" else model.log_alpha.exp()
    cosines = normalise(model.encoder(windows)) @ model.aligned_anchors().T
    probabilities = torch.softmax(alpha * cosines, dim=1)
    if model.trim is None:
        return {"nearest": probabilities}
    return {
        "vote": vote(probabilities, model.trim),
        "mean": vote(probabilities, 0.0),
        "argmax": probabilities.argmax(dim=1).to(probabilities.dtype),
    }


def _batches(ground: Ground, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end; a last batch of one window is left out of its pass."""
    windows, labels = ground.seen
    random = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.split(torch.randperm(len(labels), generator=random), _BATCH):
            if len(chosen) > 1:
                yield windows[chosen], labels[chosen]


def _step(
    model: KnowledgePruning | Plain, optimiser: torch.optim.Adam, windows: Tensor, labels: Tensor
) -> None:
    loss = model.loss(windows, labels)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _slow_down(optimiser: torch.optim.Adam) -> None:
    for group in optimiser.param_groups:
        group["lr"] *= _DECAY


def _scaling(
    data: DataSet, windows: NDArray[np.float32], *, one_scaler: bool
) -> Callable[[NDArray[np.float32]], Tensor]:
    if data.scaling != "conditions":
        scaler = fit_scaler(data.scaling, windows)
        return lambda raw: torch.from_numpy(scale(raw, scaler))
    if one_scaler:
        one = fit_scaler("minmax", windows[:, :, SETTINGS:])
        return lambda raw: torch.from_numpy(scale(raw[:, :, SETTINGS:], one))
    found = fit_conditions(windows)
    return lambda raw: torch.cat([found(part) for part in torch.split(torch.from_numpy(raw), 4096)])


@lru_cache(maxsize=1)
def _read(benchmark: str, folder: Path) -> DataSet:
    return read_benchmark(benchmark, folder, conditions=benchmark.startswith("FD"))

"""The training loop: one function, flat settings.

Guarantees:

- The same recipe and the same windows give the same weights, bit by bit, on one machine: torch runs
  on one thread, and every random number comes from one seed.
- A run that is interrupted and continues from its folder gives the weights of an uninterrupted run.
- The student sees nothing but the given windows and labels.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.manifest import Scaler
from training.augment import augment
from training.checkpoints import STATE_FILE, read_state, write_state
from training.recipes import Recipe, format_recipe
from training.scoring import scale_windows
from training.windows import WindowSet, digest_windows

__all__ = ["BuildMethod", "Distilled", "Epoch", "distill"]

_WARM_UP_STEPS = 200

BuildMethod = Callable[[Recipe, int, int, NDArray[np.int64]], Any]
"""Makes the untrained method from recipe, length, channels and label counts; see
`training.methods.build.build_method`."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state of a run after one pass over the data.

    Attributes:
        number: Passes done, counted from 1.
        epochs: Passes of the whole run.
        loss: Mean loss of the pass.
        student: The averaged student as it would be exported now, in evaluation mode.
    """

    number: int
    epochs: int
    loss: float
    student: nn.Module


@dataclass(frozen=True, slots=True)
class Distilled:
    """The result of a run.

    Attributes:
        student: Module to export, in evaluation mode; None if the deadline came first.
        losses: Mean loss of every pass, including those before a restart.
        seconds: Computing time of all passes.
    """

    student: nn.Module | None
    losses: tuple[float, ...]
    seconds: float


def distill(
    recipe: Recipe,
    data: WindowSet,
    scaler: Scaler,
    num_answers: int,
    build: BuildMethod,
    *,
    preprocessor: nn.Module | None = None,
    teacher_scores: NDArray[np.float32] | None = None,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    deadline_s: float = math.inf,
) -> Distilled:
    """Train a student.

    Args:
        recipe: All settings.
        data: Windows to learn from, in raw units; held-out groups must not be among them.
        scaler: Scaler of the windows.
        num_answers: Number of classes, or the largest number + 1.
        build: Makes the untrained method.
        preprocessor: Part of the graph between scaler and encoder; it is not trained.
        teacher_scores: A teacher's score of each window, for methods with `loss_with_teacher`.
        folder: Keeps `last.pt` after every pass; an interrupted run continues from it.
        on_epoch: Called after every pass; it cannot change the weights.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Raises:
        CheckpointError: `folder` holds the state of another run or cannot be read.
        AnchorCacheError: Anchors are missing or damaged.
    """
    with _one_thread_one_seed(recipe.seed):
        run, batches = _prepare(
            recipe, data, scaler, num_answers, build, preprocessor, teacher_scores
        )
        if folder is not None:
            run.read(folder / STATE_FILE)
        while run.done < recipe.epochs:
            if time.monotonic() >= deadline_s:
                return Distilled(None, tuple(run.losses), run.seconds)
            run.one_epoch(batches)
            if folder is not None:
                run.write(folder / STATE_FILE)
            with torch.random.fork_rng(devices=[]):
                on_epoch(Epoch(run.done, recipe.epochs, run.losses[-1], run.student()))
        return Distilled(run.student(), tuple(run.losses), run.seconds)


@dataclass(frozen=True, slots=True)
class _TrainingData:
    """Tensors of a run; `affine` scales the windows after augmentation."""

    windows: Tensor
    labels: Tensor
    affine: tuple[Tensor, Tensor]
    teacher_scores: Tensor | None


def _prepare(
    recipe: Recipe,
    data: WindowSet,
    scaler: Scaler,
    num_answers: int,
    build: BuildMethod,
    preprocessor: nn.Module | None,
    teacher_scores: NDArray[np.float32] | None,
) -> tuple[_Run, _TrainingData]:
    counts = np.bincount(data.labels, minlength=num_answers)
    windows, labels = torch.from_numpy(data.windows), torch.from_numpy(data.labels)
    affine = torch.tensor(scaler.scale), torch.tensor(scaler.offset)
    if preprocessor is not None:
        windows = scale_windows(data.windows, scaler, preprocessor)
        affine = torch.ones(windows.shape[2]), torch.zeros(windows.shape[2])
    method = build(recipe, windows.shape[1], windows.shape[2], counts)
    run = _Run(recipe, method, _identity(recipe, data, scaler), preprocessor)
    scores = None if teacher_scores is None else torch.from_numpy(teacher_scores)
    return run, _TrainingData(windows, labels, affine, scores)


class _Run:
    """Weights, their average, the optimiser and the progress."""

    def __init__(
        self, recipe: Recipe, method: Any, identity: str, preprocessor: nn.Module | None
    ) -> None:
        self.preprocessor = preprocessor
        self.recipe = recipe
        self.method = method
        self.average = copy.deepcopy(method)
        self.optimiser = torch.optim.AdamW(
            method.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.identity = identity
        self.done = 0
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0

    def student(self) -> nn.Module:
        exported: nn.Module = self.average.exported()
        if self.preprocessor is not None:
            exported = nn.Sequential(self.preprocessor, exported)
        return exported.eval()

    def one_epoch(self, data: _TrainingData) -> None:
        started = time.perf_counter()
        self.method.train()
        total = 0.0
        order = torch.split(torch.randperm(len(data.labels)), self.recipe.batch_size)
        for chosen in order:
            self._set_rate(len(order) * self.recipe.epochs)
            batch, labels = augment(data.windows[chosen], data.affine, self.recipe), data.labels
            if data.teacher_scores is None:
                loss = self.method.loss(batch, labels[chosen])
            else:
                scores = data.teacher_scores[chosen]
                loss = self.method.loss_with_teacher(batch, labels[chosen], scores)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self._update_average()
            total += float(loss.detach()) * len(chosen)
        self.done += 1
        self.losses.append(total / len(data.labels))
        self.seconds += time.perf_counter() - started

    def _set_rate(self, steps: int) -> None:
        warm_up = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm_up * cosine
        self.step += 1

    @torch.no_grad()
    def _update_average(self) -> None:
        # At first the average must forget the random start faster than its final decay does.
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        new = self.method.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(new[name], 1 - decay)
            else:
                value.copy_(new[name])

    def write(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "method": self.method.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "progress": [self.done, self.step, self.seconds],
            "losses": self.losses,
        }
        write_state(path, state)

    def read(self, path: Path) -> None:
        state = read_state(path, self.identity)
        if state is None:
            return
        self.method.load_state_dict(state["method"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.done, self.step, self.seconds = state["progress"]
        self.losses = list(state["losses"])


def _identity(recipe: Recipe, data: WindowSet, scaler: Scaler) -> str:
    text = f"{format_recipe(recipe)}{digest_windows(data)}{scaler.model_dump_json()}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def _one_thread_one_seed(seed: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the last bit, depends on it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)

"""The training loop: one function, flat settings, nothing hidden.

Guarantees: the same recipe and the same windows give the same weights, bit by bit, on one machine
(one torch thread, every random number from one seed); a run that is cut off and continued from its
folder gives the weights of an undisturbed run; nothing but the given windows and labels is seen.
"""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
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

from models.features import scale
from models.manifest import Scaler
from training.datasets.contract import digest_windows
from training.errors import CheckpointError
from training.methods.contract import build_method
from training.recipes import Recipe, format_recipe
from training.students.conditions import fit_conditions
from training.windows import WindowSet

__all__ = [
    "STATE_FILE",
    "Distilled",
    "Epoch",
    "augment",
    "distill",
    "fit_front",
    "scale_windows",
    "score_student",
]

STATE_FILE = "last.pt"
_WARM_UP_STEPS = 200
_SHORTEST = 30  # readings; below that C-MAPSS windows are not padded (training.datasets.cmapss)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after a pass over the data.

    Attributes:
        number: passes done, from 1.
        epochs: passes of the whole run.
        loss: mean loss of the pass.
        student: the averaged student as it would be exported now, in evaluation mode.
    """

    number: int
    epochs: int
    loss: float
    student: nn.Module


@dataclass(frozen=True, slots=True)
class Distilled:
    """The result of a run.

    Attributes:
        student: the module to export, in evaluation mode; None when the deadline came first.
        losses: mean loss of every pass, those before a restart included.
        seconds: computing time of all passes.
    """

    student: nn.Module | None
    losses: tuple[float, ...]
    seconds: float


def distill(
    recipe: Recipe,
    data: WindowSet,
    scaler: Scaler,
    num_answers: int,
    *,
    front: nn.Module | None = None,
    hints: NDArray[np.float32] | None = None,
    build: Callable[[Recipe, int, int, NDArray[np.int64]], nn.Module] = build_method,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    deadline_s: float = math.inf,
) -> Distilled:
    """Train a student.

    Args:
        recipe: all settings.
        data: the windows to learn from, in raw units; held-out groups must not be among them.
        scaler: scales them.
        num_answers: classes, or `max_rul + 1`.
        front: what the graph does to scaled windows before the encoder; not trained.
        hints: what a teacher says of each window, for methods that listen (`loss_with`).
        build: makes the untrained method from recipe, length, channels and label counts.
        folder: keeps `last.pt` after every pass, and a run that was cut off goes on from it.
        on_epoch: called after every pass; what it does cannot change the weights.
        deadline_s: `time.monotonic()` at which no further pass is started.

    Raises:
        CheckpointError: `folder` holds the state of another run or cannot be read.
        AnchorCacheError: anchors are missing or damaged.
    """
    with _one_thread_one_seed(recipe.seed):
        counts = np.bincount(data.labels, minlength=num_answers)
        windows, labels = torch.from_numpy(data.windows), torch.from_numpy(data.labels)
        affine = torch.tensor(scaler.scale), torch.tensor(scaler.offset)
        if front is not None:
            windows = scale_windows(data.windows, scaler, front)
            affine = torch.ones(windows.shape[2]), torch.zeros(windows.shape[2])
        method = build(recipe, windows.shape[1], windows.shape[2], counts)
        run = _Run(recipe, method, _identity(recipe, data, scaler), front)
        said = None if hints is None else torch.from_numpy(hints)
        if folder is not None:
            run.read(folder / STATE_FILE)
        while run.done < recipe.epochs:
            if time.monotonic() >= deadline_s:
                return Distilled(None, tuple(run.losses), run.seconds)
            run.one_epoch(windows, labels, affine, said)
            if folder is not None:
                run.write(folder / STATE_FILE)
            with torch.random.fork_rng(devices=[]):
                on_epoch(Epoch(run.done, recipe.epochs, run.losses[-1], run.student()))
        return Distilled(run.student(), tuple(run.losses), run.seconds)


class _Run:
    """Weights, their average, the optimiser and how far it got."""

    def __init__(self, recipe: Recipe, method: Any, identity: str, front: nn.Module | None) -> None:
        self.front = front
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
        if self.front is not None:
            exported = nn.Sequential(self.front, exported)
        return exported.eval()

    def one_epoch(
        self,
        windows: Tensor,
        labels: Tensor,
        affine: tuple[Tensor, Tensor],
        hints: Tensor | None,
    ) -> None:
        started = time.perf_counter()
        self.method.train()
        total = 0.0
        order = torch.split(torch.randperm(len(labels)), self.recipe.batch_size)
        for chosen in order:
            self._set_rate(len(order) * self.recipe.epochs)
            batch = augment(windows[chosen], affine, self.recipe)
            if hints is None:
                loss = self.method.loss(batch, labels[chosen])
            else:
                loss = self.method.loss_with(batch, labels[chosen], hints[chosen])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self._update_average()
            total += float(loss.detach()) * len(chosen)
        self.done += 1
        self.losses.append(total / len(labels))
        self.seconds += time.perf_counter() - started

    def _set_rate(self, steps: int) -> None:
        warm_up = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm_up * cosine
        self.step += 1

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average must forget the random start faster than its final decay.
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        new = self.method.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(new[name], 1 - decay)
            else:
                value.copy_(new[name])

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "identity": self.identity,
            "method": self.method.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "progress": [self.done, self.step, self.seconds],
            "losses": self.losses,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def read(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
            identity = state["identity"]
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.PickleError) as exc:
            msg = f"{path} cannot be read ({type(exc).__name__}): delete it to start again"
            raise CheckpointError(msg) from exc
        if identity != self.identity:
            msg = (
                f"{path} belongs to a run with another recipe or other data: "
                "give another --out folder, or delete the file to start again"
            )
            raise CheckpointError(msg)
        self.method.load_state_dict(state["method"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.done, self.step, self.seconds = state["progress"]
        self.losses = list(state["losses"])


def augment(windows: Tensor, affine: tuple[Tensor, Tensor], recipe: Recipe) -> Tensor:
    """Disturb raw windows as the recipe says, and scale them: `[batch, length, channels]`.

    Rotation and gain act on raw units (gravity turns with the sensor), offsets and noise on scaled
    ones. Rotation turns every triple of channels (x, y, z) of a window by the same angle.
    """
    batch, _, channels = windows.shape
    if recipe.rotation_deg:
        turn = _rotations(batch, math.radians(recipe.rotation_deg))
        triples = windows.reshape(batch, -1, channels // 3, 3)
        windows = torch.einsum("nlcj,nij->nlci", triples, turn).flatten(2)
    if recipe.scale_jitter:
        windows = windows * (1 + recipe.scale_jitter * torch.randn(batch, 1, 1))
    scaled = windows * affine[0] + affine[1]
    if recipe.truncation:
        scaled = _truncate(scaled, recipe.truncation)
    if recipe.offset_jitter:
        scaled = scaled + recipe.offset_jitter * torch.randn(batch, 1, channels)
    if recipe.noise:
        scaled = scaled + recipe.noise * torch.randn_like(scaled)
    return scaled


def score_student(student: nn.Module, scaled: Tensor) -> NDArray[np.float32]:
    """Scores of a student on scaled windows: `[n]` cycles or `[n, classes]`."""
    with torch.no_grad():
        outputs = [student(batch).numpy() for batch in torch.split(scaled, 512)]
    return np.asarray(np.concatenate(outputs), dtype=np.float32)


def _truncate(windows: Tensor, share: float) -> Tensor:
    """Forget the first readings of some windows; the oldest that is left takes their place."""
    batch, length, channels = windows.shape
    longest = max(length - _SHORTEST, 0) + 1
    first = torch.randint(0, longest, (batch,)) * (torch.rand(batch) < share)
    kept = torch.maximum(torch.arange(length)[None], first[:, None])
    return windows.gather(1, kept[:, :, None].expand(-1, -1, channels))


def fit_front(scaling: str, windows: NDArray[np.float32]) -> nn.Module | None:
    """What comes before the encoder in the graph: scaling per condition, or nothing."""
    return fit_conditions(windows) if scaling == "conditions" else None


def scale_windows(windows: NDArray[np.float32], scaler: Scaler, front: nn.Module | None) -> Tensor:
    """Raw windows as the encoder gets them: through the scaler and `front`."""
    scaled = torch.from_numpy(scale(windows, scaler))
    if front is None:
        return scaled
    with torch.no_grad():
        return torch.cat([front(part) for part in torch.split(scaled, 4096)])


def _rotations(count: int, deviation_rad: float) -> Tensor:
    """Draw `[count, 3, 3]` rotations about random axes (Rodrigues' formula)."""
    axis = torch.nn.functional.normalize(torch.randn(count, 3), dim=1)
    angle = deviation_rad * torch.randn(count, 1, 1)
    cross = torch.linalg.cross(axis[:, None], torch.eye(3)[None])
    turn: Tensor = (
        torch.eye(3) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
    )
    return turn


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

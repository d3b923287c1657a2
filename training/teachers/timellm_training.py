"""The training loop of TIME-LLM: Adam on what surrounds the frozen language model.

Guarantees:

- The same configuration, data and backbone give the same weights, bit by bit, on one machine: torch
  runs on one thread, and every random number comes from the configuration's seed.
- A run that is interrupted and continues from its folder gives the weights of an uninterrupted run.
- Weights are learned from the training windows; the validation windows choose the pass.
"""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import CheckpointError
from training.teachers.prompt_states import PromptForm
from training.teachers.timellm_config import TimeLLMConfig
from training.teachers.timellm_network import TimeLLMNetwork
from training.teachers.timellm_windows import ChannelWindows, run_network

__all__ = ["STATE_FILE", "History", "TimeLLMEpoch", "one_thread_one_seed", "train_network"]

STATE_FILE = "last.pt"


@dataclass(frozen=True, slots=True)
class TimeLLMEpoch:
    """The state of a run after one pass over the training windows.

    Attributes:
        number: Passes done, counted from 1.
        epochs: Most passes of the run.
        loss: Mean training loss of the pass.
        validation_mse: Error on the validation windows.
        entropy: Mean entropy of the attention over the prototypes, in nats.
        seconds: Time of all passes by the clock.
    """

    number: int
    epochs: int
    loss: float
    validation_mse: float
    entropy: float
    seconds: float


@dataclass(slots=True)
class History:
    """What happened so far, restarts included.

    Attributes:
        losses: Training loss of every pass.
        validations: Validation error of every pass.
        start_mse: Validation error before the first pass.
        best: Pass whose weights are kept; 0 is the start.
        seconds: Time of all passes by the clock.
        cpu_seconds: Computing time of all passes, the same on a busy machine.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    start_mse: float = math.inf
    best: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def lowest(self) -> float:
        """Validation error of the weights that are kept."""
        return min([self.start_mse, *self.validations])


def train_network(
    network: TimeLLMNetwork,
    language: PromptForm | None,
    train: ChannelWindows,
    validation: ChannelWindows,
    folder: Path | None = None,
    run_name: str = "",
    on_epoch: Callable[[TimeLLMEpoch], None] = lambda epoch: None,
    deadline_s: float = math.inf,
    passes: int | None = None,
) -> History | None:
    """Train `network` in place; it ends with the weights of its best pass.

    Args:
        network: Untrained network.
        language: The frozen language model with the prompts of both parts.
        train: Windows to learn from.
        validation: Windows that choose the pass. The start counts as pass 0.
        folder: Keeps `last.pt` after every pass; an interrupted run continues from it.
        run_name: Names configuration, data and backbone; `last.pt` of another name is refused.
        on_epoch: Called after every pass; it cannot change the weights.
        deadline_s: `time.monotonic()` from which no further pass starts.
        passes: Passes to make instead, without stopping early; the last one's weights are kept.

    Returns:
        The history, or None if the deadline came first.

    Raises:
        CheckpointError: `folder` holds the state of another run or cannot be read.
    """
    config = network.config
    run = _Run(network, language, train, validation, run_name, passes)
    if folder is not None:
        run.read(folder / STATE_FILE)
    if math.isinf(run.history.start_mse):
        run.history.start_mse = run_network(network, language, validation).mse
    while not run.is_done:
        if time.monotonic() >= deadline_s:
            return None
        epoch = run.one_epoch(config)
        if folder is not None:
            run.write(folder / STATE_FILE)
        on_epoch(epoch)
    network.load_state_dict(run.best)
    network.eval()
    return run.history


@contextmanager
def one_thread_one_seed(seed: int) -> Iterator[None]:
    """Run torch on one thread and from one seed, and restore both afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """A run between two passes: weights, optimiser, best weights, history."""

    def __init__(
        self,
        network: TimeLLMNetwork,
        language: PromptForm | None,
        train: ChannelWindows,
        validation: ChannelWindows,
        name: str,
        passes: int | None,
    ) -> None:
        self.network, self.language = network, language
        self.train, self.validation, self.name = train, validation, name
        self.config, self.passes = network.config, passes
        self.optimiser = torch.optim.Adam(network.parameters(), lr=self.config.learning_rate)
        self.history = History()
        self.best: dict[str, Tensor] = copy.deepcopy(network.state_dict())

    @property
    def is_done(self) -> bool:
        done = len(self.history.losses)
        if self.passes is not None:
            return done >= self.passes
        return done >= self.config.epochs or done - self.history.best >= self.config.patience

    def one_epoch(self, config: TimeLLMConfig) -> TimeLLMEpoch:
        started, cpu_started = time.perf_counter(), time.process_time()
        history, number = self.history, len(self.history.losses) + 1
        torch.manual_seed(config.seed * 10_000 + number)  # dropout: the same after a restart
        order = np.random.default_rng((config.seed, number)).permutation(len(self.train))
        order = order[: math.ceil(len(order) / config.stride)]
        batches = np.array_split(order, math.ceil(len(order) / config.batch_size))
        self.network.train()
        total = entropy = 0.0
        for step, batch in enumerate(batches):
            self._set_rate((number - 1 + step / len(batches)) / config.epochs)
            rows = torch.from_numpy(batch)
            loss, found = self._step(rows)
            total += loss * len(batch)
            entropy += found * len(batch)
        mse = run_network(self.network, self.language, self.validation).mse
        if mse < history.lowest or self.passes is not None:
            history.best = number
            self.best = copy.deepcopy(self.network.state_dict())
        history.losses.append(total / len(order))
        history.validations.append(mse)
        history.seconds += time.perf_counter() - started
        history.cpu_seconds += time.process_time() - cpu_started
        return TimeLLMEpoch(
            number,
            config.epochs,
            history.losses[-1],
            mse,
            entropy / len(order),
            history.seconds,
        )

    def _step(self, rows: Tensor) -> tuple[float, float]:
        train = self.train
        out = self.network(train.inputs[rows], self.language, train.index[rows])
        loss = torch.nn.functional.mse_loss(out.values, train.targets[rows])
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach()), float(out.entropy)

    def _set_rate(self, progress: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        history = {name: getattr(self.history, name) for name in History.__slots__}
        state = {
            "name": self.name,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "history": history,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def read(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if state["name"] != self.name:
                msg = (
                    f"{path} belongs to run {state['name']}, not {self.name}: choose another "
                    "folder or delete it"
                )
                raise CheckpointError(msg)
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.best, self.history = state["best"], History(**state["history"])
        except (
            OSError,
            KeyError,
            RuntimeError,
            TypeError,
            EOFError,
            pickle.UnpicklingError,
        ) as exc:
            msg = f"{path} cannot be read ({exc}): delete it to start this run again"
            raise CheckpointError(msg) from exc

"""One training run of LLaTA: net, optimiser, history, best weights, and the rule of refusal."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import TeacherError
from training.teachers.backbones import Backbone
from training.teachers.llata_config import LlataConfig
from training.teachers.llata_net import LlataNet, TextStates, llata_losses
from training.teachers.llata_windows import fit_ridge
from training.teachers.principal_words import cached_words
from training.teachers.products import read_arrays, write_arrays

__all__ = [
    "LlataEpoch",
    "LlataTraining",
    "build_llata",
    "forecast_windows",
    "last_states",
    "may_text_teach",
]

_STATE = "last.pt"
_FORECAST_BATCH = 256


@dataclass(frozen=True, slots=True)
class LlataEpoch:
    """One pass over the training windows.

    Attributes:
        number: Passes done, counted from 1; 0 is the ridge that the net starts as.
        losses: Mean of each loss over the pass.
        validation: Validation MSE of the temporal branch, standardised units.
        text_validation: The same of the textual branch; None if it is off.
        is_text_refused: The textual branch taught nothing in this pass.
        seconds: Computing time (of the processor) of the pass, validation included.
    """

    number: int
    losses: dict[str, float]
    validation: float
    text_validation: float | None
    is_text_refused: bool
    seconds: float


def build_llata(
    config: LlataConfig, backbone: Backbone | None, folder: Path, length: int, horizon: int
) -> LlataNet:
    """Build the untrained net; principal words come from the cache in `folder`."""
    words = None
    if backbone is not None and config.text != "off":
        words = torch.from_numpy(
            cached_words(
                folder,
                backbone.words.numpy(),
                backbone.weights_hash,
                config.word_count,
                random_seed=config.seed if config.words == "random" else None,
            )
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlataNet(config, backbone, words, length, horizon)


def forecast_windows(net: LlataNet, windows: SeriesWindows) -> NDArray[np.float32]:
    """Forecast all windows with the temporal branch: `[n, horizon, channels]`."""
    parts = []
    net.eval()
    with torch.no_grad():
        for index in _batches(len(windows), _FORECAST_BATCH):
            inputs = torch.from_numpy(windows.inputs(index))
            parts.append(net(inputs, with_text=False).time.numpy())
    return np.concatenate(parts)


def last_states(net: LlataNet, windows: SeriesWindows) -> NDArray[np.float16]:
    """Return the last states of the temporal branch: `[n, channels, width]`."""
    parts = []
    net.eval()
    with torch.no_grad():
        for index in _batches(len(windows), _FORECAST_BATCH):
            out = net(torch.from_numpy(windows.inputs(index)), with_text=False)
            parts.append(out.time_states[-1].numpy().astype(np.float16))
    return np.concatenate(parts)


def may_text_teach(last: LlataEpoch | None) -> bool:
    """Tell whether the textual branch may teach in the pass after `last`.

    It may after it has forecast the validation windows better than the temporal branch did. Before
    the first pass nothing is known, so it may not.
    """
    if last is None or last.text_validation is None:
        return False
    return last.text_validation < last.validation


class LlataTraining:
    """The state of one run; it continues from its folder.

    Args:
        data: Series; validation part and scaling are used.
        config: Settings.
        backbone: Language model, or None.
        folder: Keeps the state; the folder around it keeps caches.
        windows: Windows to learn from.

    Raises:
        TeacherError: There are no windows, or the folder holds a damaged state or that of another
            run.
    """

    def __init__(
        self,
        data: SeriesSet,
        config: LlataConfig,
        backbone: Backbone | None,
        folder: Path,
        windows: SeriesWindows,
    ) -> None:
        if not len(windows):
            msg = f"{data.name}: no training window is left: raise share ({config.share})"
            raise TeacherError(msg)
        start = time.process_time()
        self.config, self.folder, self.backbone, self.windows = config, folder, backbone, windows
        length, horizon = windows.length, windows.horizon
        self.validation = data.windows("validation", length, horizon, config.validation_stride)
        self.net = build_llata(config, backbone, folder.parent, length, horizon)
        self.trained = {n: p for n, p in self.net.named_parameters() if p.requires_grad}
        projections = [p for n, p in self.trained.items() if "projections" in n]
        others = [p for n, p in self.trained.items() if "projections" not in n]
        groups: list[dict[str, Any]] = [{"params": others, "lr": config.rate}]
        if projections:
            groups.append({"params": projections, "lr": config.projection_rate})
        self.optimiser = torch.optim.Adam(groups)
        if self.net.ridge is not None:
            weights = fit_ridge(windows, self.validation)
            self.net.ridge.weight.data = torch.from_numpy(weights.T.astype(np.float32).copy())
        self.history: list[LlataEpoch] = []
        self.best: dict[str, torch.Tensor] = {}
        self.key = _digest([config.as_request(), data.digest, _facts(windows)])
        self.text = self._cached_text("train", windows)
        self.validation_text = self._cached_text("validation", self.validation)
        self.preparing = time.process_time() - start
        self._read()

    @property
    def best_epoch(self) -> LlataEpoch:
        """The epoch with the lowest validation error; the first of equal ones."""
        return min(self.history, key=lambda epoch: epoch.validation)

    @property
    def seconds(self) -> float:
        """Computing time so far."""
        return self.preparing + sum(epoch.seconds for epoch in self.history)

    def train(self, on_epoch: Callable[[LlataEpoch], None], deadline_s: float) -> bool:
        """Train until early stopping and load the best weights; False if the deadline came."""
        while not self._is_done():
            if time.monotonic() >= deadline_s:
                return False
            is_start = self.net.ridge is not None and not self.history
            epoch = self._start() if is_start else self._one_epoch()
            self.history.append(epoch)
            if epoch is self.best_epoch:
                self.best = {name: value.detach().clone() for name, value in self.trained.items()}
            self._write()
            on_epoch(epoch)
        self.net.load_state_dict(self.best, strict=False)
        self.net.eval()
        return True

    def _is_done(self) -> bool:
        done = self.history[-1].number if self.history else 0
        if done and done - self.best_epoch.number >= self.config.patience:
            return True
        return done >= self.config.epochs

    def _start(self) -> LlataEpoch:
        """Score the untrained net, which is the ridge: the first candidate."""
        start = time.process_time()
        validation, text = self._validate()
        return LlataEpoch(0, {}, validation, text, True, time.process_time() - start)

    def _one_epoch(self) -> LlataEpoch:
        start = time.process_time()
        number = self.history[-1].number + 1 if self.history else 1
        config = self.config
        is_refused = self._is_text_refused()
        wave = math.cos(math.pi * (number - 1) / config.cosine_period)
        self.optimiser.param_groups[0]["lr"] = max(config.rate * (1 + wave) / 2, 1e-8)
        # A seed per pass: a run that continues draws the numbers of an uninterrupted one.
        torch.manual_seed(1000 * config.seed + number)
        order = np.random.default_rng([config.seed, number]).permutation(len(self.windows))
        sums: dict[str, float] = {}
        self.net.train()
        for index in np.array_split(order, math.ceil(len(order) / config.batch)):
            inputs = torch.from_numpy(self.windows.inputs(index))
            out = self.net(inputs, _rows(self.text, index))
            targets = torch.from_numpy(self.windows.targets(index))
            losses = llata_losses(self.net, out, targets, config, is_text_refused=is_refused)
            self.optimiser.zero_grad()
            torch.autograd.backward(losses["total"])
            self.optimiser.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(index)
        means = {name: value / len(order) for name, value in sums.items()}
        validation, text_validation = self._validate()
        seconds = time.process_time() - start
        return LlataEpoch(number, means, validation, text_validation, is_refused, seconds)

    def _is_text_refused(self) -> bool:
        if not self.config.refuse_worse_text or self.config.text == "off":
            return False
        return not may_text_teach(self.history[-1] if self.history else None)

    def _validate(self) -> tuple[float, float | None]:
        self.net.eval()
        sums, count = np.zeros(2), 0
        with torch.no_grad():
            for index in _batches(len(self.validation), _FORECAST_BATCH):
                inputs = torch.from_numpy(self.validation.inputs(index))
                targets = torch.from_numpy(self.validation.targets(index))
                out = self.net(inputs, _rows(self.validation_text, index))
                sums[0] += float((out.time - targets).square().sum())
                if out.text is not None:
                    sums[1] += float((out.text - targets).square().sum())
                count += targets.numel()
        text = float(sums[1]) / count if self.config.text != "off" else None
        return float(sums[0]) / count, text

    def _cached_text(self, part: str, windows: SeriesWindows) -> NDArray[np.float16] | None:
        """States of the textual branch `[n, blocks + 2, channels, width]`, computed once."""
        if self.config.text != "cached" or self.backbone is None:
            return None
        keys = ("blocks", "words", "word_count", "scale_words", "heads", "seed")
        settings = {key: getattr(self.config, key) for key in keys}
        content = hashlib.sha256(windows.inputs(slice(0, None, 64)).tobytes()).hexdigest()
        key = _digest([settings, self.backbone.weights_hash, part, _facts(windows), content])
        place = self.folder.parent / f"text-{part}-{key[:16]}"
        if not place.exists():
            parts = []
            self.net.eval()
            with torch.no_grad():
                for index in _batches(len(windows), _FORECAST_BATCH):
                    text = self.net.text_states(torch.from_numpy(windows.inputs(index)))
                    stacked = torch.stack([text.tokens, *text.states], dim=1)
                    parts.append(stacked.numpy().astype(np.float16))
            write_arrays(place, key, {"states": np.concatenate(parts)}, {"part": part})
        arrays, _ = read_arrays(place, key)
        return arrays["states"]

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "key": self.key,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
            "trained": {name: value.detach() for name, value in self.trained.items()},
            "optimiser": self.optimiser.state_dict(),
        }
        making = self.folder / f"{_STATE}.new"
        torch.save(state, making)
        making.replace(self.folder / _STATE)

    def _read(self) -> None:
        path = self.folder / _STATE
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
            is_same = state["key"] == self.key
        except Exception as exc:
            msg = f"{path} cannot be read ({exc}): delete it"
            raise TeacherError(msg) from exc
        if not is_same:
            msg = f"{path} belongs to a run with other settings or data: delete it"
            raise TeacherError(msg)
        self.history = [LlataEpoch(**line) for line in state["history"]]
        self.best = state["best"]
        self.net.load_state_dict(state["trained"], strict=False)
        self.optimiser.load_state_dict(state["optimiser"])


def _rows(states: NDArray[np.float16] | None, index: NDArray[np.int64]) -> TextStates | None:
    if states is None:
        return None
    rows = torch.from_numpy(np.asarray(states[index], dtype=np.float32)).unbind(dim=1)
    return TextStates(rows[0], tuple(rows[1:]))


def _batches(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _facts(windows: SeriesWindows) -> list[Any]:
    first = hashlib.sha256(np.ascontiguousarray(windows.first, dtype="<i8").tobytes()).hexdigest()
    return [windows.length, windows.horizon, len(windows), first]


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()

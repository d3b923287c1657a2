"""LLaTA as a teacher of forecasts: training on two cores, and products for students.

The net is in `training.teachers.llata_net`. A run reads a set of series, trains with early stopping
on the validation part, and writes its forecasts of the training windows as products
(`training.teachers.products`). The backbone is loaded only if no finished products are there.

Guarantees:

- The same configuration and data give the same weights on one machine with one torch thread.
- A run that is interrupted continues from its folder with the same result.
- Nothing is learned from the test part; the validation part decides the epoch and whether the
  textual branch may teach.

The rule of refusal: after each epoch both branches forecast the validation windows. The textual
branch teaches in the next epoch only if its error was lower than the temporal branch's
(`refuse_worse_text`); the history keeps both errors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.teachers.backbones import Backbone, load_backbone
from training.teachers.llata_config import LlataConfig
from training.teachers.llata_net import LlataNet
from training.teachers.llata_training import (
    LlataEpoch,
    LlataTraining,
    forecast_windows,
    last_states,
)
from training.teachers.llata_windows import fold_windows, training_windows
from training.teachers.products import (
    ProductRequest,
    Products,
    find_products,
    read_products,
    write_products,
)

__all__ = ["LlataRun", "train_llata"]


@dataclass(frozen=True, slots=True)
class LlataRun:
    """The result of a run.

    Attributes:
        products: Forecasts of the training windows; None if the deadline came first.
        history: All passes, those before a restart included.
        net: The net with the weights of the best epoch, in evaluation mode, without its textual
            branch; None if the products were already there or the deadline came first.
        seconds: Computing time of all passes, the caches and the products.
    """

    products: Products | None
    history: tuple[LlataEpoch, ...]
    net: LlataNet | None
    seconds: float


def train_llata(
    data: SeriesSet,
    config: LlataConfig,
    folder: Path,
    *,
    length: int,
    horizon: int,
    on_epoch: Callable[[LlataEpoch], None] = lambda epoch: None,
    deadline_s: float = math.inf,
    load: Callable[..., Backbone] = load_backbone,
) -> LlataRun:
    """Train LLaTA and write its products, or read them if they are there.

    Args:
        data: Series; training and validation part are used.
        config: Settings.
        folder: Keeps products, caches and the state of an interrupted run.
        length: Readings in the look-back.
        horizon: Readings in a forecast.
        on_epoch: Called after every pass.
        deadline_s: `time.monotonic()` from which no further pass starts.
        load: Loads the backbone by name.

    Raises:
        TeacherError: The folder holds damaged files, or there are too few windows.
        MissingExtraError: The backbone's package is not installed.
    """
    request = ProductRequest(
        "llata", config.as_request(), data.digest, length, horizon, config.product_stride
    )
    found = find_products(folder, request)
    if found is not None:
        history = tuple(LlataEpoch(**line) for line in found.header["history"])
        return LlataRun(found, history, None, float(found.header["seconds"]))
    with _one_thread():
        backbone = _backbone(config, load)
        work = folder / f"llata-work-{request.key[:16]}"
        windows = training_windows(data, length, horizon, config.stride, config.share)
        run = LlataTraining(data, config, backbone, work, windows)
        asked = training_windows(data, length, horizon, config.product_stride, config.share)
        forecasts = None
        if run.train(on_epoch, deadline_s):
            start = time.process_time()
            forecasts = _forecasts(run, data, asked, on_epoch, deadline_s)
            run.preparing += time.process_time() - start
        if forecasts is None:
            return LlataRun(None, tuple(run.history), None, run.seconds)
        stage = f"time-{config.blocks}"
        features = {stage: last_states(run.net, asked)} if config.features else None
        write_products(
            folder,
            request,
            forecasts,
            features,
            backbone=config.backbone,
            weights_hash="none" if backbone is None else backbone.weights_hash,
            seconds=run.seconds,
            history=[asdict(epoch) for epoch in run.history],
            validation=run.best_epoch.validation,
            text_validation=run.best_epoch.text_validation,
        )
        run.net.drop_text()
        return LlataRun(read_products(folder, request), tuple(run.history), run.net, run.seconds)


def _forecasts(
    run: LlataTraining,
    data: SeriesSet,
    asked: SeriesWindows,
    on_epoch: Callable[[LlataEpoch], None],
    deadline_s: float,
) -> NDArray[np.float32] | None:
    """Forecast the windows of the products, out of fold if asked; None if the deadline came."""
    config = run.config
    if config.folds == 1:
        return forecast_windows(run.net, asked)
    settings = replace(config, epochs=max(run.best_epoch.number, 1), patience=config.epochs)
    forecasts = np.zeros((len(asked), asked.horizon, len(data.channels)), dtype=np.float32)
    for number, (kept, block) in enumerate(fold_windows(run.windows, asked, config.folds)):
        folder = run.folder.with_name(f"{run.folder.name}-fold-{number}")
        fold = LlataTraining(data, settings, run.backbone, folder, kept)
        if not fold.train(on_epoch, deadline_s):
            return None
        part = replace(asked, first=asked.first[block], device=asked.device[block])
        forecasts[block] = forecast_windows(fold.net, part)
    return forecasts


def _backbone(config: LlataConfig, load: Callable[..., Backbone]) -> Backbone | None:
    if config.backbone == "none":
        return None
    seed = config.seed if config.weights == "random" else None
    return load(config.backbone, config.blocks, random_weights_seed=seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: sums in a fixed order, so that results repeat."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)

"""TIME-LLM as a teacher: train it once, cache its products, need no language model afterwards.

Source: TIME-LLM (arXiv 2310.01728). Differences from the paper: the backbone is one that the
package registries hold (`training.teachers.backbones`), never Llama-7B; windows are sub-sampled
(`TimeLLMConfig.stride`); prompts are rounded so that windows share them, and their keys and values
are computed once (`training.teachers.prompt_states`). Results are TIME-LLM-style, no reproduction.

The folder of all teachers keeps the products, the prompts' keys and values, and one folder per
request with the trained weights. A run that finds its products loads no language model; one that
finds its prompts makes no pass over them.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import Part, SeriesSet, SeriesWindows
from training.errors import TeacherError
from training.teachers.backbones import Backbone, load_backbone
from training.teachers.llata_windows import fold_windows
from training.teachers.products import (
    ProductRequest,
    Products,
    Value,
    find_products,
    read_products,
    write_products,
)
from training.teachers.prompt_states import PromptForm, make_prompt_form
from training.teachers.reprogramming import prototype_source
from training.teachers.timellm_config import TimeLLMConfig
from training.teachers.timellm_network import TimeLLMNetwork
from training.teachers.timellm_training import (
    STATE_FILE,
    History,
    TimeLLMEpoch,
    one_thread_one_seed,
    train_network,
)
from training.teachers.timellm_windows import (
    ChannelWindows,
    Pass,
    channel_windows,
    few_windows,
    fit_ridge,
    run_network,
    share_prompts,
)

__all__ = ["OpenBackbone", "forecast_timellm", "open_backbone", "timellm_request", "train_timellm"]

WEIGHTS_FILE = "teacher.pt"
OpenBackbone = Callable[[TimeLLMConfig], Backbone]


def open_backbone(config: TimeLLMConfig) -> Backbone:
    """Load the backbone of a configuration; `random` weights are drawn from its seed.

    Raises:
        MissingExtraError: Its package is not installed; the message has the install line.
        TeacherError: It has fewer blocks than asked for.
    """
    seed = config.seed if config.weights == "random" else None
    return load_backbone(config.backbone, config.blocks, random_weights_seed=seed)


def timellm_request(data: SeriesSet, config: TimeLLMConfig) -> ProductRequest:
    """Name the products of a teacher on a data set."""
    return ProductRequest(
        teacher="timellm",
        config=asdict(config),
        data_digest=data.digest,
        length=config.length,
        horizon=config.horizon,
        stride=config.product_stride,
    )


def train_timellm(
    data: SeriesSet,
    config: TimeLLMConfig,
    folder: Path,
    on_epoch: Callable[[TimeLLMEpoch], None] = lambda epoch: None,
    deadline_s: float = math.inf,
    backbone: OpenBackbone = open_backbone,
) -> Products | None:
    """Train a teacher and cache its products, or read those of an earlier run.

    The products are the forecasts of every `config.product_stride`-th training window, the feature
    stage `patches` (mean of the patches' last states), and the stage `prototypes` (attention over
    the prototypes). With a share below 1 they cover that share. The teacher has learned from these
    windows, so its forecasts of them are better than those of unseen ones; `config.folds` makes
    the forecasts (not the features) out of fold.

    Args:
        data: Series; validation windows choose the pass, the test part is not read.
        config: All settings.
        folder: Folder of the products, shared by all teachers.
        on_epoch: Called after every pass; it cannot change the weights.
        deadline_s: `time.monotonic()` from which no further pass starts.
        backbone: Loads the language model; it is not called if the products exist.

    Returns:
        The products, or None if the deadline came first: call again to continue.

    Raises:
        MissingExtraError: The backbone's package is not installed.
        CheckpointError: The state of an unfinished run cannot be read.
        TeacherError: The backbone does not fit the settings, or the products are damaged.
    """
    request = timellm_request(data, config)
    if (known := find_products(folder, request)) is not None:
        return known
    with one_thread_one_seed(config.seed):
        run = _prepare(data, config, folder, backbone)
        place = _work_folder(folder, request)
        history = train_network(
            run.network,
            run.language,
            run.train,
            run.held_out,
            place,
            request.key,
            on_epoch,
            deadline_s,
        )
        if history is None:
            return None
        cut = few_windows(data, config, "train", config.product_stride, config.share)
        index = np.searchsorted(run.windows.first, cut.first)
        found = run_network(run.network, run.language, run.train.at(index))
        forecasts: NDArray[np.float32] | None = found.forecasts
        if config.folds > 1:
            forecasts = _out_of_fold(run, history, cut, place, on_epoch, deadline_s)
    if forecasts is None:
        return None
    _write_weights(place / WEIGHTS_FILE, run.network)
    features = {"patches": found.features}
    if found.codes is not None:
        features["prototypes"] = found.codes
    facts = _facts(run, history) | {"train_mse": found.mse}
    write_products(folder, request, forecasts, features, **facts)
    for state in [place, *place.parent.glob(f"{place.name}-fold-*")]:
        (state / STATE_FILE).unlink(missing_ok=True)
    return read_products(folder, request)


def forecast_timellm(
    data: SeriesSet,
    config: TimeLLMConfig,
    folder: Path,
    part: Part,
    stride: int = 1,
    target: SeriesSet | None = None,
    backbone: OpenBackbone = open_backbone,
    change: Callable[[SeriesWindows], SeriesWindows] = lambda windows: windows,
) -> Pass:
    """Let a trained teacher itself forecast a part, to judge it; students never see this.

    Args:
        data: Series that the teacher learned from.
        config: Its settings.
        folder: Folder of the products.
        part: Part of `target` to forecast.
        stride: Every `stride`-th window is forecast.
        target: Other series with windows of the same kind, scaled by themselves (zero-shot); None
            for `data`.
        backbone: Loads the language model.
        change: Replaces the windows, for example by ones that lack a channel.

    Raises:
        TeacherError: The teacher has not been trained.
    """
    place = _work_folder(folder, timellm_request(data, config)) / WEIGHTS_FILE
    target = data if target is None else target
    with one_thread_one_seed(config.seed):
        windows = channel_windows(target, config, change(few_windows(target, config, part, stride)))
        model = backbone(config) if config.backbone != "none" else None
        language = _language(config, model, windows.prompts.texts, folder)
        ridge = torch.zeros(config.horizon, config.length) if config.start == "ridge" else None
        network = _network(config, model, ridge)
        try:
            network.load_state_dict(torch.load(place, weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as exc:
            msg = f"{place} holds no trained teacher ({exc}): call train_timellm first"
            raise TeacherError(msg) from exc
        return run_network(network, language, windows)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a training needs; the network is trained in place."""

    config: TimeLLMConfig
    windows: SeriesWindows
    train: ChannelWindows
    held_out: ChannelWindows
    model: Backbone | None
    language: PromptForm | None
    network: TimeLLMNetwork

    def with_training(self, index: NDArray[np.int64]) -> _Prepared:
        """Return the same with a new network and the training windows `index` only."""
        train = self.train.at(index)
        return replace(
            self, train=train, network=_start(self.config, self.model, train, self.held_out)
        )


def _prepare(
    data: SeriesSet, config: TimeLLMConfig, folder: Path, backbone: OpenBackbone
) -> _Prepared:
    windows = few_windows(data, config, "train", 1, config.share)
    validation = few_windows(data, config, "validation", config.validation_stride)
    parts = [channel_windows(data, config, part) for part in (windows, validation)]
    texts, (train, held_out) = share_prompts(parts)
    model = backbone(config) if config.backbone != "none" else None
    language = _language(config, model, texts, folder)
    network = _start(config, model, train, held_out)
    return _Prepared(config, windows, train, held_out, model, language, network)


def _start(
    config: TimeLLMConfig,
    model: Backbone | None,
    train: ChannelWindows,
    held_out: ChannelWindows,
) -> TimeLLMNetwork:
    return _network(config, model, fit_ridge(train, held_out) if config.start == "ridge" else None)


def _out_of_fold(
    run: _Prepared,
    history: History,
    cut: SeriesWindows,
    place: Path,
    on_epoch: Callable[[TimeLLMEpoch], None],
    deadline_s: float,
) -> NDArray[np.float32] | None:
    """Forecast the windows `cut`, each by a network that shares no reading with its block.

    Each network learns for as many passes as the teacher's best one. None if the deadline came.
    """
    shape = (len(cut), run.config.horizon, run.train.channels)
    forecasts = np.zeros(shape, dtype=np.float32)
    for number, (apart, block) in enumerate(fold_windows(run.windows, cut, run.config.folds)):
        fold = run.with_training(np.searchsorted(run.windows.first, apart.first))
        state = place.with_name(f"{place.name}-fold-{number}")
        name = f"{place.name}, fold {number}"
        done = history.best == 0 or train_network(
            fold.network,
            fold.language,
            fold.train,
            fold.held_out,
            state,
            name,
            on_epoch,
            deadline_s,
            passes=history.best,
        )
        if not done:
            return None
        index = np.searchsorted(run.windows.first, cut.first[block])
        forecasts[block] = run_network(fold.network, run.language, run.train.at(index)).forecasts
    return forecasts


def _language(
    config: TimeLLMConfig, model: Backbone | None, texts: tuple[str, ...], folder: Path
) -> PromptForm | None:
    if model is None:
        return None
    form = "none" if config.prompt == "none" else config.prompt_form
    return make_prompt_form(form, model, texts, folder / "prompts")


def _network(
    config: TimeLLMConfig, model: Backbone | None, ridge: torch.Tensor | None
) -> TimeLLMNetwork:
    torch.manual_seed(config.seed)  # the same start whatever was drawn before
    if model is None:
        return TimeLLMNetwork(config, 0, None, ridge)
    return TimeLLMNetwork(config, model.width, prototype_source(config, model.words), ridge)


def _work_folder(folder: Path, request: ProductRequest) -> Path:
    """Return the folder of the weights; it outlives the replacement of the products."""
    return folder / "work" / request.place(folder).name


def _facts(run: _Prepared, history: History) -> dict[str, Value]:
    model, network = run.model, run.network
    frozen = 0 if model is None else sum(part.numel() for part in model.model.parameters())
    return {
        "backbone": run.config.backbone,
        "weights_hash": "none" if model is None else model.weights_hash,
        "torch": torch.__version__,
        "trained_weights": sum(part.numel() for part in network.parameters()),
        "frozen_weights": frozen,
        "prompts": len(run.train.prompts.texts),
        "passes": len(history.losses),
        "best_pass": history.best,
        "start_mse": history.start_mse,
        "validation_mse": history.lowest,
        "seconds": round(history.seconds, 1),
        "cpu_seconds": round(history.cpu_seconds, 1),
    }


def _write_weights(path: Path, network: TimeLLMNetwork) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(network.state_dict(), temporary)
    temporary.replace(path)

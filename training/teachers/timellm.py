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
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from training.datasets.series import Part, SeriesSet
from training.errors import TeacherError
from training.teachers.backbones import Backbone, load_backbone
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
    windows, so its forecasts of them are better than those of unseen ones.

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
    started = time.perf_counter()
    with one_thread_one_seed(config.seed):
        train = channel_windows(data, config, few_windows(data, config, "train", 1, config.share))
        held_out = channel_windows(
            data, config, few_windows(data, config, "validation", config.validation_stride)
        )
        texts, (train, held_out) = share_prompts([train, held_out])
        model = backbone(config) if config.backbone != "none" else None
        language = _language(config, model, texts, folder)
        ridge = fit_ridge(train, held_out) if config.start == "ridge" else None
        network = _network(config, model, ridge)
        loaded_s = time.perf_counter() - started
        place = _work_folder(folder, request)
        history = train_network(
            network, language, train, held_out, place, request.key, on_epoch, deadline_s
        )
        if history is None:
            return None
        forecast_started = time.perf_counter()
        found = run_network(network, language, train.every(config.product_stride))
    facts = _facts(config, model, network, history, len(texts))
    facts |= {
        "preparation_seconds": round(loaded_s, 1),
        "forecast_seconds": round(time.perf_counter() - forecast_started, 1),
        "train_mse": found.mse,
    }
    _write_weights(place / WEIGHTS_FILE, network)
    features = {"patches": found.features}
    if found.codes is not None:
        features["prototypes"] = found.codes
    write_products(folder, request, found.forecasts, features, **facts)
    (place / STATE_FILE).unlink(missing_ok=True)
    return read_products(folder, request)


def forecast_timellm(
    data: SeriesSet,
    config: TimeLLMConfig,
    folder: Path,
    part: Part,
    stride: int = 1,
    target: SeriesSet | None = None,
    backbone: OpenBackbone = open_backbone,
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

    Raises:
        TeacherError: The teacher has not been trained.
    """
    place = _work_folder(folder, timellm_request(data, config)) / WEIGHTS_FILE
    target = data if target is None else target
    with one_thread_one_seed(config.seed):
        windows = channel_windows(target, config, few_windows(target, config, part, stride))
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


def _facts(
    config: TimeLLMConfig,
    model: Backbone | None,
    network: TimeLLMNetwork,
    history: History,
    prompts: int,
) -> dict[str, Value]:
    frozen = 0 if model is None else sum(part.numel() for part in model.model.parameters())
    return {
        "backbone": config.backbone,
        "weights_hash": "none" if model is None else model.weights_hash,
        "torch": torch.__version__,
        "trained_weights": sum(part.numel() for part in network.parameters()),
        "frozen_weights": frozen,
        "prompts": prompts,
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

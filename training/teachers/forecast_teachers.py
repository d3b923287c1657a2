"""Teachers of forecasts by name, with settings for two cores, and their products for a student.

A name is the method, then what replaces its language model: `llata` and `timellm` use SmolLM2,
`-minilm` the sentence encoder; the controls are `-random` (random weights) and `-none` (no language
model). A student that gains from `llata` has gained from language only if it gains more than from
`llata-random` and `llata-none`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from training.datasets.series import SeriesSet
from training.errors import TeacherError
from training.teachers.llata import train_llata
from training.teachers.llata_config import LlataConfig
from training.teachers.products import Products
from training.teachers.timellm import train_timellm
from training.teachers.timellm_config import TimeLLMConfig

__all__ = ["FORECAST_TEACHERS", "products_of", "training_stride"]

_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-minilm": {"backbone": "minilm"},
    "-random": {"weights": "random"},
    "-none": {"backbone": "none"},
}
FORECAST_TEACHERS = tuple(method + end for method in ("llata", "timellm") for end in _VARIANTS)
"""Names of the teachers, besides `none`."""
_MOST_WINDOWS = 1000  # of a pass: some fifteen minutes of SmolLM2 on one core in ten passes
_MOST_VALIDATED = 220
_FIRST_LLATA = LlataConfig().seed
_MOST_SERIES = 1000  # of a pass of TIME-LLM, which takes one channel of one window at a time


def products_of(
    teacher: str,
    data: SeriesSet,
    folder: Path,
    *,
    length: int,
    horizon: int,
    stride: int = 1,
    share: float = 1.0,
    with_features: bool = False,
    seed: int = 0,
    deadline_s: float = math.inf,
) -> Products | None:
    """Return the products of a teacher for every `stride`-th training window; train it if needed.

    Args:
        teacher: `none` or one of `FORECAST_TEACHERS`.
        data: Series; training and validation part are used.
        folder: Folder of the products of all teachers.
        length: Readings in the look-back.
        horizon: Readings in a forecast.
        stride: Distance between two windows of the student.
        share: Share of the training rows that the teacher learns from and speaks about.
        with_features: Keep hidden states for feature losses (TIME-LLM always does).
        seed: Which training of the teacher; another number draws its weights and order anew.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Returns:
        None for `none`, or if the deadline came first.

    Raises:
        TeacherError: There is no such teacher, or its products are damaged.
        MissingExtraError: Its language model is not installed.
    """
    if teacher == "none":
        return None
    if teacher not in FORECAST_TEACHERS:
        msg = f"teacher is {teacher!r}, expected none or one of {', '.join(FORECAST_TEACHERS)}"
        raise TeacherError(msg)
    method, dash, end = teacher.partition("-")
    variant = _VARIANTS[dash + end]
    validated = _few_stride(len(data.windows("validation", length, horizon)), _MOST_VALIDATED, data)
    if method == "timellm":
        count = share * len(data.windows("train", length, horizon)) * len(data.channels)
        settings = TimeLLMConfig(
            **variant,
            length=length,
            horizon=horizon,
            product_stride=stride,
            share=share,
            start="ridge",
            stride=max(1, math.ceil(count / _MOST_SERIES)),
            validation_stride=validated,
            patch_stride=16,
            statistics_step=2.0,
            batch_size=16,
            learning_rate=3e-4,
            seed=seed,
        )
        return train_timellm(data, settings, folder, deadline_s=deadline_s)
    config = LlataConfig(
        **variant,
        text="off" if variant.get("backbone") == "none" else "cached",
        stride=training_stride(data, length, horizon, share),
        product_stride=stride,
        share=share,
        features=with_features,
        epochs=10,
        cosine_period=10,
        patience=3,
        batch=32,
        rate=5e-4 if share >= 1 else 5e-5,
        validation_stride=validated,
        seed=_FIRST_LLATA + seed,
    )
    run = train_llata(data, config, folder, length=length, horizon=horizon, deadline_s=deadline_s)
    return run.products


def training_stride(data: SeriesSet, length: int, horizon: int, share: float = 1.0) -> int:
    """Return the smallest stride that leaves at most 1000 windows and hits all times of a season.

    A stride that shares a factor with the season would always see the same hours of the day.
    """
    return _few_stride(share * len(data.windows("train", length, horizon)), _MOST_WINDOWS, data)


def _few_stride(count: float, most: int, data: SeriesSet) -> int:
    """Return the smallest stride that leaves at most `most` of `count` windows of all times."""
    stride = max(1, math.ceil(count / most))
    while math.gcd(stride, data.period) > 1:
        stride += 1
    return stride

"""A short series with a daily rhythm, and a TIME-LLM teacher that is small enough for it."""

from __future__ import annotations

import numpy as np

from models.manifest import Channel
from training.datasets.series import SeriesSet
from training.teachers.timellm_config import TimeLLMConfig

__all__ = ["SMALL_TIMELLM", "make_series"]

SMALL_TIMELLM = TimeLLMConfig(
    length=32,
    horizon=8,
    patch_width=4,
    heads=2,
    head_width=4,
    prototypes=5,
    principal=6,
    stride=4,
    product_stride=2,
    validation_stride=3,
    epochs=3,
    batch_size=32,
)


def make_series(rows: int = 220, seed: int = 0) -> SeriesSet:
    """Make two noisy sines of period 12 with a training part of 120 readings."""
    hours = np.arange(rows)
    random = np.random.default_rng(seed)
    daily = np.sin(2 * np.pi * hours / 12)[:, None] * [1.0, 3.0]
    values = (daily + 0.3 * random.normal(size=(rows, 2)) + 10).astype(np.float32)
    return SeriesSet(
        name="made-up",
        title="made up",
        stream="motor",
        channels=(Channel(name="a", unit="1"), Channel(name="b", unit="1")),
        step_ms=1000,
        period=12,
        devices=("one",),
        series=(values,),
        times_ms=(hours.astype(np.int64) * 1000,),
        borders=((120, 160, 210),),
        terms="made up",
        about="Two made-up channels",
    )

"""The text in front of a window: what the data are, what is asked, and the window's statistics.

Source: TIME-LLM (arXiv 2310.01728), "prompt as prefix": domain, task and input statistics, in this
order. The wording is ours. Windows whose (rounded) statistics agree share one text, and a text is
what caches of prompts are keyed by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.teachers.prompt_statistics import (
    WindowStatistics,
    measure_statistics,
    round_statistics,
)
from training.teachers.timellm_config import TimeLLMConfig

__all__ = ["WRONG_DOMAIN", "Prompts", "write_prompts"]

WRONG_DOMAIN = "Acceleration of a wrist 50 times a second while a person climbs stairs or sits"
"""Description that the control `wrong-domain` puts in place of the data set's own."""
_LAGS = 5
"""Lags in the paper's prompt."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of `n` windows of one channel each.

    Attributes:
        texts: Distinct texts, sorted.
        index: Text of every window `[n]`.
    """

    texts: tuple[str, ...]
    index: NDArray[np.int64]


def write_prompts(
    config: TimeLLMConfig, about: str, period: int, windows: NDArray[np.floating]
) -> Prompts:
    """Write the prompts of windows `[n, length]` of one channel each, in any unit.

    The prompt of a window depends on that window alone, except in the control `shuffled`.

    Args:
        config: Kind of prompt and its rounding.
        about: One line on the data set.
        period: Readings in a season; bucketed lags are multiples of half of it.
        windows: Look-backs.
    """
    statistics = _statistics(config, period, windows)
    if config.prompt == "shuffled":
        order = np.random.default_rng(config.seed).permutation(len(statistics))
        statistics = statistics.at(order)
    table = np.column_stack(
        [
            statistics.minimum,
            statistics.maximum,
            statistics.median,
            statistics.rises,
            statistics.lags,
        ]
    )
    _, places, index = np.unique(table, axis=0, return_index=True, return_inverse=True)
    distinct = statistics.at(places)
    written = [_text(config, about, distinct, place) for place in range(len(distinct))]
    # Two rows of the table may print alike, so the texts are made distinct once more.
    texts = sorted(set(written))
    place_of = {text: place for place, text in enumerate(texts)}
    renumber = np.array([place_of[text] for text in written], dtype=np.int64)
    return Prompts(tuple(texts), renumber[index.reshape(-1)])


def _statistics(
    config: TimeLLMConfig, period: int, windows: NDArray[np.floating]
) -> WindowStatistics:
    if config.statistics != "bucketed":
        return measure_statistics(windows, _LAGS, official=config.statistics == "official")
    found = measure_statistics(windows, config.bucketed_lags)
    half_period = max(1, period // 2)
    return round_statistics(found, config.statistics_step, half_period, config.bucketed_lags)


def _text(config: TimeLLMConfig, about: str, found: WindowStatistics, place: int) -> str:
    domain = WRONG_DOMAIN if config.prompt == "wrong-domain" else about
    numbers = [found.minimum[place], found.maximum[place], found.median[place]]
    lowest, highest, median = (_number(config, float(value)) for value in numbers)
    trend = "up" if found.rises[place] else "down"
    lags = ",".join(str(lag) for lag in found.lags[place])
    return (
        f"[domain] {domain} [task] predict {config.horizon} future steps from {config.length} past "
        f"steps [stats] min {lowest}; max {highest}; median {median}; trend {trend}; "
        f"main lags {lags}"
    )


def _number(config: TimeLLMConfig, value: float) -> str:
    """Print a number: the code's full precision, or three decimals, or those of a bucket."""
    if config.statistics == "official":
        return str(value)
    text = f"{value:.3f}" if config.statistics == "exact" else f"{value:.1f}"
    return text[1:] if float(text) == 0 and text.startswith("-") else text

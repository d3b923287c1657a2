"""The raw outputs of a graph, by name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decode", "Outputs", "Tolerances"]

_ScoresT = TypeVar("_ScoresT")

Outputs = Mapping[str, NDArray[np.float32]]
"""The outputs of a graph by name, in the order of `Answer.outputs`. All of them have one row per
window along their first axis; the rest of their shapes may differ."""
Tolerances = Mapping[str, float | NDArray[np.float32]]
"""For each output, its largest change with the batch around it; it broadcasts to the output."""
Decode = Callable[[Outputs, NDArray[np.bool_], NDArray[np.float32]], _ScoresT]
"""From raw outputs, validity `[batch]` and windows `[batch, length, channels]` to scores."""

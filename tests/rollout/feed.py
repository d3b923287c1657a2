"""The windows of a small gateway: endless, numbered, and the same after a restart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.windows.spec import Window
from tests.fakes.scores import Closed

__all__ = ["BASE_MS", "SHAPES", "TRAPPED", "Feed", "window_number"]

BASE_MS = 1_700_000_000_000
_STEP_MS = 10
SHAPES = {"engine": (4, 3), "imu": (8, 3)}
"""Stream to the shape of its windows, those of the dummy students."""
TRAPPED = 200.0
"""Newest reading of the first channel of a trap. Bad students fail over such a window; the sound
ones score it as any other."""


@dataclass(slots=True)
class Feed:
    """The windows of one stream of one gateway.

    Attributes:
        stream: The stream.
        seed: Seed of its values.
        number: Number of the next window.
    """

    stream: str
    seed: int
    number: int = 0

    def take(self, count: int, *, trapped: int = 0) -> list[Closed]:
        """The next windows; `trapped` of them are traps."""
        shape = SHAPES[self.stream]
        closed = []
        for place in range(count):
            number = self.number + place
            random = np.random.default_rng((self.seed, number))
            values = random.normal(0, 2, shape).astype(np.float32)
            if place < trapped:
                values[-1, 0] = TRAPPED
            start = BASE_MS + number * _STEP_MS
            end = start + _STEP_MS - 1
            window = Window(start, end, values, shape[0], 0, end)
            closed.append(Closed("plant", "press-1", self.stream, window))
        self.number += count
        return closed


def window_number(end_ms: int) -> int:
    """The number of a window from the time of its score."""
    return (end_ms - BASE_MS) // _STEP_MS

"""A made-up device whose windows are all alike, for tests of examples."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import orjson

_CHANNELS = ("acc_x", "acc_y", "acc_z")
_PATTERN = np.random.default_rng(5).normal(0, 1, (4, 3))
"""Four readings; windows of eight at every fourth reading are all alike."""


class MovingDevice:
    """A device of the site `hall` with the stream `imu`.

    Args:
        name: Its name.
        publish: Publishes a body on a topic.
        newest: Returns the newest activity of a device; "" before the first.
        pause_s: Seconds from readings to a look at their score.
    """

    def __init__(
        self,
        name: str,
        publish: Callable[[str, bytes], None],
        newest: Callable[[str], str],
        pause_s: float,
    ) -> None:
        self.name = name
        self.next_ms = time.time_ns() // 1_000_000 - 60_000
        self._publish = publish
        self._newest = newest
        self._pause_s = pause_s

    def move(self, times: int = 4) -> tuple[int, int]:
        """Repeat the pattern; returns the beginning and the end."""
        values = np.tile(_PATTERN, (times, 1))
        columns = {name: values[:, at].tolist() for at, name in enumerate(_CHANNELS)}
        body = orjson.dumps({"t0": self.next_ms, "dt_ms": 20, "values": columns})
        self._publish(f"sensors/hall/{self.name}/imu", body)
        start, self.next_ms = self.next_ms, self.next_ms + 20 * len(values)
        return start, self.next_ms

    def newest(self) -> str:
        """Return its newest activity; "" before the first."""
        return self._newest(self.name)

    def is_named(self, name: str) -> bool:
        """Move, and return whether the newest activity is `name`."""
        self.move(2)
        time.sleep(self._pause_s)
        return self.newest() == name

"""What is sent to every candidate: devices, messages, readings and the windows expected. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DISTINCT", "PREFIX", "W1", "W2", "WORKLOADS", "Workload", "device_name"]

ROOT = Path(__file__).parents[3]
PREFIX = "sensors/plant"
DISTINCT = 130
"""Different readings of a device; then its first one comes again. A multiple of ten."""
_SAME_FROM = 100
"""Devices from this number on repeat the readings of the first ones."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of fleet.

    Attributes:
        name: Short name, in results and on the command line.
        student: The starter student that scores it.
        stream: Stream that the student scores.
        devices: Devices of a saturated run.
        per_message: Readings in a message.
        step_ms: Event time between two readings when readings are not sent as they arise.
        decimals: Decimals of a value.
    """

    name: str
    student: str
    stream: str
    devices: int
    per_message: int
    step_ms: int
    decimals: int

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the student, as JSON."""
        return _manifest(self.student)

    @property
    def channels(self) -> list[str]:
        return [channel["name"] for channel in self.manifest["channels"]]

    @property
    def first(self) -> int:
        """Readings before the first score of a device."""
        return int(self.manifest["window"]["min_readings"])

    def readings(self, device: int) -> NDArray[np.float64]:
        """The different readings of a device, `[DISTINCT, channels]`: noise around the student's
        middle."""
        return _readings(self, device % _SAME_FROM)

    def sequence(self, device: int, count: int) -> NDArray[np.float64]:
        """The first `count` readings that a device sends, `[count, channels]`."""
        return self.readings(device)[np.arange(count) % DISTINCT]

    def values(self, device: int) -> list[bytes]:
        """The `values` of each different message of a device, as JSON."""
        rows = self.readings(device).tolist()
        if self.per_message == 1:
            bodies = [dict(zip(self.channels, row, strict=True)) for row in rows]
        else:
            starts = range(0, DISTINCT, self.per_message)
            bodies = [self._columns(rows[at : at + self.per_message]) for at in starts]
        return [json.dumps(body, separators=(",", ":")).encode() for body in bodies]

    def _columns(self, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
        return {name: [row[at] for row in rows] for at, name in enumerate(self.channels)}

    def body(self, ts_ms: int, values: bytes) -> bytes:
        """A message whose first reading is of `ts_ms`."""
        if self.per_message == 1:
            return b'{"ts":%d,"values":%s}' % (ts_ms, values)
        return b'{"t0":%d,"dt_ms":%d,"values":%s}' % (ts_ms, self.step_ms, values)

    def scores_expected(self, readings: int, *, full_only: bool = False) -> int:
        """Scores of one device after so many readings in order.

        A candidate that knows only windows of full length (`full_only`) has its first score later.

        >>> [W1.scores_expected(n) for n in (29, 30, 31, 100)]
        [0, 1, 2, 71]
        >>> [W2.scores_expected(n) for n in (127, 128, 191, 192)]
        [0, 1, 1, 2]
        """
        window = self.manifest["window"]
        first = window["length"] if full_only else self.first
        return 0 if readings < first else (readings - first) // int(window["hop"]) + 1


def device_name(number: int) -> str:
    """Name of a device.

    >>> device_name(7)
    'd00007'
    """
    return f"d{number:05d}"


@cache
def _manifest(student: str) -> dict[str, Any]:
    path = ROOT / "models/zoo" / student / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def _readings(workload: Workload, device: int) -> NDArray[np.float64]:
    scaler = workload.manifest["scaler"]
    scale, offset = np.array(scaler["scale"]), np.array(scaler["offset"])
    scaled = np.random.default_rng(device).normal(0, 0.5, (DISTINCT, len(scale)))
    raw = (scaled - offset) / np.where(scale == 0, 1, scale)
    return np.round(raw, workload.decimals)


W1 = Workload("w1", "rul-fd001-long", "engine", 200, 1, 1000, 2)
"""One reading a message, a window at every reading from the thirtieth on (up to 70 readings)."""

W2 = Workload("w2", "har-waist", "imu", 50, 10, 20, 4)
"""Ten readings a message, windows of 128 readings every 64."""

WORKLOADS = {workload.name: workload for workload in (W1, W2)}

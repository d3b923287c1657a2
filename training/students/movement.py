"""What a movement looks like to a sensor: strength, rhythm, impacts, tilt, turns, as numbers.

`training.naming` compares them with the facts of a description. They are computed by one torch
module, for fitting and inside the graph of an extended student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.manifest import Channel, Scaler

__all__ = ["INFLUENCES", "Movement", "SensorGroup", "group_channels"]

INFLUENCES = {
    "power": ("motion", "impacts"),
    "jerk": ("motion", "impacts", "rhythm"),
    "pitch": ("rhythm", "impacts", "burst"),
    "width": ("rhythm", "impacts", "burst"),
    "purity": ("rhythm", "impacts", "burst"),
    "steps": ("rhythm", "burst"),
    "peaks": ("impacts", "burst", "motion"),
    "skew": ("impacts", "burst", "climb"),
    "burst": ("burst", "motion", "rhythm"),
    "floor": ("motion", "burst"),
    "trend": ("burst", "climb"),
    "tilting": ("burst", "motion", "turn"),
    "mean": ("tilt", "bent", "motion"),
    "axis": ("motion", "tilt", "bent", "turn", "climb", "impacts"),
    "change": ("climb", "burst"),
}
"""Statistics and the facts (`training.teachers.facts`) that can move them, by how a body moves:

`power`, `jerk`: log deviation of the readings and of their steps; `pitch`, `width`, `purity`:
centre, width and highest share of the spectrum, over the logarithm of frequency; `steps`: share of
its band of walking; `peaks`, `skew`: of the length of the vector; `burst`, `floor`, `trend`: most,
least and late power of eighths of the window; `tilting`: how far the mean moves between first and
last quarter; `mean`: mean of an axis, for acceleration the direction of gravity; `axis`: share
of an axis in the power; `change`: difference of an axis between last and first quarter.
"""

_SINGLE = (
    "power",
    "jerk",
    "pitch",
    "width",
    "purity",
    "steps",
    "peaks",
    "skew",
    "burst",
    "floor",
    "trend",
    "tilting",
)
_PER_AXIS = ("mean", "axis", "change")
_PARTS = 8
_BINS = 32  # lowest frequencies
_LEAST = 1e-4  # of the variance of the group: a sensor at rest has no -infinite power
_STEPS_HZ = (0.7, 4.0)
_NO_RATE_HZ = 20.0  # where the rate is unknown


@dataclass(frozen=True, slots=True)
class SensorGroup:
    """Channels that are the axes of one sensor.

    Attributes:
        name: Common part of their names.
        channels: Their columns.
    """

    name: str
    channels: tuple[int, ...]


def group_channels(channels: Sequence[Channel]) -> tuple[SensorGroup, ...]:
    """Group axes of one sensor: names that differ in a last x, y or z only.

    >>> axes = [Channel(name=f"acc_{axis}", unit="g") for axis in "xyz"]
    >>> [group.channels for group in group_channels(axes)]
    [(0, 1, 2)]
    """
    found: dict[str, list[int]] = {}
    for place, channel in enumerate(channels):
        name = channel.name
        stem = name[:-1].rstrip("_-. ") if name[-1:].lower() in ("x", "y", "z") else name
        found.setdefault(stem or name, []).append(place)
    return tuple(SensorGroup(name, tuple(places)) for name, places in found.items())


class Movement(nn.Module):
    """Statistics of movement of scaled windows `[batch, length, channels]`: `[batch, statistics]`.

    Args:
        channels: Channels of the windows.
        scaler: Scaler of the windows; the statistics undo it.
        length: Readings in a window.
        rate_hz: Sampling rate; None where it is unknown.
        spread: Standard deviation of the raw readings of each channel `[channels]`; the unit of the
            statistics of a sensor is the mean over its axes.
    """

    gain: Tensor
    shift: Tensor
    cosine: Tensor
    sine: Tensor
    pitch: Tensor
    steps: Tensor
    parts: Tensor

    def __init__(
        self,
        channels: Sequence[Channel],
        scaler: Scaler,
        length: int,
        rate_hz: float | None,
        spread: NDArray[np.float64],
    ) -> None:
        super().__init__()
        self.groups = group_channels(channels)
        scale = np.array(scaler.scale)
        moves = scale != 0
        unit = np.ones(len(channels))
        for group in self.groups:
            places = list(group.channels)
            unit[places] = max(float(np.sqrt(np.mean(spread[places] ** 2))), 1e-9)
        gain = np.where(moves, 1 / (np.where(moves, scale, 1) * unit), 0)
        sizes = dict.fromkeys(len(group.channels) for group in self.groups)
        # Sensors with as many axes are one batch: a third of the operators of one after the other.
        self.blocks = [
            [group for group in self.groups if len(group.channels) == size] for size in sizes
        ]
        self.names = tuple(
            (group.name, statistic)
            for block in self.blocks
            for group in block
            for statistic in (
                *_SINGLE,
                *(name for name in _PER_AXIS for _ in group.channels),
            )
        )
        """Sensor and statistic of every column."""
        self._buffer("gain", gain)
        self._buffer("shift", -np.array(scaler.offset) * gain)
        time = np.arange(length)
        bins = np.arange(1, min(_BINS, length // 2) + 1)
        angle = 2 * np.pi * np.outer(time, bins) / length
        taper = np.hanning(length)[:, None]
        frequency = bins * (rate_hz or _NO_RATE_HZ) / length
        self._buffer("cosine", np.cos(angle) * taper)
        self._buffer("sine", np.sin(angle) * taper)
        self._buffer("pitch", np.log(frequency))
        self._buffer("steps", (frequency >= _STEPS_HZ[0]) & (frequency < _STEPS_HZ[1]))
        parts = np.zeros((length, _PARTS))
        for place, some in enumerate(np.array_split(time, _PARTS)):
            parts[some, place] = 1 / max(len(some), 1)
        self._buffer("parts", parts)
        self.quarter = max(length // 4, 1)

    def _buffer(self, name: str, values: NDArray[np.generic]) -> None:
        self.register_buffer(name, torch.from_numpy(np.asarray(values, dtype=np.float32)))

    def forward(self, windows: Tensor) -> Tensor:
        """Compute all statistics, in the order of `names`."""
        raw = windows * self.gain + self.shift
        return torch.cat([self._block(raw, block) for block in self.blocks], dim=1)

    def _block(self, raw: Tensor, block: Sequence[SensorGroup]) -> Tensor:
        axes = len(block[0].channels)
        length = raw.shape[1]
        chosen = raw[:, :, [place for group in block for place in group.channels]]
        sensors = chosen.reshape(-1, length, len(block), axes).transpose(1, 2)
        found = self._group(sensors.reshape(-1, length, axes))
        return found.reshape(-1, len(block) * found.shape[1])

    def _group(self, windows: Tensor) -> Tensor:
        middle = windows.mean(dim=1)
        moved = windows - middle[:, None]
        energy = moved.square().sum(dim=2)
        power = _log_root(energy.mean(dim=1))
        steps = moved[:, 1:] - moved[:, :-1]
        jerk = _log_root(steps.square().sum(dim=2).mean(dim=1))
        axes = moved.transpose(1, 2)
        spectrum = ((axes @ self.cosine).square() + (axes @ self.sine).square()).sum(dim=1)
        share = spectrum / (spectrum.sum(dim=1, keepdim=True) + _LEAST)
        pitch = share @ self.pitch
        width = (share * (self.pitch - pitch[:, None]).square()).sum(dim=1).sqrt()
        length = windows.square().sum(dim=2).sqrt()
        apart = length - length.mean(dim=1, keepdim=True)
        deviation = apart.square().mean(dim=1).sqrt()
        peaks = torch.log((apart.abs().amax(dim=1) + 0.01) / (deviation + 0.01))
        skew = (apart.square() * apart).mean(dim=1) / (deviation.square() * deviation + 1e-3)
        parts = energy @ self.parts + _LEAST
        burst = torch.log(parts.amax(dim=1) / parts.mean(dim=1))
        floor = 0.5 * torch.log(parts.amin(dim=1))
        trend = 0.5 * torch.log(parts[:, -2:].mean(dim=1) / parts[:, :2].mean(dim=1))
        change = windows[:, -self.quarter :].mean(dim=1) - windows[:, : self.quarter].mean(dim=1)
        tilting = torch.log(change.square().sum(dim=1).sqrt() + 0.01)
        axis = _log_root(moved.square().mean(dim=1)) - power[:, None]
        single = (
            power,
            jerk,
            pitch,
            width,
            share.amax(dim=1),
            share @ self.steps,
            peaks,
            skew,
            burst,
            floor,
            trend,
            tilting,
        )
        return torch.cat([torch.stack(single, dim=1), middle, axis, change], dim=1)


def _log_root(power: Tensor) -> Tensor:
    return 0.5 * torch.log(power + _LEAST)

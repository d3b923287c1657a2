"""A small made-up series set: heated rooms, hourly, for tests and a first try of the commands.

The outside temperature has a daily rhythm. A thermostat switches the heating on below one
temperature of the room and off above another, so the room is a cycle whose length follows the
outside: a repeated season and a linear forecast are both beatable, and a small network beats them
within seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest import Channel
from training.datasets.missing import share_rows
from training.datasets.series import SeriesSet

__all__ = ["make_dummy_series"]

_CHANNELS = (("outside", "degC"), ("room", "degC"), ("power", "kW"))
_HOUR_MS = 3_600_000
_START_MS = 1_704_067_200_000  # 2024-01-01T00:00Z
_ON_BELOW, _OFF_ABOVE = 18.0, 22.0  # degC


def make_dummy_series(seed: int = 0, devices: int = 2, readings: int = 4800) -> SeriesSet:
    """Make rooms in memory; the same seed gives the same numbers.

    Args:
        seed: Seed of all random numbers.
        devices: Number of rooms.
        readings: Readings of each room, split 7:1:2.
    """
    random = np.random.default_rng(seed)
    times = _START_MS + _HOUR_MS * np.arange(readings, dtype=np.int64)
    return SeriesSet(
        name="dummy-forecast",
        title="made-up heated rooms",
        stream="room",
        channels=tuple(Channel(name=name, unit=unit) for name, unit in _CHANNELS),
        step_ms=_HOUR_MS,
        period=24,
        devices=tuple(f"room-{number + 1}" for number in range(devices)),
        series=tuple(_make_room(random, readings) for _ in range(devices)),
        times_ms=(times,) * devices,
        borders=(share_rows(readings, 0.7, 0.2),) * devices,
        terms="trained on made-up readings",
        about="Heated rooms: outside and room temperature and heating power, read every hour",
    )


def _make_room(random: np.random.Generator, readings: int) -> NDArray[np.float32]:
    hours = np.arange(readings)
    daily = 6 * np.sin(2 * np.pi * (hours - 9) / 24)
    outside = 2 + daily + 0.1 * random.standard_normal(readings)
    rows = np.empty((readings, 3))
    room, heats = 20.0, False
    for hour in range(readings):
        heats = room < _ON_BELOW or (heats and room < _OFF_ABOVE)
        power = 3.0 if heats else 0.0
        rows[hour] = outside[hour], room, power + 0.02 * random.standard_normal()
        room += 0.04 * (outside[hour] - room) + 0.7 * power + 0.02 * random.standard_normal()
    return rows.astype(np.float32)

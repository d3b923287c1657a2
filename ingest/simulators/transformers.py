"""Power transformers: seven hourly channels with the statistics of ETTh1 and ETTh2.

A transformer is a draw of one of two fitted stations (`ingest.simulators.transformerfits`): mean
day and week, level that wanders over hours, days and seasons, a daily rhythm of varying strength,
noise with heavy tails, all of them coupled between the channels, and an oil temperature that
follows the load with a lag of hours. Each transformer has its own size, which stretches its loads.

Not imitated: skewness, rare steps of many deviations (the kurtosis of hourly steps is 3 to 6 here,
8 and more in ETT), stretches where a meter repeats its last value (two thirds of ETTh2's LULL).

The numbers are fits to the training parts, offline; no data is read.

>>> transformer = Transformer(seed=3, hours=48)
>>> transformer.values.shape, sorted(transformer.reading(0))[:2]
((48, 7), ['HUFL', 'HULL'])
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.simulators.transformerfits import CHANNELS, STATIONS, Station

__all__ = ["CHANNELS", "STATIONS", "STEP_MS", "Transformer", "day_and_week", "oil_rise"]

STEP_MS: Final = 3_600_000
"""Milliseconds between two readings."""

_FAST_H = 20.0  # motions that forget faster have innovations with heavy tails
_SETTLING_H = 96  # hours before the first reading, in which the oil takes its temperature
_SIZE_SPREAD = 0.15
_DECIMALS = 3
_DAY_H, _WEEK_D, _MONDAY = 24, 7, 4  # 1970-01-05 was a Monday


class Transformer:
    """One transformer; the same arguments give the same readings, and more hours only add some.

    Args:
        seed: Chooses station, size and all random parts.
        hours: Readings to simulate.
        station: Key of `STATIONS`; drawn when None.
        start_ms: Event time of the first reading, epoch ms, for the hour of the day.

    Raises:
        ValueError: There is no such station, or `hours` is below 1.

    Attributes:
        values: Readings `[hours, 7]` float64, rounded to three decimals as in ETT.
        deviation: Standard deviation of each channel of this transformer `[7]`, in its unit.
        station: Name of its station.
    """

    def __init__(
        self, seed: int, hours: int, station: str | None = None, start_ms: int = 0
    ) -> None:
        if hours < 1 or (station is not None and station not in STATIONS):
            msg = (
                f"no transformer with {hours} hours of station {station}: use at least one hour "
                f"and one of {', '.join(STATIONS)}"
            )
            raise ValueError(msg)
        rng = np.random.default_rng((seed, 0))
        drawn, size = str(rng.choice(list(STATIONS))), 1 + _SIZE_SPREAD * rng.uniform(-1, 1)
        self.station = station or drawn
        fitted = STATIONS[self.station]
        sizes = np.array([*([size] * (len(CHANNELS) - 1)), 1.0])
        self.deviation: NDArray[np.float64] = sizes * fitted.deviation
        first = start_ms // STEP_MS - _SETTLING_H
        standard = _standard(fitted, seed, first, hours + _SETTLING_H)[_SETTLING_H:]
        self.values: NDArray[np.float64] = np.round(
            sizes * fitted.mean + self.deviation * standard, _DECIMALS
        )

    def reading(self, at: int) -> dict[str, float]:
        """Return the reading of hour `at` (0 to hours - 1) by channel."""
        return dict(zip(CHANNELS, self.values[at].tolist(), strict=True))


def day_and_week(station: Station, hours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the expected readings `[n, 7]` of hours since the epoch `[n]`, in deviations."""
    turns = 2 * np.pi * hours[:, None] / _DAY_H * np.arange(1, station.day.shape[1] // 2 + 1)
    waves = np.stack([np.cos(turns), np.sin(turns)], axis=2).reshape(len(hours), -1)
    weekday = (hours // _DAY_H - _MONDAY) % _WEEK_D
    shape: NDArray[np.float64] = (
        station.day[:, 0] + waves @ station.day[:, 1:].T + station.week.T[weekday]
    )
    return shape


def oil_rise(station: Station, loads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of oil temperature that the loads `[n, 6]` cause, in deviations `[n]`.

    It has settled at the mean load of the first day.
    """
    drive = loads @ station.heating
    keeps = np.exp(-1 / station.oil_h)
    rise, level = np.empty_like(drive), float(drive[:_DAY_H].mean())
    for hour, value in enumerate(drive):
        level = keeps * level + (1 - keeps) * value
        rise[hour] = level
    return rise


def _standard(station: Station, seed: int, first: int, hours: int) -> NDArray[np.float64]:
    """Simulate `[hours, 7]` in units of the deviations, `first` in hours since the epoch."""
    values = _states(station, seed, hours) @ station.factors
    values += day_and_week(station, np.arange(first, first + hours))
    loads = len(CHANNELS) - 1
    values[:, loads] += oil_rise(station, values[:, :loads])
    return values


def _states(station: Station, seed: int, hours: int) -> NDArray[np.float64]:
    """Simulate the motions `[hours, motions]`, each of variance 1, stationary from the start."""
    memory, period = station.memory_h, station.period_h
    keeps = np.where(memory > 0, np.exp(-1 / np.maximum(memory, 1e-9)), 0.0)
    turns = np.where(period > 0, 2 * np.pi / np.maximum(period, 1e-9), 0.0)
    steps = np.empty((hours, len(memory)), dtype=np.complex128)
    # Two generators, so that more hours change no draw: rejections of the one move only itself.
    for number, part in enumerate((memory >= _FAST_H, memory < _FAST_H)):
        rng, shape = np.random.default_rng((seed, 1, number)), (hours, 2 * int(part.sum()))
        draws = rng.standard_t(station.tail, shape) if number else rng.standard_normal(shape)
        draws *= np.sqrt((station.tail - 2) / station.tail) if number else 1.0
        steps[:, part] = draws.view(np.complex128)
    steps[1:] *= np.sqrt(1 - keeps**2)
    turned = keeps * np.exp(1j * turns)
    for hour in range(1, hours):
        steps[hour] += turned * steps[hour - 1]
    states: NDArray[np.float64] = steps.real
    return states

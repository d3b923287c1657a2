"""Turbofan engines that wear out: run-to-failure trajectories with the statistics of C-MAPSS FD001.

The model has two hidden quantities per engine, as the original simulation has two (efficiency and
flow of the high-pressure compressor; Saxena et al., PHM 2008):

- **wear** ``h``: about 0 when new, 1 at failure. It grows as ``expm1(k t / life)``: flat at first,
  then ever steeper. An engine fails at a fixed wear, however long that takes.
- **imbalance** ``g``: the share of the two faults. It grows with the same shape, to either side,
  and makes the core speeds (Nc, NRc) rise in some engines and fall in others.

Every sensor is a quadratic of (h, g) plus independent white noise, rounded as in the data set.
Fitted to the 100 training engines of FD001, the model leaves at most 1 % of unexplained deviation
in any sensor, and noise without correlation between sensors (|r| < 0.08). All numbers below are
these fits; no data is read.

>>> history = engine_history(seed=7)
>>> history.values.shape == (len(history.rul), len(CHANNELS)), int(history.rul[-1])
(True, 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "MAX_LIFE", "MIN_LIFE", "Engine", "EngineSimulation", "engine_history"]

MIN_LIFE: Final = 128
"""Shortest life among the FD001 training engines, in cycles."""

MAX_LIFE: Final = 362
"""Longest life among the FD001 training engines, in cycles."""

CHANNELS: Final = (
    *("T2", "T24", "T30", "T50", "P2", "P15", "P30", "Nf", "Nc", "epr", "Ps30"),
    *("phi", "NRf", "NRc", "BPR", "farB", "htBleed", "Nf_dmd", "PCNfR_dmd", "W31", "W32"),
)
"""The 21 sensors of FD001 in file order; seven of them are (nearly) constant, as in FD001."""


class _Sensor(NamedTuple):
    """Response of one sensor to wear h and imbalance g; units of the sensor."""

    mean: float
    h: float
    g: float
    hh: float
    hg: float
    gg: float
    noise: float
    decimals: int


# Least squares over all 20,631 cycles, the hidden h and g taken from per-engine curve fits.
_SENSORS: Final[Mapping[str, _Sensor]] = {
    "T24": _Sensor(642.375, 1.36, 0.00331, -0.0116, -0.00262, -9.29e-05, 0.301, 2),
    "T30": _Sensor(1586.961, 15.8, 0.105, 0.341, -0.00951, -0.00166, 4.0, 2),
    "T50": _Sensor(1402.784, 27.1, 0.0479, 0.379, -0.0425, -0.00277, 4.02, 2),
    "P30": _Sensor(553.961, -2.63, 0.00611, 0.0149, 0.00705, 0.000294, 0.408, 2),
    "Nf": _Sensor(2388.0548, 0.16, -0.00579, 0.00535, 0.00176, 9.13e-05, 0.0304, 2),
    "Nc": _Sensor(9057.826, 38.4, 3.59, 2.06, 0.128, -0.00223, 4.28, 2),
    "Ps30": _Sensor(47.3537, 0.831, -0.000408, 0.00259, -0.000834, -9.29e-05, 0.101, 2),
    "phi": _Sensor(521.918, -2.22, 0.00813, -0.01, 0.00489, 0.000241, 0.302, 2),
    "NRf": _Sensor(2388.0538, 0.164, -0.00589, 0.00312, 0.00183, 8.86e-05, 0.0308, 2),
    "NRc": _Sensor(8139.021, 26.0, 3.21, 2.09, 0.15, -0.00205, 3.27, 2),
    "BPR": _Sensor(8.4178, 0.108, 0.000374, 0.00142, -0.000301, -1.25e-05, 0.0201, 4),
    "htBleed": _Sensor(392.271, 4.25, 0.0301, -0.0394, -0.00564, -0.00043, 0.908, 0),
    "W31": _Sensor(38.931, -0.514, -0.00151, -0.00149, 0.000997, 7.39e-05, 0.101, 2),
    "W32": _Sensor(23.3588, -0.31, -0.000976, 0.00339, 0.000616, 3.25e-05, 0.06, 4),
}
_CONSTANT: Final[Mapping[str, float]] = {
    "T2": 518.67,
    "P2": 14.62,
    "P15": 21.61,
    "epr": 1.3,
    "farB": 0.03,
    "Nf_dmd": 2388.0,
    "PCNfR_dmd": 100.0,
}
_DECIMALS: Final[Mapping[str, int]] = {
    **{name: 2 for name in _CONSTANT},
    **{name: sensor.decimals for name, sensor in _SENSORS.items()},
}

# Lives are log-normal; log k and the final imbalance rise together (r = 0.83); an engine that
# starts with more wear starts with less imbalance (r = -0.88). Life is independent of all of them.
_LIFE_LOG_MEAN, _LIFE_LOG_SD = 5.306, 0.212
_WEAR_START_SD = 0.17
_WEAR_END_SD = 0.02
_IMBALANCE_START_MEAN, _IMBALANCE_START_SLOPE, _IMBALANCE_START_SD = -0.51, -2.98, 1.6
_IMBALANCE_END_AT = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_IMBALANCE_END = (-18.4, -14.8, -11.9, -4.0, 13.8, 20.8, 38.4)
_CURVE_LOG_MEAN, _CURVE_LOG_SLOPE, _CURVE_LOG_SD = 1.378, 0.00933, 0.095
_CURVE_RANGE = (3.0, 6.75)
# P15 sometimes reads 21.60 instead of 21.61 in new engines: logistic in wear.
_P15_LOW_AT, _P15_LOW_WIDTH = -0.47, 0.115


@dataclass(frozen=True, slots=True)
class EngineSimulation:
    """The whole life of one engine.

    Attributes:
        values: Readings ``[life, 21]`` float32, row 0 is cycle 1.
        rul: Remaining useful life in cycles after each row, ``[life]``; the last one is 0.
        channels: Names of the columns, :data:`CHANNELS`.
        wear: The hidden wear at each row, ``[life]`` float64: about 0 to 1.
    """

    values: NDArray[np.float32]
    rul: NDArray[np.int64]
    channels: tuple[str, ...]
    wear: NDArray[np.float64]


class Engine:
    """One engine; the same arguments give the same readings, in any order of requests.

    Args:
        seed: Chooses the engine: its life, wear curve, sensor offsets and noise.
        life: Cycles until failure; drawn as in FD001 (128 to 362) when None.
        initial_wear: Wear of the new engine, 0 is average; drawn as in FD001 (sd 0.17) when None.

    Raises:
        ValueError: ``life`` is below 2 or ``initial_wear`` is not below 1 (that is failure).

    Attributes:
        life: Cycles until failure. The engine fails after the reading of cycle ``life``.
        wear: Hidden wear per cycle ``[life]``, never falling.
    """

    def __init__(
        self, seed: int, life: int | None = None, initial_wear: float | None = None
    ) -> None:
        rng = np.random.default_rng(seed)
        drawn_life = float(np.exp(rng.normal(_LIFE_LOG_MEAN, _LIFE_LOG_SD)))
        start_score, wear_end = float(np.clip(rng.normal(), -2.5, 2.5)), rng.normal(1, _WEAR_END_SD)
        if life is None:
            life = int(np.clip(round(drawn_life), MIN_LIFE, MAX_LIFE))
        if initial_wear is None:
            initial_wear = _WEAR_START_SD * start_score
        if life < 2 or not initial_wear < 1:
            msg = f"an engine needs life >= 2 and initial_wear < 1, got {life} and {initial_wear}"
            raise ValueError(msg)
        g_start = (
            _IMBALANCE_START_MEAN
            + _IMBALANCE_START_SLOPE * initial_wear / _WEAR_START_SD
            + rng.normal(0, _IMBALANCE_START_SD)
        )
        g_end = float(np.interp(rng.random(), _IMBALANCE_END_AT, _IMBALANCE_END))
        log_k = _CURVE_LOG_MEAN + _CURVE_LOG_SLOPE * g_end + rng.normal(0, _CURVE_LOG_SD)
        k = float(np.clip(np.exp(log_k), *_CURVE_RANGE))

        grown = np.expm1(k * np.arange(1, life + 1) / life) / np.expm1(k)
        self.life = life
        self.wear: NDArray[np.float64] = initial_wear + (wear_end - initial_wear) * grown
        self._values = _measured(self.wear, g_start + (g_end - g_start) * grown, rng)

    def rul(self, cycle: int) -> int:
        """Return the cycles that the engine still runs after ``cycle`` (1 to ``life``)."""
        return self.life - self._row(cycle) - 1

    def reading(self, cycle: int) -> dict[str, float]:
        """Return the 21 sensor values at ``cycle`` (1 to ``life``), rounded as in FD001.

        Raises:
            ValueError: ``cycle`` is outside the engine's life.
        """
        row = self._values[self._row(cycle)]
        return {
            name: round(float(v), _DECIMALS[name]) for name, v in zip(CHANNELS, row, strict=True)
        }

    def history(self) -> EngineSimulation:
        """Return all readings of the life; equal to ``reading`` of every cycle as float32."""
        rul = np.arange(self.life - 1, -1, -1, dtype=np.int64)
        return EngineSimulation(self._values.astype(np.float32), rul, CHANNELS, self.wear.copy())

    def _row(self, cycle: int) -> int:
        if not 1 <= cycle <= self.life:
            msg = f"cycle {cycle} is outside the life of the engine: use 1 to {self.life}"
            raise ValueError(msg)
        return cycle - 1


def engine_history(seed: int, life: int | None = None) -> EngineSimulation:
    """Return the whole life of ``Engine(seed, life)``."""
    return Engine(seed, life).history()


def _measured(
    h: NDArray[np.float64], g: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return rounded readings ``[life, 21]`` of wear ``h`` and imbalance ``g``, both ``[life]``."""
    terms = np.stack([np.ones_like(h), h, g, h * h, h * g, g * g])
    noise = rng.standard_normal((len(CHANNELS), len(h)))
    columns = []
    for index, name in enumerate(CHANNELS):
        if name in _SENSORS:
            sensor = _SENSORS[name]
            column = np.array(sensor[:6]) @ terms + sensor.noise * noise[index]
        else:
            column = np.full(len(h), _CONSTANT[name])
        if name == "P15":
            low = 1 / (1 + np.exp((h - _P15_LOW_AT) / _P15_LOW_WIDTH))
            column[rng.random(len(h)) < low] = 21.60
        columns.append(np.round(column, _DECIMALS[name]))
    return np.stack(columns, axis=1)

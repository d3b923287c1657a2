"""Fits the simulated power transformers to the training parts of ETTh1 and ETTh2.

    python -m training.starters.transformerfit --data ett.zip

It writes the numbers into `ingest/simulators/transformerfits.py`, whose docstring has the model.
Per station, in order: mean and deviation; the time constant and the heating that explain the most
of oil temperature (of swings shorter than a week, as seasons of load and weather are confounded);
mean day and week by least squares; and the factors of the motions. Those come from the least-
squares fit of positive semidefinite matrices C to the sample autocovariances G of the residual,

    G[lag] = sum over motions of C * (exp(-lag / memory) cos(2 pi lag / period) - bias),

where `bias` is the variance of a motion's own mean over the sample, which a sample autocovariance
lacks. Steps of the fit: accelerated projected gradient; eigenvectors with little variance dropped.
"""

from __future__ import annotations

import textwrap
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

import ingest.simulators.transformerfits as fits
from ingest.simulators.transformerfits import Station
from training.datasets.ett import read_ett
from training.errors import exit_on_errors

__all__ = ["fit_station", "write_stations"]

_MEMORY_PERIOD = (
    *((0, 0), (2, 0), (8, 0), (40, 0), (240, 0), (1500, 0)),
    *((150, 24), (2000, 24), (500, 12), (500, 8)),
)
_LAGS = np.unique([*range(50), *range(50, 200, 6), *range(72, 361, 24), 480, 600, 720, 960])
_OIL_H = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24)
_HARMONICS = 3
_LEAST_VARIANCE = 0.02
_STEPS = 800
_IN = " " * 8
_WEEK_H = 168
_MARK = "    # Fitted numbers, written by `python -m training.starters.transformerfit`.\n"

_Array = NDArray[np.float64]


def fit_station(values: _Array, first_hour: int) -> Station:
    """Fit a station to hourly readings `[hours, 7]`; `first_hour` in hours since the epoch."""
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    standard = (values - mean) / deviation
    hours = first_hour + np.arange(len(values))
    oil_h, heating = _fit_oil(standard, hours)
    own = standard.copy()
    own[:, 6] -= _lagged(standard[:, :6], oil_h) @ heating
    day, week, rest = _fit_shapes(own, hours)
    kurtosis = np.median(_kurtosis(np.diff(standard, axis=0)))
    motions = _fit_motions(rest)
    return Station(
        mean=mean,
        deviation=deviation,
        day=day,
        week=week,
        oil_h=oil_h,
        heating=heating,
        tail=float(round(4 + 6 / (kurtosis - 3), 1)),
        memory_h=motions[:, 0],
        period_h=motions[:, 1],
        factors=motions[:, 2:],
    )


def _fit_oil(standard: _Array, hours: NDArray[np.int64]) -> tuple[float, _Array]:
    """Find the time constant and the heating `[6]`, none of it negative."""
    from sklearn.linear_model import LinearRegression

    oil = _swings(_fit_shapes(standard[:, 6:], hours)[2])[:, 0]
    best: tuple[float, float, _Array] = (-1.0, 0.0, np.zeros(6))
    for constant in _OIL_H:
        loads = _swings(_fit_shapes(_lagged(standard[:, :6], constant), hours)[2])
        fitted = LinearRegression(positive=True, fit_intercept=False).fit(loads, oil)
        best = max(best, (fitted.score(loads, oil), float(constant), fitted.coef_), key=_first)
    return best[1], best[2]


def _fit_shapes(standard: _Array, hours: NDArray[np.int64]) -> tuple[_Array, _Array, _Array]:
    """Fit mean day `[channels, 7]` and week `[channels, 7]`; the third is the residual."""
    turns = 2 * np.pi * hours[:, None] / 24 * np.arange(1, _HARMONICS + 1)
    waves = np.stack([np.cos(turns), np.sin(turns)], axis=2).reshape(len(hours), -1)
    inputs = np.concatenate([np.ones((len(hours), 1)), waves], axis=1)
    day = np.linalg.lstsq(inputs, standard, rcond=None)[0].T
    rest = standard - inputs @ day.T
    weekday = (hours // 24 - 4) % 7
    week = np.stack([rest[weekday == one].mean(axis=0) for one in range(7)], axis=1)
    return day, week, rest - week.T[weekday]


def _fit_motions(rest: _Array) -> _Array:
    """Fit `[motions, 9]`: memory and period in hours, and the factors of the channels."""
    size = len(rest)
    covariances = np.stack([rest[lag:].T @ rest[: size - lag] / (size - lag) for lag in _LAGS])
    covariances = (covariances + covariances.transpose(0, 2, 1)) / 2
    kernels = np.stack([_kernel(*one, size) for one in _MEMORY_PERIOD])
    weights = np.where(_LAGS % 24 == 0, 3, 1) / (1 + _LAGS / 24)
    motions = []
    for times, matrix in zip(
        _MEMORY_PERIOD, _positive_fit(covariances, kernels, weights), strict=True
    ):
        variances, vectors = np.linalg.eigh(matrix)
        for variance, vector in zip(variances, vectors.T, strict=True):
            if variance > _LEAST_VARIANCE:
                motions.append([*times, *(np.sqrt(variance) * vector)])
    return np.array(motions)


def _kernel(memory: float, period: float, size: int) -> _Array:
    """Autocovariance of a motion of variance 1 at the lags, less the variance of its mean."""
    lags = np.arange(size)
    whole = np.exp(-lags / memory) if memory else (lags == 0).astype(float)
    if period:
        whole = whole * np.cos(2 * np.pi * lags / period)
    bias = (whole[0] + 2 * np.sum((1 - lags[1:] / size) * whole[1:])) / size
    kernel: _Array = whole[_LAGS] - bias
    return kernel


def _positive_fit(covariances: _Array, kernels: _Array, weights: _Array) -> _Array:
    """Fit matrices `[motions, 7, 7]` to `[lags, 7, 7]` by accelerated projected gradient."""
    weighted = kernels * weights
    curvature = weighted @ kernels.T
    target = np.einsum("jl,lab->jab", weighted, covariances)
    rate = 1 / np.linalg.eigvalsh(curvature).max()
    found: _Array = np.zeros_like(target)
    ahead = found
    pace = 1.0
    for _ in range(_STEPS):
        stepped = ahead - rate * (np.einsum("jk,kab->jab", curvature, ahead) - target)
        variances, vectors = np.linalg.eigh(stepped)
        scaled = vectors * np.clip(variances, 0, None)[:, None]
        following: _Array = scaled @ vectors.transpose(0, 2, 1)
        quicker = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = following + (pace - 1) / quicker * (following - found)
        found, pace = following, quicker
    return found


def _lagged(values: _Array, constant: float) -> _Array:
    keeps = np.exp(-1 / constant)
    lagged: _Array = values.copy()
    for row in range(1, len(values)):
        lagged[row] = keeps * lagged[row - 1] + (1 - keeps) * values[row]
    return lagged


def _swings(values: _Array) -> _Array:
    """Remove the moving mean over a week."""
    sums = np.cumsum(np.pad(values, ((_WEEK_H // 2 + 1, _WEEK_H // 2), (0, 0)), "edge"), axis=0)
    means: _Array = (sums[_WEEK_H:] - sums[:-_WEEK_H])[: len(values)] / _WEEK_H
    return values - means


def _kurtosis(values: _Array) -> _Array:
    centred = values - values.mean(axis=0)
    kurtosis: _Array = (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2
    return kurtosis


def _first(found: tuple[float, float, _Array]) -> float:
    return found[0]


def write_stations(stations: dict[str, Station], path: Path) -> None:
    """Replace the numbers in the file of the fits."""
    head, mark, _ = path.read_text(encoding="utf-8").partition(_MARK)
    body = "".join(_station_text(name, station) for name, station in stations.items())
    path.write_text(f"{head}{mark}{body}}}\n", encoding="utf-8")


def _station_text(name: str, station: Station) -> str:
    lines = [f'    "{name}": Station(']
    for field in fields(Station):
        value = getattr(station, field.name)
        if isinstance(value, float):
            lines.append(f"        {field.name}={value:g},")
            continue
        call = "_row" if value.ndim == 1 else "_table"
        lines.append(f'        {field.name}={call}("""')
        for row in np.atleast_2d(value):
            lines += textwrap.wrap(_row(row), 90, initial_indent=_IN, subsequent_indent=_IN)
        lines.append('        """),')
    return "\n".join([*lines, "    ),", ""])


def _row(row: _Array) -> str:
    return " ".join(str(round(1000 * value)) for value in row.tolist())


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@exit_on_errors("training.starters.transformerfit")
def main(data: Path) -> None:
    """Fit the simulated power transformers to ETT and write the numbers."""
    stations = {}
    for name in ("ETTh1", "ETTh2"):
        known = read_ett(data, name)
        rows = known.series[0][: known.borders[0][0]].astype(np.float64)
        stations[name] = fit_station(rows, int(known.times_ms[0][0] // known.step_ms))
    write_stations(stations, Path(fits.__file__))


if __name__ == "__main__":
    main()

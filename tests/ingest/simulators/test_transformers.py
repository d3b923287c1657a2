"""Simulated transformers are deterministic by seed and move as the transformers of ETT do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.simulators.transformers import (
    CHANNELS,
    STATIONS,
    STEP_MS,
    Transformer,
    day_and_week,
    oil_rise,
)

YEAR_H = 12 * 30 * 24
START_MS = 1_467_331_200_000  # 2016-07-01, the first hour of ETT


def test_a_transformer_is_the_same_for_the_same_seed_and_longer_runs_only_add() -> None:
    one, longer, other = Transformer(5, 300), Transformer(5, 700), Transformer(6, 300)
    assert np.array_equal(one.values, longer.values[:300])
    assert one.station == longer.station
    assert not np.array_equal(one.values, other.values)
    assert {Transformer(seed, 1).station for seed in range(12)} == set(STATIONS)


def test_a_reading_has_all_channels_with_three_decimals() -> None:
    transformer = Transformer(1, 10)
    reading = transformer.reading(7)
    assert tuple(reading) == CHANNELS
    assert list(reading.values()) == transformer.values[7].tolist()
    assert all(value == round(value, 3) for value in reading.values())


def test_the_hour_of_the_day_follows_the_event_time() -> None:
    hours = START_MS // STEP_MS + np.arange(14 * 24)
    for station in STATIONS.values():
        shape = day_and_week(station, hours)
        assert np.allclose(shape[:168], shape[168:])  # the same hour of the same weekday
        day = shape.reshape(14, 24, 7)
        assert np.allclose(np.ptp(day - day.mean(axis=1, keepdims=True), axis=0), 0)
    noon = [Transformer(2, 24, "ETTh1", start_ms=START_MS + h * STEP_MS).values for h in (0, 12)]
    assert not np.allclose(noon[0], noon[1])


def test_oil_warms_by_63_percent_of_a_step_of_load_after_its_time_constant() -> None:
    for station in STATIONS.values():
        assert (station.heating >= 0).all()
        assert station.heating.sum() > 0
        loads = np.zeros((24 + 200, 6))
        loads[24:] = 1.0
        rise = oil_rise(station, loads) / station.heating.sum()
        assert rise[23] == pytest.approx(0)
        assert rise[24 + int(station.oil_h) - 1] == pytest.approx(1 - np.exp(-1))
        assert rise[-1] == pytest.approx(1, abs=1e-6)


def test_an_impossible_transformer_is_refused() -> None:
    for hours, station in ((0, None), (5, "ETTh3")):
        with pytest.raises(ValueError, match="use at least one hour and one of ETTh1, ETTh2"):
            Transformer(1, hours, station)


def _autocorrelation(values: np.ndarray, lag: int) -> np.ndarray:
    moved = values - values.mean(axis=0)
    return (moved[lag:] * moved[:-lag]).mean(axis=0) / (moved**2).mean(axis=0)


@pytest.mark.needs_data
@pytest.mark.needs_training
@pytest.mark.parametrize("name", ["ETTh1", "ETTh2"])
def test_simulated_years_resemble_ett(data_dir: Path, name: str) -> None:
    """The mean over eight simulated years against the training part, channel by channel."""
    from training.datasets.ett import read_ett

    known = read_ett(data_dir / "ett.zip", name)
    real = known.series[0][:YEAR_H].astype(np.float64)
    assert known.times_ms[0][0] == START_MS
    years = [Transformer(seed, YEAR_H, name, START_MS) for seed in range(8)]

    def apart(figure: object) -> np.ndarray:
        return np.abs(np.mean([figure(year.values) for year in years], axis=0) - figure(real))  # type: ignore[operator]

    for lag, bound in ((1, 0.04), (24, 0.08), (168, 0.13)):
        assert apart(lambda values, lag=lag: _autocorrelation(values, lag)).max() < bound, lag
    assert (apart(lambda values: values.std(axis=0)) / real.std(axis=0)).max() < 0.15
    assert apart(lambda values: np.corrcoef(values.T)).max() < 0.15
    scaled = [(year.values - real.mean(axis=0)).mean(axis=0) / real.std(axis=0) for year in years]
    assert np.abs(np.mean(scaled, axis=0)).max() < 0.6


@pytest.mark.needs_data
@pytest.mark.needs_training
def test_the_fit_gives_the_numbers_in_the_file(data_dir: Path) -> None:
    from training.datasets.ett import read_ett
    from training.starters.transformerfit import fit_station

    known = read_ett(data_dir / "ett.zip", "ETTh1")
    rows = known.series[0][:YEAR_H].astype(np.float64)
    fitted, shipped = fit_station(rows, START_MS // STEP_MS), STATIONS["ETTh1"]
    for field in ("mean", "deviation", "day", "week", "heating", "memory_h", "period_h"):
        assert getattr(fitted, field) == pytest.approx(getattr(shipped, field), abs=6e-4), field
    assert (fitted.oil_h, fitted.tail) == (shipped.oil_h, shipped.tail)
    covariance = [one.factors.T @ one.factors for one in (fitted, shipped)]
    assert covariance[0] == pytest.approx(covariance[1], abs=0.02)

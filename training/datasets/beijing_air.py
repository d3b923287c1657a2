"""Beijing air: pollutants and weather at twelve stations, hourly for four years (UCI, id 501).

Each station is a device. The split is 7:1:2 by time, with the same calendar borders for all
stations, because stations of one city see the same smog. `NA` is missing: gaps of up to 3 hours are
interpolated, longer ones cut the series (`training.datasets.missing`). The wind direction is left
out, since it names one of 16 points of the compass; the wind speed stays. Hours are local time
(UTC+8, no daylight saving).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_matching_files
from ingest.recordings.tables import decode, parse_csv, whole_numbers
from models.manifest import Channel
from training.datasets.missing import fill_short_gaps, share_rows, to_grid
from training.datasets.series import SeriesSet
from training.errors import DataSetError, reading_data

__all__ = ["read_beijing_air"]

_CHANNELS = (
    ("PM2.5", "ug/m3"),
    ("PM10", "ug/m3"),
    ("SO2", "ug/m3"),
    ("NO2", "ug/m3"),
    ("CO", "ug/m3"),
    ("O3", "ug/m3"),
    ("TEMP", "degC"),
    ("PRES", "hPa"),
    ("DEWP", "degC"),
    ("RAIN", "mm"),
    ("WSPM", "m/s"),
)
_LONGEST = 3  # hours
_HOUR_MS = 3_600_000
_CALENDAR = (("year", 1970, 2100), ("month", 1, 12), ("day", 1, 31), ("hour", 0, 23))
_ZONE_MS = 8 * _HOUR_MS


@reading_data()
def read_beijing_air(path: Path) -> SeriesSet:
    """Read all stations.

    Args:
        path: `beijing_air.zip`, or the folder of its files.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    stations = _read_stations(path)
    devices, series, times_ms, borders = [], [], [], []
    for station, (times, values) in sorted(stations.items()):
        grid = to_grid(times, values, _HOUR_MS)
        kept, rows, ends = fill_short_gaps(grid, _LONGEST, share_rows(len(times), 0.7, 0.2))
        devices.append(station)
        series.append(rows)
        times_ms.append(kept)
        borders.append((ends[0], ends[1], ends[2]))
    return SeriesSet(
        name="Beijing-air",
        title="Beijing multi-site air quality",
        stream="air",
        channels=tuple(Channel(name=name, unit=unit) for name, unit in _CHANNELS),
        step_ms=_HOUR_MS,
        period=24,
        devices=tuple(devices),
        series=tuple(series),
        times_ms=tuple(times_ms),
        borders=tuple(borders),
        terms="trained on Beijing Multi-Site Air-Quality (Zhang et al., 2017; data CC BY 4.0)",
        about="Air pollution and weather at stations of one city, read every hour",
    )


def _read_stations(
    path: Path,
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Read times `[hours]` and values `[hours, channels]` (NaN where missing) of each station."""
    files = read_matching_files(
        path,
        r"PRSA_Data_([A-Za-z]+)_[^/]*\.csv",
        "PRSA_Data_Wanliu_...csv",
        "Beijing air (beijing_air.zip)",
    )
    stations = {
        station: _read_station(decode(content, station), f"station {station} in {path}")
        for station, content in files.items()
    }
    hours = {(len(times), int(times[0])) for times, _ in stations.values()}
    if len(hours) != 1:
        msg = (
            f"{path} does not hold the stations of Beijing air, all with the same hours (hours, "
            f"first time: {sorted(hours)[:3]}): use the path of beijing_air.zip"
        )
        raise DataSetError(msg)
    return stations


def _read_station(text: str, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    names = ("No", *(one for one, _, _ in _CALENDAR), *(one for one, _ in _CHANNELS))
    _, values = parse_csv(text, name, names, missing="NA")
    years, months, days, hours = (
        whole_numbers(column, f"{name}, column {one}", low, high)
        for column, (one, low, high) in zip(values.T, _CALENDAR, strict=False)
    )
    date = (12 * (years - 1970) + months - 1).astype("datetime64[M]").astype("datetime64[D]")
    local = (24 * (date.astype(np.int64) + days - 1) + hours) * _HOUR_MS
    return local - _ZONE_MS, values[:, len(_CALENDAR) :]

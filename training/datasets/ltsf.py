"""Weather, Exchange and ILI in the form that forecasting papers use since Autoformer (2021).

The split is 7:1:2 by time, as in the literature. Times are read as UTC. Exchange (daily rates of
eight currencies) and ILI (weekly reports on influenza-like illness) miss nothing.

Weather (Jena, 21 channels each 10 minutes) has faults that the published results ignore: -9999
marks failed readings in 81 cells, one time occurs twice, and 100 minutes are missing. `Weather`
treats -9999 as missing, and all faults by the rule of `training.datasets.missing` with gaps of up
to one hour filled. Its results compare with each other, not with published tables, where -9999
enters the scaling of three channels. `Weather-published` takes the rows as they are, one after the
other each 10 minutes; use it beside published tables only.

Unit signs are damaged in the file; the table below states them. The last column of each file is
named OT by the benchmark. That of Weather holds carbon dioxide; its unit in the file is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_named_files
from ingest.recordings.tables import parse_csv, parse_datetimes
from models.manifest import Channel
from training.datasets.missing import Grid, fill_short_gaps, share_rows, to_grid
from training.datasets.series import SeriesSet
from training.errors import DataSetError, reading_data

__all__ = ["LTSF", "read_ltsf"]

_DAY_MS = 86_400_000
_FAILED = -9999.0
_LONGEST = 6  # readings of 10 minutes
_WEATHER = (
    ("p", "mbar"),
    ("T", "degC"),
    ("Tpot", "K"),
    ("Tdew", "degC"),
    ("rh", "%"),
    ("VPmax", "mbar"),
    ("VPact", "mbar"),
    ("VPdef", "mbar"),
    ("sh", "g/kg"),
    ("H2OC", "mmol/mol"),
    ("rho", "g/m3"),
    ("wv", "m/s"),
    ("max_wv", "m/s"),
    ("wd", "deg"),
    ("rain", "mm"),
    ("raining", "s"),
    ("SWDR", "W/m2"),
    ("PAR", "umol/m2/s"),
    ("max_PAR", "umol/m2/s"),
    ("Tlog", "degC"),
    ("OT", "1"),
)
_ILI = (
    ("weighted_ILI", "%"),
    ("unweighted_ILI", "%"),
    ("age_0-4", "1"),
    ("age_5-24", "1"),
    ("ILI_total", "1"),
    ("providers", "1"),
    ("OT", "1"),
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts of one set that its file does not state."""

    file: str
    rows: int
    channels: tuple[tuple[str, str], ...]
    step_ms: int
    period: int
    stream: str
    source: str
    about: str


_WEATHER_FACTS = _Facts(
    "weather.csv",
    52_696,
    _WEATHER,
    600_000,
    144,
    "weather",
    "weather records of the Max Planck Institute for Biogeochemistry, Jena",
    "Weather at one station, read every 10 minutes: temperature, pressure, humidity, wind, light",
)
_FACTS = {
    "Weather": _WEATHER_FACTS,
    "Weather-published": _WEATHER_FACTS,
    "Exchange": _Facts(
        "exchange_rate.csv",
        7_588,
        tuple((name, "1") for name in ("0", "1", "2", "3", "4", "5", "6", "OT")),
        _DAY_MS,
        1,
        "exchange",
        "Exchange (Lai et al., 2018)",
        "Exchange rates of eight currencies, one reading a day",
    ),
    "ILI": _Facts(
        "national_illness.csv",
        966,
        _ILI,
        7 * _DAY_MS,
        52,
        "illness",
        "FluView (US Centers for Disease Control and Prevention)",
        "Patients with influenza-like illness in the United States, one report a week",
    ),
}
LTSF = tuple(_FACTS)
"""Names of the sets."""


@reading_data()
def read_ltsf(path: Path, name: str) -> SeriesSet:
    """Read one of the sets.

    Args:
        path: `ltsf_small.zip`, or the folder of its files.
        name: One of `LTSF`.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    if name not in _FACTS:
        msg = f"{name!r} is not one of {', '.join(LTSF)}"
        raise DataSetError(msg)
    facts = _FACTS[name]
    times, values = _read_table(path, facts)
    borders = share_rows(len(times), 0.7, 0.2)
    if name == "Weather":
        grid = to_grid(times, np.where(values == _FAILED, np.nan, values), facts.step_ms)
        borders = share_rows(len(grid.times_ms), 0.7, 0.2)
    else:
        regular = times[0] + facts.step_ms * np.arange(len(times), dtype=np.int64)
        grid = Grid(regular, values, facts.step_ms)
    kept, rows, ends = fill_short_gaps(grid, _LONGEST, borders)
    return SeriesSet(
        name=name,
        title=f"{name} (forecasting benchmark)",
        stream=facts.stream,
        channels=tuple(Channel(name=channel, unit=unit) for channel, unit in facts.channels),
        step_ms=facts.step_ms,
        period=facts.period,
        devices=(facts.stream,),
        series=(rows,),
        times_ms=(kept,),
        borders=((ends[0], ends[1], ends[2]),),
        terms=f"trained on {facts.source}; no licence comes with the benchmark copy",
        about=facts.about,
    )


def _read_table(path: Path, facts: _Facts) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read times `[rows]` in epoch milliseconds and values `[rows, channels]`."""
    # The unit signs of Weather are damaged in the file itself; replacing them loses nothing.
    text = read_named_files(path, [facts.file], "the benchmark (ltsf_small.zip)")[
        facts.file
    ].decode("utf-8", errors="replace")
    name = f"{facts.file} in {path}"
    stamps, values = parse_csv(text, name)
    if values.shape != (facts.rows, len(facts.channels)):
        msg = (
            f"{name} has {len(values)} lines of {values.shape[1]} numbers, expected {facts.rows} "
            f"of {len(facts.channels)}: use the path of ltsf_small.zip"
        )
        raise DataSetError(msg)
    return parse_datetimes([_as_iso(stamp) for stamp in stamps], name), values


def _as_iso(stamp: str) -> str:
    """Write the days of Exchange, `1990/1/1 0:00`, as the other files do; others stay."""
    parts = stamp.split()[:1] and stamp.split()[0].split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return stamp
    return "-".join(part.zfill(2) for part in parts)

"""ETT: load and oil temperature of two power transformers over two years, hourly or each 15 min.

ETTh1 and ETTh2 are hourly, ETTm1 and ETTm2 hold the same transformers every 15 minutes (Zhou et
al., AAAI 2021). The split is the one of the literature: 12 months for training, 4 for validation, 4
for the test, each month 30 days; the rest of the file is not used. No reading is missing. The files
state no time zone; times are read as UTC. They state no unit of the loads either, so the unit is 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest.recordings.files import read_named_files
from ingest.recordings.tables import decode, parse_csv, parse_datetimes
from models.manifest import Channel
from training.datasets.series import SeriesSet
from training.errors import DataSetError, reading_data

__all__ = ["ETT", "read_ett"]

ETT = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
"""Names of the four sets."""
_LOADS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL")
_CHANNELS = (*_LOADS, "OT")
_HOURS = (12 * 30 * 24, 16 * 30 * 24, 20 * 30 * 24)
_HOUR_MS = 3_600_000


@reading_data()
def read_ett(path: Path, name: str) -> SeriesSet:
    """Read one of the four sets.

    Args:
        path: `ett.zip`, or the folder of its files.
        name: One of `ETT`.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    if name not in ETT:
        msg = f"{name!r} is not one of {', '.join(ETT)}"
        raise DataSetError(msg)
    in_hour = 1 if name[3] == "h" else 4
    file = f"{name}.csv"
    text = decode(read_named_files(path, [file], "ETT (ett.zip or its folder)")[file], file)
    stamps, values = parse_csv(text, f"{file} in {path}", ("date", *_CHANNELS))
    times = parse_datetimes(stamps, f"{file} in {path}")
    if len(times) < _HOURS[2] * in_hour:
        msg = (
            f"{file} in {path} has {len(times)} readings, expected {_HOURS[2] * in_hour} or more: "
            "use the path of ett.zip"
        )
        raise DataSetError(msg)
    units = (*("1",) * len(_LOADS), "degC")
    return SeriesSet(
        name=name,
        title=f"ETT, {name}",
        stream="transformer",
        channels=tuple(
            Channel(name=channel, unit=unit) for channel, unit in zip(_CHANNELS, units, strict=True)
        ),
        step_ms=_HOUR_MS // in_hour,
        period=24 * in_hour,
        devices=(f"transformer-{name[4]}",),
        series=(values.astype(np.float32),),
        times_ms=(times,),
        borders=((_HOURS[0] * in_hour, _HOURS[1] * in_hour, _HOURS[2] * in_hour),),
        terms="trained on ETT (Zhou et al., 2021; data CC BY-ND 4.0)",
        about=(
            "Load and oil temperature of an electric power transformer, read every "
            f"{'hour' if in_hour == 1 else '15 minutes'}"
        ),
    )

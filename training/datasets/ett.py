"""ETT: load and oil temperature of two power transformers over two years, hourly or each 15 min.

ETTh1 and ETTh2 are hourly, ETTm1 and ETTm2 hold the same transformers every 15 minutes (Zhou et
al., AAAI 2021). The split is the one of the literature: 12 months for training, 4 for validation, 4
for the test, each month 30 days; the rest of the file is not used. No reading is missing. The files
state no time zone; times are read as UTC. They state no unit of the loads either, so the unit is 1.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np

from models.manifest import Channel
from training.datasets.series import SeriesSet
from training.errors import DataSetError

__all__ = ["ETT", "read_ett"]

ETT = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
"""Names of the four sets."""
_LOADS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL")
_CHANNELS = (*_LOADS, "OT")
_HOURS = (12 * 30 * 24, 16 * 30 * 24, 20 * 30 * 24)
_HOUR_MS = 3_600_000


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
    try:
        rows = list(csv.reader(io.StringIO(_read_text(path, f"{name}.csv"))))
        times = np.array([row[0] for row in rows[1:]], dtype="datetime64[ms]").astype(np.int64)
        values = np.array([row[1:] for row in rows[1:]], dtype=np.float32)
        if rows[0][1:] != list(_CHANNELS) or values.shape != (len(times), len(_CHANNELS)):
            raise ValueError(rows[0])
        if len(times) < _HOURS[2] * in_hour:
            raise ValueError(len(times))
    except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as exc:
        msg = f"{path} does not hold {name}.csv of ETT ({exc}): pass the path of ett.zip"
        raise DataSetError(msg) from exc
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
        series=(values,),
        times_ms=(times,),
        borders=((_HOURS[0] * in_hour, _HOURS[1] * in_hour, _HOURS[2] * in_hour),),
        terms="trained on ETT (Zhou et al., 2021; data CC BY-ND 4.0)",
        about=(
            "Load and oil temperature of an electric power transformer, read every "
            f"{'hour' if in_hour == 1 else '15 minutes'}"
        ),
    )


def _read_text(path: Path, name: str) -> str:
    if path.is_dir():
        return next(path.rglob(name), path / name).read_text(encoding="utf-8")
    with zipfile.ZipFile(path) as archive:
        full = next((one for one in archive.namelist() if one.endswith(name)), name)
        return archive.read(full).decode("utf-8")

"""The forecasting data by name, and series of your own by the path of their description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.datasets.beijing_air import read_beijing_air
from training.datasets.csv_series import read_csv_series
from training.datasets.dummy_series import make_dummy_series
from training.datasets.ett import ETT, read_ett
from training.datasets.ltsf import LTSF, read_ltsf
from training.datasets.series import SeriesSet
from training.errors import DataSetError

__all__ = ["DUMMY_SERIES", "SERIES", "is_description", "read_series", "read_series_file"]

DUMMY_SERIES = "dummy-forecast"
_ARCHIVES: dict[str, tuple[str, Callable[[Path, str], SeriesSet]]] = {
    **{name: ("ett.zip", read_ett) for name in ETT},
    **{name: ("ltsf_small.zip", read_ltsf) for name in LTSF},
    "Beijing-air": ("beijing_air.zip", lambda path, _: read_beijing_air(path)),
}
SERIES = (*_ARCHIVES, DUMMY_SERIES)
"""Names of the known sets."""


def is_description(name: str) -> bool:
    """Whether a name or path is that of a description file (`.toml`, in any case of letters)."""
    return name.lower().endswith(".toml")


def read_series(name: str, folder: Path) -> SeriesSet:
    """Read a set by its name, or by the path of a description file (`.toml`).

    Args:
        name: One of `SERIES`, or the path of a description.
        folder: Folder of the archives; unused for made-up data and descriptions.

    Raises:
        DataSetError: The name is unknown, a file is missing, or its content does not match its
            name.
    """
    if name == DUMMY_SERIES:
        return make_dummy_series()
    if is_description(name):
        return read_csv_series(Path(name))
    if name not in _ARCHIVES:
        msg = f"{name!r} is not one of {', '.join(SERIES)}, nor the path of a description (.toml)"
        raise DataSetError(msg)
    archive, read = _ARCHIVES[name]
    return read(folder / archive, name)


def read_series_file(path: Path, name: str) -> SeriesSet:
    """Read a set from its archive, the folder of its files, or a description.

    Args:
        path: Zip or folder of the literature's files, or a description file (`.toml`).
        name: Name of the set within the archive; unused for a description.

    Raises:
        DataSetError: The name is unknown, a file is missing, or its content does not match its
            name.
    """
    if is_description(path.name):
        return read_csv_series(path)
    if name not in _ARCHIVES:
        msg = f"{name!r} is not one of {', '.join(_ARCHIVES)}"
        raise DataSetError(msg)
    return _ARCHIVES[name][1](path, name)

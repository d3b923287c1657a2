"""256 real windows for every shipped student, from the data sets that it learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact import read_artifact
from models.zoo import list_zoo, zoo_path
from training.starters.build import STUDENTS, read_data
from training.starters.forecasts import read_transformers

__all__ = ["COUNT", "write_windows"]

COUNT = 256


def write_windows(data: Path, file: Path) -> None:
    """Write `COUNT` windows per student, spread over its data set, as `.npz` by name."""
    found: dict[str, NDArray[np.float32]] = {}
    for name in list_zoo():
        manifest = read_artifact(zoo_path(name)).manifest
        shape = (COUNT, manifest.window.length, len(manifest.channels))
        original = name.removesuffix("-int8")
        if original != name and original in found:
            found[name] = found[original]
        elif original in STUDENTS:
            found[name] = _spread(read_data(original, data, with_test=False).train.windows)
        else:
            found[name] = _series_windows(read_transformers(data).series[0], shape[1])
        assert found[name].shape == shape, f"{name}: {found[name].shape} instead of {shape}"
    np.savez(file, **found)


def _spread(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    return windows[np.linspace(0, len(windows) - 1, COUNT).astype(int)]


def _series_windows(series: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    starts = np.linspace(0, len(series) - length, COUNT).astype(int)
    return np.stack([series[start : start + length] for start in starts]).astype(np.float32)

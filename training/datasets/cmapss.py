"""NASA C-MAPSS turbofan engines FD001 to FD004: 14 sensors, windows of 30 cycles, RUL up to 125.

Choices of the literature (arXiv 2406.08765 and its code): sensors 1, 5, 6, 10, 16, 18, 19 are left
out on all subsets; stride 1; the label is the RUL of the last cycle capped at 125; a test engine is
judged on its last window, padded in front if it ran for less than 30 cycles.

FD002 and FD004 fly under six operating conditions. Their windows are read as they are, but one
affine scaler (all a manifest can say) does not separate wear from condition: expect errors near 20
cycles there until scaling per condition exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import Channel
from training.anchors import MAX_RUL
from training.datasets.contract import DataSet, digest_windows
from training.windows import WindowSet, slice_series

__all__ = ["LENGTH", "describe_cmapss", "label_engines", "read_cmapss"]

LENGTH = 30
_UNITS = "R R R psia rpm rpm psia pps/psi rpm rpm - - lbm/s lbm/s".split()
_NAMES = "T24 T30 T50 P30 Nf Nc Ps30 phi NRf NRc BPR htBleed W31 W32".split()
_SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)


def describe_cmapss(name: str, train: WindowSet, test: WindowSet | None) -> DataSet:
    """Put windows of turbofan engines under the contract of a data set."""
    return DataSet(
        name=name,
        title=f"C-MAPSS {name}",
        task="rul",
        stream="engine",
        group_word="engine",
        channels=tuple(
            Channel(name=channel, unit=unit) for channel, unit in zip(_NAMES, _UNITS, strict=True)
        ),
        rate_hz=None,
        length=LENGTH,
        hop=1,
        gap_ms=None,
        labels=None,
        scaling="minmax",
        train=train,
        test=test,
        digest=digest_windows(train),
        terms="trained on NASA C-MAPSS (public use; cite Saxena et al., PHM 2008)",
    )


def label_engines(
    engines: Sequence[NDArray[np.float32]], numbers: Sequence[int], left: Sequence[int]
) -> WindowSet:
    """Windows of engines that ran until `left` cycles before their end.

    Args:
        engines: one array `[cycles, 14]` per engine.
        numbers: their unit numbers, the groups.
        left: RUL of the last recorded cycle; 0 for an engine that ran to failure.
    """
    windows = [slice_series(engine, LENGTH, 1, pad_short=True) for engine in engines]
    labels = [
        np.minimum(np.arange(len(cut) - 1, -1, -1) + rest, MAX_RUL)
        for cut, rest in zip(windows, left, strict=True)
    ]
    groups = [np.full(len(cut), number) for cut, number in zip(windows, numbers, strict=True)]
    return WindowSet(
        np.concatenate(windows),
        np.concatenate(labels).astype(np.int64),
        np.concatenate(groups).astype(np.int64),
    )


def read_cmapss(path: Path, subset: str = "FD001", *, with_test: bool = True) -> DataSet:
    """Read one subset from the zip or folder of text files.

    Args:
        path: `cmapss.zip`, or a folder that holds train_FD001.txt and so on.
        subset: FD001 to FD004.
        with_test: read the official test set too (it must then be there).

    Raises:
        DataSetError: a file is missing or is not what its name says.
    """
    train = _read_table(path, f"train_{subset}.txt")
    numbers = [int(n) for n in np.unique(train[:, 0])]
    engines = [_sensors(train, number) for number in numbers]
    test_set = None
    if with_test:
        test = _read_table(path, f"test_{subset}.txt")
        left = _read_table(path, f"RUL_{subset}.txt")[:, 0].astype(int).tolist()
        units = [int(n) for n in np.unique(test[:, 0])]
        windows = label_engines([_sensors(test, unit) for unit in units], units, left)
        test_set = windows.where(np.diff(windows.groups, append=-1) != 0)
    return describe_cmapss(subset, label_engines(engines, numbers, [0] * len(numbers)), test_set)


def _sensors(table: NDArray[np.float64], unit: int) -> NDArray[np.float32]:
    return table[table[:, 0] == unit][:, [number + 4 for number in _SENSORS]].astype(np.float32)


def _read_table(path: Path, name: str) -> NDArray[np.float64]:
    import io
    import zipfile

    raw = zipfile.ZipFile(path).read(name) if path.is_file() else (path / name).read_bytes()
    return np.loadtxt(io.BytesIO(raw), ndmin=2)

"""NASA C-MAPSS turbofan engines FD001 to FD004: 14 sensors, windows of 30 cycles, RUL up to 125.

Choices of the literature (arXiv 2406.08765 and its code): sensors 1, 5, 6, 10, 16, 18, 19 are left
out on all subsets; the stride is 1; the label is the RUL of the last cycle capped at 125; a test
engine is judged on its last window, padded in front if it ran for less than 30 cycles.

FD002 and FD004 fly under six operating conditions. One affine scaler, the only kind that a manifest
can express, does not separate them from wear. With `conditions` the three settings are the first
channels, and the graph of the student scales per condition. `+` joins subsets (`FD001+FD003`); the
engine numbers of joined subsets are `SETS_APART` from each other.

Windows longer than 30 cycles are padded in front from 30 cycles on, so every length has the same
windows, ending at the same cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest import recordings
from ingest.recordings import CMAPSS_SENSORS, CMAPSS_SETTINGS, ENGINE_CHANNELS, EngineHistory
from models.features import pad_front
from models.manifest import Channel
from models.tasks.rul import MAX_RUL
from training.datasets.contract import SETS_APART, DataSet
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows, slice_series

__all__ = [
    "LENGTH",
    "describe_cmapss",
    "engine_series",
    "label_engines",
    "read_cmapss",
    "read_engines",
]

LENGTH = 30
_SUBSETS = ("FD001", "FD002", "FD003", "FD004")
_SETTING_UNITS = ("kft", "Mach", "deg")
_UNITS = "R R R psia rpm rpm psia pps/psi rpm rpm - - lbm/s lbm/s".split()


def describe_cmapss(name: str, train: WindowSet, test: WindowSet | None) -> DataSet:
    """Describe windows of turbofan engines as a data set.

    Windows of 17 channels begin with the three settings and are scaled per condition.
    """
    length, conditions = train.windows.shape[1], train.windows.shape[2] > len(ENGINE_CHANNELS)
    names = (*CMAPSS_SETTINGS * conditions, *ENGINE_CHANNELS)
    units = (*_SETTING_UNITS * conditions, *_UNITS)
    return DataSet(
        name=name,
        title=f"C-MAPSS {name}",
        task="rul",
        stream="engine",
        group_word="engine",
        channels=tuple(
            Channel(name=channel, unit=unit) for channel, unit in zip(names, units, strict=True)
        ),
        rate_hz=None,
        length=length,
        hop=1,
        gap_ms=None,
        labels=None,
        scaling="conditions" if conditions else "minmax",
        train=train,
        test=test,
        digest=digest_windows(train),
        terms="trained on NASA C-MAPSS (public use; cite Saxena et al., PHM 2008)",
        min_readings=min(length, LENGTH),
        sets=tuple(subsets) if len(subsets := name.split(">")[0].split("+")) > 1 else (),
    )


def label_engines(
    histories: Sequence[EngineHistory], length: int = LENGTH, *, conditions: bool = False
) -> WindowSet:
    """Cut all windows of some engines; the group of a window is the number of its engine.

    Args:
        histories: Engines from their first cycle on.
        length: Readings in a window.
        conditions: Put the three operating settings before the sensors.
    """
    windows, labels, groups = [], [], []
    for history in histories:
        series, left = engine_series(history, conditions=conditions)
        cut = slice_series(series, length, 1, pad_short=True)
        short = range(min(LENGTH, len(series)), min(length, len(series)))
        if len(short):
            padded = np.stack([pad_front(series[:count], length) for count in short])
            cut = np.concatenate([padded, cut])
        windows.append(cut)
        labels.append(left[len(left) - len(cut) :])
        groups.append(np.full(len(cut), history.engine))
    return WindowSet(
        np.concatenate(windows),
        np.concatenate(labels).astype(np.int64),
        np.concatenate(groups).astype(np.int64),
    )


def engine_series(
    history: EngineHistory, *, conditions: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The readings of one engine `[cycles, channels]`, and its capped RUL at each `[cycles]`.

    Args:
        history: Engine from its first cycle on.
        conditions: Put the three operating settings before the sensors.
    """
    series = history.sensors[:, [CMAPSS_SENSORS.index(name) for name in ENGINE_CHANNELS]]
    if conditions:
        series = np.concatenate([history.settings, series], axis=1)
    left = np.arange(len(series) - 1, -1, -1) + history.rul_cycles
    return series, np.minimum(left, MAX_RUL).astype(np.int64)


@reading_data()
def read_cmapss(
    path: Path,
    subset: str = "FD001",
    *,
    with_test: bool = True,
    length: int = LENGTH,
    conditions: bool = False,
    test: str = "",
) -> DataSet:
    """Read one subset, or several joined by `+`, from the zip or folder of text files.

    Args:
        path: `cmapss.zip` (or as downloaded), or the folder with train_FD001.txt and so on.
        subset: FD001 to FD004, or e.g. `FD001+FD003`.
        with_test: Read the official test set too; its file must then exist.
        length: Readings in a window.
        conditions: Read the operating settings too, for scaling per condition.
        test: Subset to test on, if it is another one; the name is then `FD001>FD003`.

    Raises:
        DataSetError: A file is missing, or its content does not match its name.
    """
    train = label_engines(read_engines(path, subset, "train"), length, conditions=conditions)
    if not with_test:
        return describe_cmapss(subset, train, None)
    histories = read_engines(path, test or subset, "test")
    scored = label_engines(histories, length, conditions=conditions)
    last = np.diff(scored.groups, append=-1) != 0
    name = f"{subset}>{test}" if test else subset
    return describe_cmapss(name, train, scored.where(last))


def read_engines(path: Path, subset: str, split: Literal["train", "test"]) -> list[EngineHistory]:
    """Read the engines of one subset, or of several joined by `+`; see `read_cmapss`.

    Raises:
        DataSetError: There is no such subset, or a file is missing or wrong.
    """
    names = subset.split("+")
    if len(set(names)) != len(names) or not set(names) <= set(_SUBSETS):
        msg = (
            f"subset {subset!r} is not one of {', '.join(_SUBSETS)}, nor several of them joined by "
            "+, each once"
        )
        raise DataSetError(msg)
    return [
        replace(history, engine=history.engine + SETS_APART * index)
        for index, name in enumerate(names)
        for history in recordings.read_cmapss(path, name, split)
    ]

"""NASA C-MAPSS turbofan engines FD001 to FD004: 14 sensors, windows of 30 cycles, RUL up to 125.

Choices of the literature (arXiv 2406.08765 and its code): sensors 1, 5, 6, 10, 16, 18, 19 are left
out on all subsets; stride 1; the label is the RUL of the last cycle capped at 125; a test engine is
judged on its last window, padded in front if it ran for less than 30 cycles.

FD002 and FD004 fly under six operating conditions. Their windows are read as they are, but one
affine scaler (all a manifest can say) does not separate wear from condition: the recipe of FD001
reaches RMSE 35 on held-out engines of FD002, useless until scaling per condition exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ingest import recordings
from ingest.recordings import CMAPSS_SENSORS, ENGINE_CHANNELS, EngineHistory
from models.manifest import Channel
from training.anchors import MAX_RUL
from training.datasets.contract import DataSet, digest_windows
from training.errors import DataSetError
from training.windows import WindowSet, slice_series

__all__ = ["LENGTH", "describe_cmapss", "label_engines", "read_cmapss"]

LENGTH = 30
_UNITS = "R R R psia rpm rpm psia pps/psi rpm rpm - - lbm/s lbm/s".split()


def describe_cmapss(name: str, train: WindowSet, test: WindowSet | None) -> DataSet:
    """Put windows of turbofan engines under the contract of a data set."""
    return DataSet(
        name=name,
        title=f"C-MAPSS {name}",
        task="rul",
        stream="engine",
        group_word="engine",
        channels=tuple(
            Channel(name=channel, unit=unit)
            for channel, unit in zip(ENGINE_CHANNELS, _UNITS, strict=True)
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


def label_engines(histories: Sequence[EngineHistory]) -> WindowSet:
    """All windows of some engines; the group of a window is the number of its engine."""
    columns = [CMAPSS_SENSORS.index(name) for name in ENGINE_CHANNELS]
    windows, labels, groups = [], [], []
    for history in histories:
        cut = slice_series(history.sensors[:, columns], LENGTH, 1, pad_short=True)
        left = np.arange(len(cut) - 1, -1, -1) + history.rul_cycles
        windows.append(cut)
        labels.append(np.minimum(left, MAX_RUL))
        groups.append(np.full(len(cut), history.engine))
    return WindowSet(
        np.concatenate(windows),
        np.concatenate(labels).astype(np.int64),
        np.concatenate(groups).astype(np.int64),
    )


def read_cmapss(path: Path, subset: str = "FD001", *, with_test: bool = True) -> DataSet:
    """Read one subset from the zip or folder of text files.

    Args:
        path: `cmapss.zip` (or as downloaded), or the folder that holds train_FD001.txt and so on.
        subset: FD001 to FD004.
        with_test: read the official test set too (it must then be there).

    Raises:
        DataSetError: a file is missing or is not what its name says.
    """
    try:
        train = label_engines(recordings.read_cmapss(path, subset, "train"))
        if not with_test:
            return describe_cmapss(subset, train, None)
        test = label_engines(recordings.read_cmapss(path, subset, "test"))
    except recordings.RecordingError as exc:
        raise DataSetError(str(exc)) from exc
    last = np.diff(test.groups, append=-1) != 0
    return describe_cmapss(subset, train, test.where(last))

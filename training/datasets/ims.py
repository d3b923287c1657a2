"""IMS bearings: four bearings run to failure in three tests of one rig; RUL in running hours.

Only the mean absolute vibration of every snapshot is available (University of Cincinnati, from the
NASA repository). A reading is one hour of running. Pauses of the rig do not age a bearing, so a
step between snapshots counts as one hour at most. The channels are the vibration of the failed
bearing and the mean of the other bearings, each divided by its own median of the first 24 hours,
which a gateway can compute as well. The label is the number of running hours left, capped at 125.

Three tests are three draws: a result (one test left out) is one example of three, not an estimate.
Bearings 3 and 4 of test 1 failed on one shaft at one time.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_named_files
from ingest.recordings.tables import decode, parse_csv
from models.manifest import Channel
from models.tasks.rul import MAX_RUL
from training.datasets.contract import DataSet
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows, join_windows, slice_series

__all__ = ["LENGTH", "read_ims"]

LENGTH = 30
_FAILED = {1: (3, 4), 2: (1,), 3: (3,)}
_FILES = {1: "1st_test_meanabs.csv", 2: "2nd_test_meanabs.csv", 3: "3rd_test_meanabs.csv"}
_LEARNING_HOURS = 24
_STOPPED = 0.01  # g: the rig does not run below it


@reading_data()
def read_ims(path: Path, left_out: int, *, with_test: bool = True) -> DataSet:
    """Read the runs to failure; one test of the rig is the test set.

    Args:
        path: `ims_bearing_meanabs.zip`.
        left_out: Test of the rig, 1 to 3, to keep out of training; all its windows are scored.
        with_test: Read that test too.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    train: list[WindowSet] = []
    test: list[WindowSet] = []
    for number, failed in _FAILED.items():
        hours = _read_hours(path, _FILES[number])
        for bearing in failed:
            run = _label(hours, bearing, 10 * number + bearing)
            (test if number == left_out else train).append(run)
    known = join_windows(train)
    return DataSet(
        name=f"IMS-{left_out}",
        title=f"IMS bearings, test {left_out} left out",
        task="rul",
        stream="bearing",
        group_word="bearing",
        channels=(Channel(name="bearing", unit="1"), Channel(name="others", unit="1")),
        rate_hz=None,
        length=LENGTH,
        hop=1,
        gap_ms=None,
        labels=None,
        scaling="minmax",
        train=known,
        test=join_windows(test) if with_test else None,
        digest=digest_windows(known),
        terms="trained on IMS bearings (NASA, public use; cite Lee et al., 2007)",
    )


def _read_hours(path: Path, name: str) -> NDArray[np.float64]:
    """Read the mean absolute vibration of every running hour and bearing, `[hours, 4]`."""
    text = decode(
        read_named_files(path, [name], "the IMS bearings (ims_bearing_meanabs.zip)")[name],
        name,
        "ascii",
    )
    head = text.partition("\n")[0].strip().split(",")
    stamps, values = parse_csv(text, f"{name} in {path}", head[1:])
    seconds = np.array([_seconds(stamp, name) for stamp in stamps])
    if values.shape[1] not in (4, 8) or (np.diff(seconds) < 0).any():
        msg = (
            f"{name} in {path} has {values.shape[1]} columns of vibration, expected 4 or 8 and "
            "ascending times: use the path of ims_bearing_meanabs.zip"
        )
        raise DataSetError(msg)
    values = values.reshape(len(values), 4, -1).mean(axis=2)
    runs = values.max(axis=1) > _STOPPED
    if not runs.any():
        msg = f"{name} in {path}: the rig never runs: use the path of ims_bearing_meanabs.zip"
        raise DataSetError(msg)
    seconds, values = seconds[runs], values[runs]
    age_h = np.concatenate([[0.0], np.cumsum(np.minimum(np.diff(seconds) / 3600, 1.0))])
    hour = np.unique(age_h.astype(int), return_inverse=True)[1]
    counts = np.bincount(hour)
    return np.stack([np.bincount(hour, column) / counts for column in values.T], axis=1)


def _seconds(stamp: str, name: str) -> float:
    try:
        moment = datetime.strptime(stamp, "%Y.%m.%d.%H.%M.%S").replace(tzinfo=timezone.utc)
    except ValueError as exc:
        msg = f"{name}: {stamp[:40]!r} is no time such as 2003.10.22.12.06.24: copy it again"
        raise DataSetError(msg) from exc
    return moment.timestamp()


def _label(hours: NDArray[np.float64], bearing: int, group: int) -> WindowSet:
    healthy = np.median(hours[:_LEARNING_HOURS], axis=0)
    ratio = hours / healthy
    others = np.delete(ratio, bearing - 1, axis=1).mean(axis=1)
    series = np.stack([ratio[:, bearing - 1], others], axis=1).astype(np.float32)
    windows = slice_series(series, LENGTH, 1)
    left = np.minimum(np.arange(len(windows) - 1, -1, -1), MAX_RUL).astype(np.int64)
    return WindowSet(windows, left, np.full(len(windows), group, dtype=np.int64))

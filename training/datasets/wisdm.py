"""WISDM v1.1: six activities of 36 people with a phone in the trouser pocket, accelerometer only.

Only a windowed copy is available: 128 readings at 20 Hz, every (step, channel) standardised per
user by its source. Values have no unit and gravity is removed, so this set compares methods; a
student trained on it is not meant for a gateway. Test people are 29 to 36 (the usual split by
user).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest.recordings.tables import float32_array, read_arrays, whole_numbers
from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows

__all__ = ["read_wisdm"]

LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
_LAST_TRAIN_USER, _USERS = 28, 36


@reading_data()
def read_wisdm(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the windows.

    Args:
        path: `wisdm_windows.npz`.
        with_test: Keep users 29 to 36 as the test set.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    what = "wisdm_windows.npz, with the arrays X, y, user, labels"
    arrays = read_arrays(path, ("X", "y", "user", "labels"), what)
    names = tuple(str(name) for name in np.atleast_1d(arrays["labels"]))
    if names != LABELS:
        msg = f"{path}: expected the labels {LABELS}, found {names}: use the path of {what}"
        raise DataSetError(msg)
    windows = float32_array(arrays["X"], f"{path}: X", (None, None, 3))
    labels = whole_numbers(arrays["y"], f"{path}: y", 0, len(LABELS) - 1)
    whole = WindowSet(windows, labels, whole_numbers(arrays["user"], f"{path}: user", 1, _USERS))
    is_test = whole.groups > _LAST_TRAIN_USER
    train = whole.where(~is_test)
    return DataSet(
        name="WISDM",
        title="WISDM v1.1 (windowed copy)",
        task="activity",
        stream="accelerometer",
        group_word="subject",
        channels=tuple(Channel(name=f"acc_{axis}", unit="1") for axis in "xyz"),
        rate_hz=20.0,
        length=windows.shape[1],
        hop=windows.shape[1],
        gap_ms=250,
        labels=LABELS,
        scaling="zscore",
        train=train,
        test=whole.where(is_test) if with_test else None,
        digest=digest_windows(train),
        terms="trained on WISDM v1.1 (Kwapisz et al., SensorKDD 2010; free for research)",
    )

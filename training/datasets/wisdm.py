"""WISDM v1.1: six activities of 36 people with a phone in the trouser pocket, accelerometer only.

Only a windowed copy is available: 128 readings at 20 Hz, every (step, channel) standardised per
user by its source. Values have no unit and gravity is removed, so this set compares methods; a
student trained on it is not meant for a gateway. Test people are 29 to 36 (the usual split by
user).
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError
from training.windows import WindowSet, digest_windows

__all__ = ["read_wisdm"]

LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
_LAST_TRAIN_USER = 28


def read_wisdm(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the windows.

    Args:
        path: `wisdm_windows.npz`.
        with_test: Keep users 29 to 36 as the test set.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            windows, labels, users = (arrays[key] for key in ("X", "y", "user"))
            names = tuple(str(name) for name in arrays["labels"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        msg = (
            f"{path} is not an npz file with the arrays X, y, user, labels ({exc}): pass the path "
            "of wisdm_windows.npz"
        )
        raise DataSetError(msg) from exc
    if names != LABELS or windows.ndim != 3 or windows.shape[2] != 3:
        msg = f"{path}: expected X [n, length, 3] and {LABELS}, found {windows.shape} and {names}"
        raise DataSetError(msg)
    whole = WindowSet(windows.astype(np.float32), labels.astype(np.int64), users.astype(np.int64))
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

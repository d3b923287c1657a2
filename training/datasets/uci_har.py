"""UCI HAR: six activities of 30 people with a phone at the waist, windows of 128 readings at 50 Hz.

The windows are the official ones (half overlapping), 21 people to learn from and 9 official test
people. Nine channels: body acceleration, angular velocity, total acceleration.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.manifest import Channel
from training.datasets.contract import DataSet, digest_windows
from training.windows import WindowSet

__all__ = ["LABELS", "LENGTH", "describe_uci_har", "read_uci_har"]

LENGTH = 128
LABELS = (
    "WALKING",
    "WALKING_UPSTAIRS",
    "WALKING_DOWNSTAIRS",
    "SITTING",
    "STANDING",
    "LAYING",
)


def describe_uci_har(name: str, train: WindowSet, test: WindowSet | None) -> DataSet:
    """Put nine-channel windows under the contract of a data set."""
    kinds = (("body_acc", "g"), ("body_gyro", "rad/s"), ("total_acc", "g"))
    return DataSet(
        name=name,
        title=f"UCI HAR ({name})" if name != "UCI HAR" else name,
        task="activity",
        stream="imu",
        group_word="subject",
        channels=tuple(
            Channel(name=f"{kind}_{axis}", unit=unit) for kind, unit in kinds for axis in "xyz"
        ),
        rate_hz=50.0,
        length=LENGTH,
        hop=LENGTH // 2,
        gap_ms=100,
        labels=LABELS,
        scaling="zscore",
        train=train,
        test=test,
        digest=digest_windows(train),
        terms=(
            "trained on UCI HAR (Anguita et al., ESANN 2013), whose readme prohibits commercial "
            "use of the data; ask before commercial use of this student"
        ),
    )


def read_uci_har(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the official windows.

    Args:
        path: a folder with uci_har_train.npz and uci_har_test.npz.
        with_test: read the 9 test people too (they must then be there).

    Raises:
        DataSetError: a file is missing or is not what its name says.
    """
    train = _read_part(path, "train")
    return describe_uci_har("UCI HAR", train, _read_part(path, "test") if with_test else None)


def _read_part(path: Path, part: str) -> WindowSet:
    d = np.load(path / f"uci_har_{part}.npz")
    return WindowSet(d["X"], d["y"].astype(np.int64) - 1, d["subject"].astype(np.int64))

"""UCI HAR: six activities of 30 people with a phone at the waist, windows of 128 readings at 50 Hz.

The windows are the official ones (half overlapping): 21 people to learn from and 9 official test
people. The nine channels are body acceleration, angular velocity and total acceleration.
"""

from __future__ import annotations

from pathlib import Path

from ingest import recordings
from ingest.recordings import HAR_CHANNELS, HAR_LABELS
from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import reading_data
from training.windows import WindowSet, digest_windows

__all__ = ["LENGTH", "describe_uci_har", "read_uci_har"]

LENGTH = 128


def describe_uci_har(name: str, train: WindowSet, test: WindowSet | None) -> DataSet:
    """Describe nine-channel windows as a data set."""
    units = {"body_acc": "g", "body_gyro": "rad/s", "total_acc": "g"}
    return DataSet(
        name=name,
        title=f"UCI HAR ({name})" if name != "UCI HAR" else name,
        task="activity",
        stream="imu",
        group_word="subject",
        channels=tuple(Channel(name=name, unit=units[name[:-2]]) for name in HAR_CHANNELS),
        rate_hz=50.0,
        length=LENGTH,
        hop=LENGTH // 2,
        gap_ms=100,
        labels=HAR_LABELS,
        scaling="zscore",
        train=train,
        test=test,
        digest=digest_windows(train),
        terms=(
            "trained on UCI HAR (Anguita et al., ESANN 2013), whose readme prohibits commercial "
            "use of the data; ask before commercial use of this student"
        ),
    )


@reading_data()
def read_uci_har(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the official windows.

    Args:
        path: Folder with uci_har_train.npz (and uci_har_test.npz), or the original text layout as
            a folder, zip or tar.
        with_test: Read the 9 test people too; their file must then exist.

    Raises:
        DataSetError: A file is missing, or its content does not match its name.
    """
    train = recordings.read_uci_har(path, "train")
    test = recordings.read_uci_har(path, "test") if with_test else None
    return describe_uci_har("UCI HAR", _label(train), _label(test) if test else None)


def _label(windows: recordings.HarWindows) -> WindowSet:
    return WindowSet(windows.X, windows.y, windows.subject)

"""UCI-HAR: inertial signals of people with a phone at the waist (Anguita et al., ESANN 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RecordingError
from ingest.recordings.files import read_named_files
from ingest.recordings.recording import Recording
from ingest.recordings.tables import (
    decode,
    float32_array,
    parse_table,
    read_arrays,
    whole_numbers,
)

__all__ = ["HAR_CHANNELS", "HAR_LABELS", "HarWindows", "read_uci_har", "recordings_of"]

HAR_CHANNELS = tuple(
    f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
"""The nine inertial signals, the channels of the stream `imu`."""
HAR_LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")

_HAR_LENGTH, _HAR_HOP = 128, 64
_PEOPLE = 30
_HAR_STEP_MS = 20
_HAR_BREAK_MS = 2000  # well above any gap_ms, so that a break resets the windows


@dataclass(frozen=True, slots=True)
class HarWindows:
    """Windows of UCI-HAR in the order of the files.

    Attributes:
        X: Signals, float32 `[n, 128, 9]`, channels as `HAR_CHANNELS`; g, rad/s, g; 50 Hz.
        y: Activity, int64 `[n]`, index into `HAR_LABELS`.
        subject: Number of the person, int64 `[n]`, 1 to 30.
    """

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    subject: NDArray[np.int64]


def read_uci_har(path: Path | str, split: Literal["train", "test"] = "test") -> HarWindows:
    """Read the inertial signals of UCI-HAR.

    Args:
        path: `uci_har_test.npz` or its folder; or the original text layout
            (`UCI HAR Dataset/test/Inertial Signals/...`) as a folder, zip or tar.
        split: "train" or "test".

    Raises:
        RecordingError: The path or a file does not exist, or has another format.
    """
    path = Path(path)
    found = _array_file(path, split)
    return _read_texts(path, split) if found is None else _read_arrays(found, split)


def recordings_of(windows: HarWindows) -> list[Recording]:
    """Rebuild the continuous recordings from windows: one per subject, device `subject-02`.

    Windows of UCI-HAR overlap by half. Where the second half of one window of a subject equals the
    first half of the next, the recording continues; elsewhere 2 s of event time are left out.

    Guarantee: a count windower with length 128, hop 64 and a reset at gaps of more than 20 ms and
    less than 2 s closes exactly the windows `recording.windows`, in this order, and no others.
    """
    recordings = []
    for subject in np.unique(windows.subject):
        indices = np.flatnonzero(windows.subject == subject)
        X = windows.X[indices]
        follows = (X[:-1, _HAR_HOP:] == X[1:, :_HAR_HOP]).all(axis=(1, 2))
        # Windows of one subject must be adjacent in the file, or "next" has no meaning.
        breaks = np.flatnonzero(~(follows & (np.diff(indices) == 1))) + 1
        parts: list[NDArray[np.float32]] = []
        offsets: list[NDArray[np.int64]] = []
        ends: list[NDArray[np.int64]] = []
        start_ms = 0
        for run in np.split(X, breaks):
            values = np.concatenate([run[0, :_HAR_HOP], *run[:, _HAR_HOP:]])
            times = start_ms + np.arange(len(values), dtype=np.int64) * _HAR_STEP_MS
            parts.append(values)
            offsets.append(times)
            ends.append(times[_HAR_LENGTH - 1 :: _HAR_HOP])
            start_ms = int(times[-1]) + _HAR_BREAK_MS
        recordings.append(
            Recording(
                f"subject-{int(subject):02d}",
                "imu",
                HAR_CHANNELS,
                np.concatenate(offsets),
                np.concatenate(parts),
                indices.astype(np.int64),
                np.concatenate(ends),
            )
        )
    return recordings


def _array_file(path: Path, split: str) -> Path | None:
    """Find the npz file that `path` is or holds; None if there is none."""
    if not path.is_dir():
        return path if path.suffix.lower() == ".npz" else None
    name = f"uci_har_{split}.npz"
    found = sorted(file for file in path.iterdir() if file.name.lower() == name)
    if len(found) > 1:
        msg = f"{path} contains {found[0].name} and {found[1].name}: remove one of them"
        raise RecordingError(msg)
    return found[0] if found else None


def _read_arrays(path: Path, split: Literal["train", "test"]) -> HarWindows:
    if split not in path.name.lower():
        msg = f"{path} is not the {split} split: use uci_har_{split}.npz or its folder"
        raise RecordingError(msg)
    what = f"uci_har_{split}.npz, with the arrays X, y, subject, channels"
    arrays = read_arrays(path, ("X", "y", "subject", "channels"), what)
    channels = tuple(str(name) for name in np.atleast_1d(arrays["channels"]))
    if channels != HAR_CHANNELS:
        msg = f"{path}: channels are {', '.join(channels)}, expected {', '.join(HAR_CHANNELS)}"
        raise RecordingError(msg)
    windows = float32_array(arrays["X"], f"{path}: X", (None, _HAR_LENGTH, len(HAR_CHANNELS)))
    return _windows(windows, arrays["y"], arrays["subject"], path)


def _read_texts(path: Path, split: Literal["train", "test"]) -> HarWindows:
    signals = [f"{channel}_{split}.txt" for channel in HAR_CHANNELS]
    names = [*signals, f"y_{split}.txt", f"subject_{split}.txt"]
    what = f"UCI-HAR (uci_har_{split}.npz, or 'UCI HAR Dataset' with its Inertial Signals)"
    texts = {
        name: decode(content, name, "ascii")
        for name, content in read_named_files(path, names, what).items()
    }
    tables = [parse_table(texts[name], name, _HAR_LENGTH).astype(np.float32) for name in signals]
    if len({len(table) for table in tables}) != 1:
        msg = f"{path}: the nine signal files have different numbers of windows"
        raise RecordingError(msg)
    y, subject = (parse_table(texts[name], name, 1)[:, 0] for name in names[-2:])
    return _windows(np.stack(tables, axis=2), y, subject, path)


def _windows(
    windows: NDArray[np.float32], y: NDArray[Any], subject: NDArray[Any], path: Path
) -> HarWindows:
    n = len(windows)
    if y.shape != (n,) or subject.shape != (n,):
        msg = f"{path}: {n} windows have labels {y.shape} and subjects {subject.shape}"
        raise RecordingError(msg)
    labels = whole_numbers(y, f"{path}: labels", 1, len(HAR_LABELS)) - 1
    return HarWindows(windows, labels, whole_numbers(subject, f"{path}: subjects", 1, _PEOPLE))

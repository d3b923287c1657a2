"""Readers of recorded data sets: C-MAPSS turbofan engines and UCI-HAR inertial signals.

Replay and training read exactly the same numbers through these functions: text is parsed as
float64 and cast to float32 once, as the pipeline does with JSON. Needs numpy only. A path may be
the folder, the archive as downloaded (also an archive inside an archive), or for UCI-HAR a pair of
`.npz` files.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest.errors import IngestError

__all__ = [
    "CMAPSS_SENSORS",
    "CMAPSS_SETTINGS",
    "ENGINE_CHANNELS",
    "HAR_CHANNELS",
    "HAR_LABELS",
    "EngineHistory",
    "HarWindows",
    "Recording",
    "RecordingError",
    "engine_recordings",
    "read_cmapss",
    "read_uci_har",
    "recordings_of",
]

Split = Literal["train", "test"]

CMAPSS_SENSORS = tuple(
    "T2 T24 T30 T50 P2 P15 P30 Nf Nc epr Ps30 phi NRf NRc BPR farB htBleed Nf_dmd PCNfR_dmd "
    "W31 W32".split()
)
"""The 21 sensors in the order of the files, columns 6 to 26 (Saxena et al., PHM 2008, table 2)."""
CMAPSS_SETTINGS = ("setting_1", "setting_2", "setting_3")
"""The operating settings: altitude, Mach number, throttle resolver angle."""
ENGINE_CHANNELS = tuple("T24 T30 T50 P30 Nf Nc Ps30 phi NRf NRc BPR htBleed W31 W32".split())
"""The 14 sensors that vary in FD001: the channels of the stream `engine`."""
HAR_CHANNELS = tuple(
    f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
"""The nine inertial signals, the channels of the stream `imu`."""
HAR_LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")

_HAR_LENGTH, _HAR_HOP = 128, 64
_HAR_STEP_MS = 20
_HAR_BREAK_MS = 2000  # well above any gap_ms, so that a break resets the windows


class RecordingError(IngestError):
    """A data set cannot be read; the message names the file, the expectation and the remedy."""


@dataclass(frozen=True, slots=True)
class EngineHistory:
    """One engine of C-MAPSS, from its first cycle on.

    Attributes:
        engine: Number within the subset, from 1.
        cycles: int64 `[n]`, 1 to n.
        settings: Operating settings, float32 `[n, 3]`.
        sensors: float32 `[n, 21]`, columns as `CMAPSS_SENSORS`.
        rul_cycles: Remaining useful life after the last cycle: the truth of the test split; 0 in
            the train split, whose engines run until they fail.
    """

    engine: int
    cycles: NDArray[np.int64]
    settings: NDArray[np.float32]
    sensors: NDArray[np.float32]
    rul_cycles: int


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


@dataclass(frozen=True, slots=True)
class Recording:
    """Readings of one device, ready to be published or windowed.

    Attributes:
        device: Device name.
        stream: Stream name.
        channels: Names of the columns.
        offsets_ms: Event times relative to the first reading, int64 `[n]`, strictly increasing.
        values: float32 `[n, c]`.
        windows: Indices of the windows from which the recording was rebuilt, in the order in which
            a windower closes them, int64 `[k]`; else empty.
        window_offsets_ms: Offset of each window's last reading, int64 `[k]`.
    """

    device: str
    stream: str
    channels: tuple[str, ...]
    offsets_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    windows: NDArray[np.int64]
    window_offsets_ms: NDArray[np.int64]


# -- C-MAPSS --------------------------------------------------------------------------------


def read_cmapss(
    path: Path | str, subset: str = "FD001", split: Split = "test"
) -> list[EngineHistory]:
    """Read one subset of C-MAPSS.

    Args:
        path: Folder or zip that contains `train_FD001.txt` and so on, at any depth.
        subset: FD001 to FD004.
        split: "train" or "test".

    Returns:
        One history per engine, in the order of their numbers, which run from 1 without gaps.

    Raises:
        RecordingError: The path or a file does not exist, or has another format.
    """
    path = Path(path)
    names = [f"{split}_{subset}.txt", f"RUL_{subset}.txt"][: 1 + (split == "test")]
    files = _read_files(path, names, "C-MAPSS (cmapss.zip, CMAPSSData.zip or their folder)")
    table = _table(files[names[0]], names[0], columns=26)
    engines, starts = np.unique(table[:, 0].astype(np.int64), return_index=True)
    if not np.array_equal(engines, np.arange(1, len(engines) + 1)) or np.any(np.diff(starts) < 0):
        msg = f"{names[0]} in {path}: engines are not numbered 1, 2, 3 ... in order"
        raise RecordingError(msg)
    rul = np.zeros(len(engines), dtype=np.int64)
    if split == "test":
        rul = _table(files[names[1]], names[1], columns=1)[:, 0].astype(np.int64)
        if len(rul) != len(engines):
            msg = f"{names[1]} has {len(rul)} values for {len(engines)} engines of {names[0]}"
            raise RecordingError(msg)
    return [
        _history(int(engine), rows, int(truth), names[0])
        for engine, rows, truth in zip(engines, np.split(table, starts[1:]), rul, strict=True)
    ]


def engine_recordings(
    histories: Iterable[EngineHistory],
    subset: str = "FD001",
    *,
    interval_ms: int = 1000,
    all_channels: bool = False,
) -> list[Recording]:
    """Return engines as devices `FD001-001` ... of the stream `engine`, one reading per cycle.

    Args:
        histories: Histories, as `read_cmapss` returns them.
        subset: First part of the device names.
        interval_ms: Event time from one cycle to the next.
        all_channels: Use the settings and all 21 sensors instead of `ENGINE_CHANNELS`.
    """
    chosen = [CMAPSS_SENSORS.index(name) for name in ENGINE_CHANNELS]
    none = np.empty(0, dtype=np.int64)
    recordings = []
    for history in histories:
        if all_channels:
            channels = CMAPSS_SETTINGS + CMAPSS_SENSORS
            values = np.concatenate([history.settings, history.sensors], axis=1)
        else:
            channels, values = ENGINE_CHANNELS, history.sensors[:, chosen]
        offsets = (history.cycles - history.cycles[0]) * interval_ms
        device = f"{subset}-{history.engine:03d}"
        recordings.append(Recording(device, "engine", channels, offsets, values, none, none))
    return recordings


def _history(engine: int, rows: NDArray[np.float64], rul: int, name: str) -> EngineHistory:
    cycles = rows[:, 1].astype(np.int64)
    if not np.array_equal(cycles, np.arange(1, len(cycles) + 1)):
        msg = f"{name}: the cycles of engine {engine} are not 1, 2, 3 ..."
        raise RecordingError(msg)
    numbers = rows.astype(np.float32)
    return EngineHistory(engine, cycles, numbers[:, 2:5], numbers[:, 5:26], rul)


# -- UCI-HAR --------------------------------------------------------------------------------


def read_uci_har(path: Path | str, split: Split = "test") -> HarWindows:
    """Read the inertial signals of UCI-HAR.

    Args:
        path: `uci_har_test.npz` or its folder; or the original text layout
            (`UCI HAR Dataset/test/Inertial Signals/...`) as a folder, zip or tar.
        split: "train" or "test".

    Raises:
        RecordingError: The path or a file does not exist, or has another format.
    """
    path = Path(path)
    array_file = path / f"uci_har_{split}.npz" if path.is_dir() else path
    if array_file.suffix == ".npz" and array_file.is_file():
        windows = _read_har_arrays(array_file, split)
    else:
        windows = _read_har_texts(path, split)
    n = len(windows.X)
    shapes = windows.X.shape == (n, _HAR_LENGTH, len(HAR_CHANNELS))
    if not shapes or windows.y.shape != (n,) or windows.subject.shape != (n,) or n == 0:
        msg = (
            f"{path}: expected X [n, 128, 9], y [n], subject [n]; found "
            f"{windows.X.shape}, {windows.y.shape}, {windows.subject.shape}"
        )
        raise RecordingError(msg)
    if windows.y.min() < 0 or windows.y.max() >= len(HAR_LABELS):
        msg = f"{path}: labels are not 1 to 6"
        raise RecordingError(msg)
    return windows


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


def _read_har_arrays(path: Path, split: Split) -> HarWindows:
    if split not in path.name:
        msg = f"{path} is not the {split} split: use uci_har_{split}.npz or its folder"
        raise RecordingError(msg)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            channels = tuple(str(name) for name in arrays["channels"])
            X, y, subject = arrays["X"], arrays["y"], arrays["subject"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        msg = f"{path} is not an npz with X, y, subject, channels: {exc}"
        raise RecordingError(msg) from exc
    if channels != HAR_CHANNELS:
        msg = f"{path}: channels are {', '.join(channels)}, expected {', '.join(HAR_CHANNELS)}"
        raise RecordingError(msg)
    return HarWindows(X.astype(np.float32), y.astype(np.int64) - 1, subject.astype(np.int64))


def _read_har_texts(path: Path, split: Split) -> HarWindows:
    signals = [f"{channel}_{split}.txt" for channel in HAR_CHANNELS]
    names = [*signals, f"y_{split}.txt", f"subject_{split}.txt"]
    what = f"UCI-HAR (uci_har_{split}.npz, or 'UCI HAR Dataset' with its Inertial Signals)"
    files = _read_files(path, names, what)
    tables = [_table(files[name], name, columns=_HAR_LENGTH).astype(np.float32) for name in signals]
    if len({len(table) for table in tables}) != 1:
        msg = f"{path}: the nine signal files have different numbers of windows"
        raise RecordingError(msg)
    y, subject = (_table(files[name], name, columns=1)[:, 0] for name in names[-2:])
    return HarWindows(np.stack(tables, axis=2), y.astype(np.int64) - 1, subject.astype(np.int64))


# -- files ----------------------------------------------------------------------------------


def _table(text: bytes, name: str, columns: int) -> NDArray[np.float64]:
    try:
        table = np.loadtxt(io.BytesIO(text), dtype=np.float64, ndmin=2)
    except ValueError as exc:
        msg = f"{name} is not a table of numbers: {exc}"
        raise RecordingError(msg) from exc
    if table.shape[1] != columns or not np.isfinite(table).all():
        msg = f"{name} has {table.shape[1]} columns (or NaN or infinity), expected {columns}"
        raise RecordingError(msg)
    return table


def _read_files(path: Path, names: list[str], what: str) -> dict[str, bytes]:
    """Return the content of files by base name, from any depth below `path`."""
    if not path.exists():
        msg = f"{path} does not exist: use the path of {what}"
        raise RecordingError(msg)
    found: dict[str, bytes] = {}
    try:
        for name, content in _members(path, frozenset(names)):
            found.setdefault(name, content)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as exc:
        msg = f"cannot read {path}: {exc}"
        raise RecordingError(msg) from exc
    missing = [name for name in names if name not in found]
    if missing:
        msg = f"{path} contains no {', '.join(missing)}: use the path of {what}"
        raise RecordingError(msg)
    return found


def _members(path: Path, names: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.txt")):
            if file.name in names:
                yield file.name, file.read_bytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from _zip_members(archive, names, depth=0)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if name in names and member.isfile() else None
                if content is not None:
                    yield name, content.read()


def _zip_members(
    archive: zipfile.ZipFile, names: frozenset[str], depth: int
) -> Iterator[tuple[str, bytes]]:
    for member in archive.namelist():
        place = PurePosixPath(member)
        if "__MACOSX" in place.parts:
            continue
        if place.name in names:
            yield place.name, archive.read(member)
        elif place.suffix == ".zip" and depth < 2:  # NASA and UCI pack their zips into a zip
            with zipfile.ZipFile(io.BytesIO(archive.read(member))) as inner:
                yield from _zip_members(inner, names, depth + 1)

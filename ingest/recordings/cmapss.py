"""C-MAPSS: turbofan engines that run until they fail (Saxena et al., PHM 2008)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RecordingError
from ingest.recordings.files import read_named_files
from ingest.recordings.recording import Recording
from ingest.recordings.tables import decode, parse_table, whole_numbers

__all__ = [
    "CMAPSS_SENSORS",
    "CMAPSS_SETTINGS",
    "ENGINE_CHANNELS",
    "EngineHistory",
    "engine_recordings",
    "read_cmapss",
]

CMAPSS_SENSORS = tuple(
    "T2 T24 T30 T50 P2 P15 P30 Nf Nc epr Ps30 phi NRf NRc BPR farB htBleed Nf_dmd PCNfR_dmd "
    "W31 W32".split()
)
"""The 21 sensors in the order of the files, columns 6 to 26 (Saxena et al., PHM 2008, table 2)."""
CMAPSS_SETTINGS = ("setting_1", "setting_2", "setting_3")
"""The operating settings: altitude, Mach number, throttle resolver angle."""
ENGINE_CHANNELS = tuple("T24 T30 T50 P30 Nf Nc Ps30 phi NRf NRc BPR htBleed W31 W32".split())
"""The 14 sensors that vary in FD001: the channels of the stream `engine`."""

_LONGEST_LIFE = 100_000  # cycles


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


def read_cmapss(
    path: Path | str, subset: str = "FD001", split: Literal["train", "test"] = "test"
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
    names = [f"{split}_{subset}.txt", f"RUL_{subset}.txt"][: 1 + (split == "test")]
    files = read_named_files(
        Path(path), names, "C-MAPSS (cmapss.zip, CMAPSSData.zip or their folder)"
    )
    table = _table(files[names[0]], names[0], columns=26)
    engines, starts = np.unique(table[:, 0], return_index=True)
    if (
        not np.array_equal(engines, np.arange(1, len(engines) + 1))
        or (np.diff(table[:, 0]) < 0).any()
    ):
        msg = f"{names[0]} in {path}: engines are not numbered 1, 2, 3 ... in order"
        raise RecordingError(msg)
    rul = np.zeros(len(engines), dtype=np.int64)
    if split == "test":
        left = _table(files[names[1]], names[1], columns=1)[:, 0]
        rul = whole_numbers(left, f"{names[1]}, remaining cycles", 0, _LONGEST_LIFE)
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
    cycles = np.arange(1, len(rows) + 1, dtype=np.int64)
    if not np.array_equal(rows[:, 1], cycles):
        msg = f"{name}: the cycles of engine {engine} are not 1, 2, 3 ..."
        raise RecordingError(msg)
    numbers = rows.astype(np.float32)
    return EngineHistory(engine, cycles, numbers[:, 2:5], numbers[:, 5:26], rul)


def _table(content: bytes, name: str, columns: int) -> NDArray[np.float64]:
    return parse_table(decode(content, name, "ascii"), name, columns)

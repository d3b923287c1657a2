"""RFID-HAR: older people with a batteryless sensor, in bed, on a chair or moving; irregular.

87 trials in two rooms (Shinmoto Torres et al., IEEE RFID 2013). The passive tag is read only while
an antenna reaches it, so the rate varies and readings pause. Windows count readings, and a pause
above 60 s breaks them. Channels are the accelerations and the signal strength, which mean the same
in both rooms; antenna, phase and frequency are specific to one room. A window has its most frequent
label. The files do not show who took part twice, so a group is a trial. There is no official split:
every fourth trial is a test trial.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_matching_files
from ingest.recordings.tables import decode, parse_table, whole_numbers
from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows, join_windows, slice_labelled

__all__ = ["read_rfid_har"]

LABELS = ("SIT_ON_BED", "SIT_ON_CHAIR", "LYING", "AMBULATING")
LENGTH, HOP = 16, 4
_GAP_MS = 60_000
_COLUMNS = (1, 2, 3, 5)  # frontal, vertical, lateral acceleration, signal strength
_EVERY = 4


@reading_data()
def read_rfid_har(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the trials of both rooms.

    Args:
        path: `rfid_har.zip` (or another zip of `S1_Dataset/d1pNNM` and so on).
        with_test: Read the test trials too.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    train: list[WindowSet] = []
    test: list[WindowSet] = []
    for order, (name, table, answers) in enumerate(_trials(path)):
        group = 1000 * int(name[1]) + int(name[3:5])
        breaks = np.flatnonzero(1000 * np.diff(table[:, 0]) > _GAP_MS) + 1
        runs = zip(np.split(table, breaks), np.split(answers, breaks), strict=True)
        for run, labels in runs:
            series = run[:, _COLUMNS].astype(np.float32)
            part = slice_labelled(series, labels, group, LENGTH, HOP)
            (test if order % _EVERY == _EVERY - 1 else train).append(part)
    known = join_windows(train)
    names = ("acc_frontal", "acc_vertical", "acc_lateral", "rssi")
    return DataSet(
        name="RFID-HAR",
        title="RFID-HAR",
        task="activity",
        stream="rfid",
        group_word="trial",
        channels=tuple(
            Channel(name=name, unit=unit)
            for name, unit in zip(names, ("g", "g", "g", "dBm"), strict=True)
        ),
        rate_hz=None,
        length=LENGTH,
        hop=HOP,
        gap_ms=_GAP_MS,
        labels=LABELS,
        scaling="zscore",
        train=known,
        test=join_windows(test) if with_test else None,
        digest=digest_windows(known),
        terms="trained on UCI data set 427 (Shinmoto Torres et al., IEEE RFID 2013)",
    )


def _trials(path: Path) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.int64]]]:
    """Yield names, tables `[readings, 9]` and labels `[readings]`, ordered by name."""
    files = read_matching_files(
        path, r"(d[12]p\d\d[MF])", "d1p01M", "RFID-HAR (rfid_har.zip or its folder)"
    )
    for key, content in files.items():
        name = f"{key} in {path}"
        table = parse_table(decode(content, name, "ascii"), name, 9, delimiter=",")
        if (np.diff(table[:, 0]) < 0).any():
            line = int(np.argmax(np.diff(table[:, 0]) < 0)) + 2
            msg = f"{name}, line {line}: its time is before that of the line above: copy it again"
            raise DataSetError(msg)
        answers = whole_numbers(table[:, 8], f"{name}, labels", 1, len(LABELS)) - 1
        yield key, table, answers

"""SPSW: 23 people walk, turn, sit down and stand up with a phone and a smartwatch, about 103 Hz.

Raw recordings (Matey-Sanz et al., Data in Brief 2023, CC BY 4.0), one file per execution and
device. Windows are cut from the readings without resampling: 256 readings are about 2.5 s. A window
has its most frequent label. The set has no official split: people 19 to 23 are the test people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ingest.recordings.files import read_matching_files
from ingest.recordings.tables import decode, parse_table
from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows, join_windows, slice_labelled

__all__ = ["read_spsw"]

LABELS = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
LENGTH, HOP = 256, 128
_GAP_MS = 200
_LAST_TRAIN_SUBJECT = 18
_HEADER = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"


@reading_data()
def read_spsw(
    path: Path, device: Literal["phone", "watch"] = "watch", *, with_test: bool = True
) -> DataSet:
    """Read the recordings of one device.

    Args:
        path: `spsw_har.tar.xz` (or another tar of `DATA/sXX/sXX_YY_{sp|sw}.csv`).
        device: `phone` (in the trouser pocket) or `watch` (on the wrist).
        with_test: Read the test people too.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    suffix = {"phone": "sp", "watch": "sw"}[device]
    files = read_matching_files(
        path,
        rf"(s\d\d_\d\d_{suffix})\.csv",
        f"s01_01_{suffix}.csv",
        "SPSW (spsw_har.tar.xz or its folder)",
    )
    parts = [
        part
        for key, content in files.items()
        for part in _windows(f"{key}.csv", decode(content, f"{key}.csv"))
    ]
    whole = join_windows(parts)
    is_test = whole.groups > _LAST_TRAIN_SUBJECT
    train = whole.where(~is_test)
    units = {"acc": "m/s2", "gyro": "rad/s"}
    return DataSet(
        name=f"SPSW-{device}",
        title=f"SPSW ({device})",
        task="activity",
        stream="wrist" if device == "watch" else "pocket",
        group_word="subject",
        channels=tuple(
            Channel(name=f"{kind}_{axis}", unit=unit)
            for kind, unit in units.items()
            for axis in "xyz"
        ),
        rate_hz=103.0,
        length=LENGTH,
        hop=HOP,
        gap_ms=_GAP_MS,
        labels=LABELS,
        scaling="zscore",
        train=train,
        test=whole.where(is_test) if with_test else None,
        digest=digest_windows(train),
        terms="trained on SPSW (Matey-Sanz et al., Data in Brief 2023, CC BY 4.0)",
    )


def _windows(name: str, text: str) -> Iterator[WindowSet]:
    """Yield the windows of one recording, one window set per run without a gap."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != _HEADER:
        msg = f"{name}, line 1: expected {_HEADER}: copy or download it again"
        raise DataSetError(msg)
    rows = [line.rpartition(",") for line in lines[1:] if line.strip()]
    labels = []
    for number, (_, _, label) in enumerate(rows, start=2):
        if label.strip() not in LABELS:
            msg = (
                f"{name}, line {number}: label {label[:40]!r} is not one of {', '.join(LABELS)}: "
                "copy or download it again"
            )
            raise DataSetError(msg)
        labels.append(LABELS.index(label.strip()))
    numbers = "\n".join(values for values, _, _ in rows)
    table = parse_table(numbers, name, 7, delimiter=",", first_line=2)
    breaks = np.flatnonzero(np.diff(table[:, 6]) > _GAP_MS) + 1
    answers = np.split(np.array(labels, dtype=np.int64), breaks)
    for run, known in zip(np.split(table, breaks), answers, strict=True):
        yield slice_labelled(run[:, :6].astype(np.float32), known, int(name[1:3]), LENGTH, HOP)

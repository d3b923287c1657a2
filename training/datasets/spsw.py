"""SPSW: 23 people walk, turn, sit down and stand up with a phone and a smartwatch, about 103 Hz.

Raw recordings (Matey-Sanz et al., Data in Brief 2023, CC BY 4.0), one file per execution and
device. Windows are cut from the readings without resampling: 256 readings are about 2.5 s. A window
has its most frequent label. The set has no official split: people 19 to 23 are the test people.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError
from training.windows import WindowSet, digest_windows, join_windows, slice_labelled

__all__ = ["read_spsw"]

LABELS = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
LENGTH, HOP = 256, 128
_GAP_MS = 200
_LAST_TRAIN_SUBJECT = 18
_HEADER = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"


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
    parts = [part for name, text in _recordings(path, suffix) for part in _windows(name, text)]
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


def _recordings(path: Path, suffix: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts ordered by name, whatever the order in the archive."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and re.fullmatch(rf"s\d\d_\d\d_{suffix}\.csv", name):
                    found[name] = content.read().decode("utf-8")
    except (OSError, tarfile.TarError, UnicodeDecodeError) as exc:
        msg = f"{path} is not the archive of SPSW ({exc}): pass the path of spsw_har.tar.xz"
        raise DataSetError(msg) from exc
    if not found:
        msg = f"{path} contains no sXX_YY_{suffix}.csv: pass the path of spsw_har.tar.xz"
        raise DataSetError(msg)
    yield from sorted(found.items())


def _windows(name: str, text: str) -> Iterator[WindowSet]:
    """Yield the windows of one recording, one window set per run without a gap."""
    header, _, body = text.partition("\n")
    numbers = {label: str(index) for index, label in enumerate(LABELS)}
    rows = [line.rsplit(",", 1) for line in body.split()]
    try:
        table = np.loadtxt(
            io.StringIO("\n".join(f"{values},{numbers[label]}" for values, label in rows)),
            delimiter=",",
            ndmin=2,
        )
        if header.strip() != _HEADER or table.shape[1] != 8 or not np.isfinite(table).all():
            raise ValueError(header)
    except (KeyError, ValueError) as exc:
        msg = f"{name} is not a recording of SPSW: {exc}"
        raise DataSetError(msg) from exc
    breaks = np.flatnonzero(np.diff(table[:, 6]) > _GAP_MS) + 1
    for run in np.split(table, breaks):
        labels = run[:, 7].astype(np.int64)
        yield slice_labelled(run[:, :6].astype(np.float32), labels, int(name[1:3]), LENGTH, HOP)

"""AReM: seven activities from the radio signal strength between three nodes on the body, 4 Hz.

88 sequences of 480 readings (Palumbo et al., 2016). The set does not identify the people, so a
group is a sequence: one person may be on both sides of a split, as in all published results on this
set. Test sequences are 1 and 2 of both bendings and 1 to 3 of the others, which is the common
split.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import DataSetError
from training.windows import WindowSet, digest_windows, join_windows, slice_labelled

__all__ = ["read_arem"]

LABELS = ("bending1", "bending2", "cycling", "lying", "sitting", "standing", "walking")
LENGTH, HOP = 32, 16
_CHANNELS = ("avg_rss12", "var_rss12", "avg_rss13", "var_rss13", "avg_rss23", "var_rss23")


def read_arem(path: Path, *, with_test: bool = True) -> DataSet:
    """Read the sequences.

    Args:
        path: `arem.zip` (or another zip of `AReM/<activity>/dataset<N>.csv`).
        with_test: Read the test sequences too.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    train: list[WindowSet] = []
    test: list[WindowSet] = []
    for label, number, series in _sequences(path):
        answers = np.full(len(series), label)
        part = slice_labelled(series, answers, 100 * label + number, LENGTH, HOP)
        is_test = number <= (2 if LABELS[label].startswith("bending") else 3)
        (test if is_test else train).append(part)
    known = join_windows(train)
    return DataSet(
        name="AReM",
        title="AReM",
        task="activity",
        stream="rss",
        group_word="sequence",
        channels=tuple(Channel(name=name, unit="1") for name in _CHANNELS),
        rate_hz=4.0,
        length=LENGTH,
        hop=HOP,
        gap_ms=1000,
        labels=LABELS,
        scaling="zscore",
        train=known,
        test=join_windows(test) if with_test else None,
        digest=digest_windows(known),
        terms="trained on AReM (Palumbo et al., 2016)",
    )


def _sequences(path: Path) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (label, number, readings `[n, 6]` float32), ordered by label and number."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as exc:
        msg = f"{path} is not the zip of AReM ({exc}): pass the path of arem.zip"
        raise DataSetError(msg) from exc
    found = []
    for name, text in texts.items():
        match = re.search(r"(\w+)/dataset(\d+)\.csv$", name)
        if match is None or match[1] not in LABELS:
            continue
        try:
            # One file of the original archive separates its values by blanks.
            plain = text.decode("ascii").replace(",", " ")
            table = np.loadtxt(io.StringIO(plain), comments="#", ndmin=2)
            if table.shape[1] != 7 or not np.isfinite(table).all():
                raise ValueError(table.shape)
        except ValueError as exc:
            msg = f"{name} in {path} is not a sequence of AReM: {exc}"
            raise DataSetError(msg) from exc
        series = table[:, 1:].astype(np.float32)
        found.append((LABELS.index(match[1]), int(match[2]), series))
    if not found:
        msg = f"{path} contains no AReM/<activity>/dataset<N>.csv: pass the path of arem.zip"
        raise DataSetError(msg)
    yield from sorted(found, key=lambda one: one[:2])

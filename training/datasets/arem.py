"""AReM: seven activities from the radio signal strength between three nodes on the body, 4 Hz.

88 sequences of 480 readings (Palumbo et al., 2016). The set does not identify the people, so a
group is a sequence: one person may be on both sides of a split, as in all published results on this
set. Test sequences are 1 and 2 of both bendings and 1 to 3 of the others, which is the common
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_matching_files
from ingest.recordings.tables import decode, parse_table
from models.manifest import Channel
from training.datasets.contract import DataSet
from training.errors import reading_data
from training.windows import WindowSet, digest_windows, join_windows, slice_labelled

__all__ = ["read_arem"]

LABELS = ("bending1", "bending2", "cycling", "lying", "sitting", "standing", "walking")
LENGTH, HOP = 32, 16
_CHANNELS = ("avg_rss12", "var_rss12", "avg_rss13", "var_rss13", "avg_rss23", "var_rss23")


@reading_data()
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
    activities = "|".join(LABELS)
    files = read_matching_files(
        path,
        rf"((?:{activities})/dataset[1-9]\d*)\.csv",
        "bending1/dataset1.csv",
        "AReM (arem.zip or its folder)",
    )
    found = []
    for key, content in files.items():
        label, _, number = key.lower().partition("/dataset")
        # One file of the original archive separates its values by blanks.
        text = decode(content, key, "ascii").replace(",", " ")
        table = parse_table(text, f"{key}.csv in {path}", 7, comments="#")
        found.append((LABELS.index(label), int(number), table[:, 1:].astype(np.float32)))
    yield from sorted(found, key=lambda one: one[:2])

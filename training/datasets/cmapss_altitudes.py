"""FD002 with operating conditions that are absent from training.

Every cycle of an FD002 engine is flown at one of six altitudes. Training keeps only the readings at
0, 10 and 20 thousand feet, the test set only those at 25, 35 and 42. Labels are still the remaining
cycles of the whole flight history. The graph scales an unknown condition like the nearest known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ingest import recordings
from ingest.recordings import EngineHistory
from models.tasks.rul import MAX_RUL
from training.datasets.cmapss import LENGTH, describe_cmapss, label_engines
from training.datasets.contract import DataSet
from training.errors import reading_data
from training.windows import WindowSet, join_windows

__all__ = ["LEARNED", "TESTED", "label_at_altitudes", "read_altitudes"]

LEARNED = (0, 10, 20)
TESTED = (25, 35, 42)
"""Altitudes in thousands of feet: learned from, and tested on."""


@reading_data()
def read_altitudes(path: Path, length: int = LENGTH, *, with_test: bool = True) -> DataSet:
    """Read FD002: training engines at low altitudes, test engines at high altitudes.

    Raises:
        DataSetError: A file is missing, or its content does not match its name.
    """
    train = recordings.read_cmapss(path, "FD002", "train")
    test = recordings.read_cmapss(path, "FD002", "test") if with_test else []
    known = label_at_altitudes(train, LEARNED, length)
    if not with_test:
        return describe_cmapss("FD002-altitudes", known, None)
    scored = label_at_altitudes(test, TESTED, length)
    last = np.diff(scored.groups, append=-1) != 0
    return describe_cmapss("FD002-altitudes", known, scored.where(last))


def label_at_altitudes(
    histories: list[EngineHistory], altitudes: tuple[int, ...], length: int
) -> WindowSet:
    """Cut all windows of the readings at some altitudes; labels count all cycles that are left."""
    parts = []
    for history in histories:
        there = np.isin(np.round(history.settings[:, 0]), altitudes)
        if not there.any():
            continue
        seen = replace(history, sensors=history.sensors[there], settings=history.settings[there])
        part = label_engines([seen], length, conditions=True)
        left = np.flatnonzero(there)[-len(part) :]
        left = len(there) - 1 - left + history.rul_cycles
        parts.append(replace(part, labels=np.minimum(left, MAX_RUL).astype(np.int64)))
    return join_windows(parts)

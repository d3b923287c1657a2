"""Tiny synthetic sets of the real shapes: wearing engines, and people who move in sines.

They are learnable in seconds and good for nothing but tests and a first try of the commands.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from training.datasets.cmapss import describe_cmapss
from training.datasets.contract import DataSet
from training.datasets.uci_har import describe_uci_har
from training.windows import WindowSet, slice_series

__all__ = ["FACTS", "make_dummy", "make_facts"]

FACTS = np.concatenate([np.repeat(np.eye(3), 3, axis=0), np.tile(np.eye(3), (3, 1))], axis=1)
"""Of `make_facts`: rhythm and posture of its nine activities, `[9, 6]`."""


def make_dummy(task: Literal["rul", "activity"], seed: int = 0, groups: int = 12) -> DataSet:
    """Make a data set in memory; the same seed gives the same numbers.

    Args:
        task: `rul` (10 engines of 60 to 110 cycles, or as many as `groups`) or `activity`.
        seed: seed of all of it.
        groups: engines or persons to learn from; the test set has a third of it.
    """
    random = np.random.default_rng(seed)
    make = _wear if task == "rul" else _moves
    train, test = make(random, groups), make(random, max(groups // 3, 2))
    if task == "rul":
        last = np.flatnonzero(np.diff(test.groups, append=-1))
        middle = np.isin(np.arange(len(test)), last - 25)
        return describe_cmapss("dummy", train, test.where(middle))
    return describe_uci_har("dummy", train, test)


def make_facts(seed: int = 0, groups: int = 6) -> WindowSet:
    """Nine activities: three rhythms, each in three postures, told by `FACTS`.

    Who knows rhythm and posture of an activity can name it without an example: what an evaluation
    of open vocabulary must find, and must not find with other anchors.
    """
    random = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.arange(9), 8), groups).astype(np.int64)
    time_s = np.arange(64) / 50
    rhythm_hz = np.array([0.0, 2.0, 6.0])[labels // 3]
    phase = random.uniform(0, 2 * np.pi, len(labels))
    moved = np.sin(2 * np.pi * rhythm_hz[:, None] * time_s + phase[:, None])
    moved *= (labels >= 3)[:, None]
    posture = np.eye(3)[labels % 3]
    windows = np.repeat(posture[:, None], 64, axis=1)
    windows = np.concatenate([windows, np.repeat(moved[:, :, None], 3, axis=2)], axis=2)
    windows += 0.1 * random.standard_normal(windows.shape)
    return WindowSet(windows.astype(np.float32), labels, np.repeat(np.arange(groups), 72))


def _wear(random: np.random.Generator, engines: int) -> WindowSet:
    start = random.uniform(100, 1000, 14)
    slope = random.choice([-1.0, 1.0], 14) * random.uniform(0.5, 1.5, 14)
    parts = []
    for engine in range(1, engines + 1):
        life = int(random.integers(60, 111))
        rul = np.arange(life - 1, -1, -1)
        worn = np.exp(-rul / 40)[:, None] * slope
        series = (start + 10 * (worn + 0.05 * random.standard_normal((life, 14)))).astype("f4")
        windows = slice_series(series, 30, 1)
        labels = np.minimum(rul[29:], 125).astype(np.int64)
        parts.append(WindowSet(windows, labels, np.full(len(labels), engine)))
    return _join(parts)


def _moves(random: np.random.Generator, people: int) -> WindowSet:
    time_s = np.arange(128) / 50
    parts = []
    for person in range(1, people + 1):
        labels = np.repeat(np.arange(6), 8)
        pace = 1 + 0.1 * random.standard_normal()
        phase = random.uniform(0, 2 * np.pi, (len(labels), 1, 9))
        moving = np.where(labels < 3, 0.6, 0.0)[:, None, None]
        angle = 2 * np.pi * pace * (1 + labels[:, None, None]) * time_s[None, :, None] + phase
        level = (np.arange(9) % 6 == labels[:, None]).astype(float)[:, None, :]
        noise = 0.1 * random.standard_normal((len(labels), 128, 9))
        windows = (moving * np.sin(angle) + level + noise).astype(np.float32)
        parts.append(WindowSet(windows, labels.astype(np.int64), np.full(len(labels), person)))
    return _join(parts)


def _join(parts: list[WindowSet]) -> WindowSet:
    return WindowSet(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )

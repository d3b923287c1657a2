"""Tiny synthetic sets of real shapes: wearing machines, and people who move in sines.

A student learns them in seconds. They serve only tests and a first try of the commands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task
from training.datasets.cmapss import describe_cmapss
from training.datasets.contract import DataSet, largest_number
from training.datasets.uci_har import describe_uci_har
from training.errors import DataSetError
from training.recipes import labelled_tasks
from training.windows import WindowSet, join_windows, slice_series

__all__ = ["FACTS", "make_dummy", "make_facts"]

FACTS = np.concatenate([np.repeat(np.eye(3), 3, axis=0), np.tile(np.eye(3), (3, 1))], axis=1)
"""Rhythm and posture of the nine activities of `make_facts`, `[9, 6]`."""
_LENGTH = 30


def make_dummy(task: str, seed: int = 0, groups: int = 12) -> DataSet:
    """Make a data set in memory; the same seed gives the same numbers.

    A task that answers with a number gets wearing engines of 60 to 110 cycles; the number is the
    cycles left, capped at the largest number of the task. Other tasks get six activities.

    Args:
        task: Name of a task.
        seed: Seed of all random numbers.
        groups: Engines or persons to learn from; the test set has a third as many.

    Raises:
        UnknownTask: There is no such task.
        DataSetError: The task does not learn from labelled windows.
    """
    if find_task(task) not in labelled_tasks():
        msg = (
            f"task {task} does not learn from labelled windows: use "
            "training.datasets.dummy_series.make_dummy_series"
        )
        raise DataSetError(msg)
    random = np.random.default_rng(seed)
    test_groups = max(groups // 3, 2)
    if not isinstance(find_task(task).answer, NumberAnswer):
        train, test = _make_people(random, groups), _make_people(random, test_groups)
        return replace(describe_uci_har("dummy", train, test), task=task)
    largest = largest_number(task)
    train = _make_engines(random, groups, largest)
    test = _make_engines(random, test_groups, largest)
    last = np.flatnonzero(np.diff(test.groups, append=-1))
    middle = np.isin(np.arange(len(test)), last - 25)
    return replace(describe_cmapss("dummy", train, test.where(middle)), task=task)


def make_facts(seed: int = 0, groups: int = 6) -> WindowSet:
    """Make nine activities: three rhythms, each in three postures, described by `FACTS`.

    Anchors that encode rhythm and posture name an activity without a training example. An
    evaluation of open vocabulary must find this, and must not find it with other anchors.
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


def _make_engines(random: np.random.Generator, engines: int, largest: int) -> WindowSet:
    start = random.uniform(100, 1000, 14)
    slope = random.choice([-1.0, 1.0], 14) * random.uniform(0.5, 1.5, 14)
    parts = []
    for engine in range(1, engines + 1):
        life = int(random.integers(60, 111))
        rul = np.arange(life - 1, -1, -1)
        worn = np.exp(-rul / 40)[:, None] * slope
        series = (start + 10 * (worn + 0.05 * random.standard_normal((life, 14)))).astype("f4")
        windows = slice_series(series, _LENGTH, 1)
        labels = np.minimum(rul[_LENGTH - 1 :], largest).astype(np.int64)
        parts.append(WindowSet(windows, labels, np.full(len(labels), engine)))
    return join_windows(parts)


def _make_people(random: np.random.Generator, people: int) -> WindowSet:
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
    return join_windows(parts)

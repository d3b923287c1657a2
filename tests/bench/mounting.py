"""Macro-F1 of har-waist before and after `kpstream mount`, for people who wear the phone otherwise.

    python -m tests.bench.mounting --data DATA_FOLDER

Each official test person of UCI HAR wears it in one way of his own. His first four windows of
standing and eight of walking (some 5 and 12 seconds) are measured, and the others are scored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact import read_artifact
from models.seen import find_vectors
from models.session import Student
from models.tasks.activity import macro_f1
from models.zoo import zoo_path
from pipeline.scoring.mounting import find_mounting
from training.starters.build import read_data
from training.stress.stresses import vertical_of

__all__ = ["WAYS", "measure"]

_Matrix = NDArray[np.float64]
_Way = Callable[[np.random.Generator, _Matrix], _Matrix]
_STANDING, _WALKING, _STILL = 4, 8, 100


def _about(axis: _Matrix, degrees: float) -> _Matrix:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turn: _Matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return turn


def _turn(degrees: float) -> _Way:
    return lambda _, vertical: _about(vertical, degrees)


def _tilt(degrees: float) -> _Way:
    def way(rng: np.random.Generator, vertical: _Matrix) -> _Matrix:
        axis = rng.normal(size=3)
        return _about(axis - (axis @ vertical) * vertical, degrees)

    return way


WAYS: dict[str, _Way] = {
    "as in training": _turn(0),
    "turned by 15 degrees": _turn(15),
    "turned by 30 degrees": _turn(30),
    "turned by 90 degrees": _turn(90),
    "turned by 180 degrees": _turn(180),
    "tilted by 15 degrees": _tilt(15),
    "tilted by 30 degrees": _tilt(30),
    "tilted by 90 degrees": _tilt(90),
    "x and y exchanged": lambda *_: np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]),
    "any way": lambda rng, _: _about(rng.normal(size=3), float(rng.uniform(0, 180))),
}
"""Rotation of a sensor from a random generator and the vertical."""


def measure(data: Path, way: str) -> tuple[float, float]:
    """Macro-F1 as it comes, and after mounting, over the windows that were not measured."""
    found = read_data("har-waist", data, with_test=True)
    assert found.test is not None
    assert found.labels is not None
    test, labels = found.test, [label.lower() for label in found.labels]
    student = Student(read_artifact(zoo_path("har-waist")))
    triples = find_vectors(student.manifest.channel_names)
    vertical, rng = vertical_of(test.windows, triples), np.random.default_rng(0)
    truth, before, after = [], [], []
    for person in np.unique(test.groups):
        mine = test.groups == person
        windows, answers = test.windows[mine], test.labels[mine]
        axes = windows.reshape(*windows.shape[:2], -1, 3) @ WAYS[way](rng, vertical).T
        worn = axes.reshape(windows.shape).astype(np.float32)
        standing = np.flatnonzero(answers == labels.index("standing"))[:_STANDING]
        walking = np.flatnonzero(answers == labels.index("walking"))[:_WALKING]
        used = np.concatenate([standing, walking])
        rest = np.delete(np.arange(len(worn)), used)
        mounting = find_mounting(
            np.concatenate([_joined(worn[standing]), _joined(worn[walking])]),
            worn[used],
            student.manifest,
            lambda raw: student.score(raw).values,
            0,
            still=_STILL,
        )
        turned = mounting.turn(worn[rest], student.manifest.channel_names)
        assert turned is not None
        truth.append(answers[rest])
        before.append(student.score(worn[rest]).values.argmax(axis=1))
        after.append(student.score(np.ascontiguousarray(turned)).values.argmax(axis=1))
    right = np.concatenate(truth)
    f1 = [macro_f1(right, np.concatenate(each), len(labels)) for each in (before, after)]
    return f1[0], f1[1]


def _joined(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Readings of windows that overlap by half."""
    half = windows.shape[1] // 2
    return np.concatenate([*(window[:half] for window in windows), windows[-1][half:]])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Data folder.")
    data = parser.parse_args().data
    for way in WAYS:
        before, after = measure(data, way)
        print(f"| {way} | {before:.3f} | {after:.3f} |", flush=True)


if __name__ == "__main__":
    main()

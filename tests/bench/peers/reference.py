"""Scores of a candidate against ONNX Runtime run offline on the same readings, device by device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.bench.peers.programs.student import Student
from tests.bench.peers.workloads import ROOT, Workload, device_name

__all__ = ["Check", "check_scores", "offline_scores"]

TOLERANCE = 1e-3
"""Of a score, as a share of it or absolute: what the order of float32 sums may change."""

Found = Mapping[str, Sequence[Sequence[float]]]
"""Device -> its scores in order, each as the outputs of the network."""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a comparison.

    Attributes:
        expected: Windows that should have a score.
        found: Scores of the candidate.
        missing: Scores that are not there.
        unknown: Scores of no expected window.
        largest_difference: Between two scores of the same window.
    """

    expected: int
    found: int
    missing: int
    unknown: int
    largest_difference: float

    @property
    def holds(self) -> bool:
        """Whether every score is there, no other, and all are right."""
        return self.missing == 0 and self.unknown == 0 and self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.found:,} of {self.expected:,} scores, {self.missing:,} missing, "
            f"{self.unknown:,} unknown, largest difference {self.largest_difference:.2g}"
        )


def offline_scores(
    workload: Workload, device: int, readings: int, *, full_only: bool = False
) -> NDArray[np.float32]:
    """Scores of the first `readings` readings of a device, `[windows, outputs]`."""
    student = _student(workload.student)
    rows = workload.sequence(device, readings).astype(np.float32)
    first = student.length if full_only else student.first
    ends = range(first, readings + 1, student.hop)
    windows = [student.window(rows[max(0, end - student.length) : end]) for end in ends]
    if not windows:
        return np.zeros((0, 1), np.float32)
    parts = [student.run(np.stack(windows[at : at + 256])) for at in range(0, len(windows), 256)]
    return np.concatenate(parts)


def check_scores(
    found: Found, workload: Workload, devices: int, readings: int, *, full_only: bool = False
) -> Check:
    """Compare what a candidate found with the offline scores of `devices` devices.

    Devices with the same readings share a reference.
    """
    expected = missing = unknown = 0
    largest = 0.0
    references: dict[bytes, NDArray[np.float32]] = {}
    for device in range(devices):
        key = workload.readings(device).tobytes()
        if key not in references:
            references[key] = offline_scores(workload, device, readings, full_only=full_only)
        reference = references[key]
        scores = np.array(found.get(device_name(device), ()), dtype=np.float64)
        scores = scores.reshape(-1, reference.shape[1])
        expected += len(reference)
        missing += max(0, len(reference) - len(scores))
        unknown += max(0, len(scores) - len(reference))
        both = min(len(reference), len(scores))
        if both:
            difference = np.abs(scores[:both] - reference[:both])
            scale = np.maximum(1.0, np.abs(reference[:both]))
            largest = max(largest, float((difference / scale).max()))
    known = {device_name(device) for device in range(devices)}
    unknown += sum(len(scores) for device, scores in found.items() if device not in known)
    return Check(expected, sum(map(len, found.values())), missing, unknown, largest)


@cache
def _student(name: str) -> Student:
    return Student(ROOT / "models/zoo" / name)

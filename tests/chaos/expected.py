"""The expected content of InfluxDB: every window of every device, scored offline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.artifact import read_artifact
from models.session import Student
from models.tasks.activity import ActivityScores
from models.zoo import zoo_path
from tests.chaos.fleet import DT_MS, readings

__all__ = ["STUDENT", "ExpectedWindow", "expected_windows"]

STUDENT = "har-waist"


@dataclass(frozen=True, slots=True)
class ExpectedWindow:
    """One window of the offline computation; `end_ms` is its identity."""

    end_ms: int
    activity: str
    probability: float


def expected_windows(device: int, total: int, t0_ms: int) -> list[ExpectedWindow]:
    """The windows of a device that sent readings 0 .. `total - 1`, in order of their ends."""
    artifact = read_artifact(zoo_path(STUDENT))
    length, hop = artifact.manifest.window.length, artifact.manifest.window.hop
    starts = range(0, total - length + 1, hop)
    if not starts:
        return []
    values = readings(device, 0, total).astype(np.float32)
    scores = Student(artifact).score(np.stack([values[s : s + length] for s in starts]))
    assert isinstance(scores, ActivityScores)
    return [
        ExpectedWindow(
            t0_ms + (s + length - 1) * DT_MS + 1, scores.activity(i), scores.probability(i)
        )
        for i, s in enumerate(starts)
    ]

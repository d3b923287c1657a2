"""The expected content of InfluxDB: every window of every device, scored offline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.artifact import read_artifact
from models.session import Student
from models.tasks.activity import ActivityScores
from models.zoo import zoo_path
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings
from pipeline.windows.spec import slice_windows
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
    spec = stream_plan(artifact.manifest, PipelineSettings()).spec
    ts_ms = t0_ms + DT_MS * np.arange(total, dtype=np.int64)
    windows = slice_windows(ts_ms, readings(device, 0, total).astype(np.float32), spec)
    if not windows:
        return []
    scores = Student(artifact).score(np.stack([window.values for window in windows]))
    assert isinstance(scores, ActivityScores)
    return [
        ExpectedWindow(window.end_ms, scores.activity(i), scores.probability(i))
        for i, window in enumerate(windows)
    ]

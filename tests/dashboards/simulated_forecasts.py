"""Simulated transformers: their windows, scored by a dummy student through the product's functions.

They send for some seconds in each of twelve hours, and then for five minutes. The readings are a
slow wave with noise, and one transformer has a fault in the middle of the five minutes. Time is
simulated, so every run gives the same records.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.dummy import write_dummy
from models.session import Student
from pipeline.points.points import Point, explanation_point
from pipeline.points.scores import ScoreRecord
from pipeline.windows.spec import WindowSpec, slice_windows
from tests.fakes.scores import Closed, score_closed

TRANSFORMERS = ("transformer-01", "transformer-02", "transformer-03")
FAULTY = "transformer-02"
"""Transformer whose oil temperature jumps for ten readings."""
GRID = "grid"
STEP_MS = 1_000
HOUR_MS = 3_600_000
EARLIER_HOURS = 12


def forecast_records(folder: Path, start_ms: int, stop_ms: int) -> list[ScoreRecord]:
    """Score records of all transformers, in each hour in order of time.

    Args:
        folder: Folder for the student.
        start_ms: First reading of the five minutes, epoch ms; the hours before it have some too.
        stop_ms: End of the five minutes.
    """
    student = Student(write_dummy(folder / "student", "forecast", name="power", version=3))
    first_ms = start_ms // HOUR_MS * HOUR_MS
    spans = [
        (first_ms - hour * HOUR_MS, first_ms - hour * HOUR_MS + 20_000)
        for hour in range(EARLIER_HOURS, 0, -1)
    ]
    return [
        record
        for at, (start, stop) in enumerate([*spans, (start_ms, stop_ms)])
        for record in _score(student, 100 * at, start, stop)
    ]


def explanations_of(records: Sequence[ScoreRecord]) -> list[Point]:
    """Explanations of the windows with an alarm, as a gateway stores them."""
    return [
        explanation_point(
            record,
            channel=record["channel"],
            span_ms=(record["start_ms"], record["end_ms"]),
            importance=0.5,
            text=f"{record['channel']} moved the anomaly score",
            version=record["version"],
        )
        for record in records
        if record["alarm"]
    ]


def _score(student: Student, seed: int, start_ms: int, stop_ms: int) -> Sequence[ScoreRecord]:
    shape = student.manifest.window
    spec = WindowSpec(
        length=shape.length, hop=shape.hop, min_readings=shape.min_readings, gap_ms=shape.gap_ms
    )
    times_ms = np.arange(start_ms, stop_ms - 1, STEP_MS, dtype=np.int64)
    closed = [
        Closed(GRID, device, "power", window)
        for at, device in enumerate(TRANSFORMERS)
        for window in slice_windows(times_ms, _readings(device, seed + at, len(times_ms)), spec)
    ]
    scored = score_closed(closed, {"power": student}.get, stop_ms)
    assert not scored.unscored
    return scored.records


def _readings(device: str, seed: int, count: int) -> np.ndarray:
    """[count, 3] float32 readings of one transformer."""
    wave = np.sin(2 * np.pi * (np.arange(count)[:, None] / 60 + np.arange(3) / 3))
    noise = np.random.default_rng(seed).normal(0, 0.4, (count, 3))
    readings = 0.3 * wave + noise
    if device == FAULTY and count > 100:
        readings[count // 2 : count // 2 + 10, 2] += 5
    return readings.astype(np.float32)

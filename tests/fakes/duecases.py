"""Scores of remaining life with what alarms say of them: the one table for Python, Flux and page.

Python is `Task.is_alarming`, Flux the alert *Machine due* with the board's *Machines due*, and the
page the pill of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.points.points import Point
from pipeline.points.scores import ScoreRecord, points_of

__all__ = ["DUE_CASES", "DUE_COURSES", "DueCase"]


@dataclass(frozen=True, slots=True)
class DueCase:
    """One score.

    Attributes:
        device: Name of the device, which says what is special.
        rul: Remaining life, in cycles.
        ends: Ends of its interval; None without one.
        quality: Its quality; None for a score of a version without it.
        is_due: True: it raises an alarm; False: it ends one; None: neither.
    """

    device: str
    rul: float
    ends: tuple[float, float] | None
    quality: str | None
    is_due: bool | None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its point."""
        found: dict[str, Any] = {"rul": self.rul}
        if self.ends is not None:
            found |= zip(("rul_low", "rul_high"), self.ends, strict=True)
        return found if self.quality is None else found | {"quality": self.quality}

    def point(self, time_ms: int, device: str = "") -> Point:
        """Its point as a store of an earlier version made it, without `rul_due`."""
        point = points_of([self.record(time_ms, device)])[0]
        fields = tuple((name, value) for name, value in point.fields if name != "rul_due")
        return Point(point.measurement, point.tags, fields, point.time_ns)

    def record(self, time_ms: int, device: str = "") -> ScoreRecord:
        """Its score record."""
        place = {"site": "hall", "device": device or self.device, "stream": "engine"}
        times = {"start_ms": time_ms - 1_000, "end_ms": time_ms}
        sent = {"recv_ms": time_ms, "scored_ms": time_ms + 5}
        head = {"task": "rul", **place, "model": "rul", "version": 1, **times}
        return {**head, "readings": 30, "gaps": 0, **sent, **self.fields}


DUE_CASES = (
    DueCase("healthy", 90.0, (70.0, 110.0), "good", False),
    DueCase("worn", 25.0, (19.9, 40.0), "good", True),
    DueCase("at-the-limit", 25.0, (20.0, 40.0), "good", False),
    DueCase("without-interval", 19.0, None, "good", True),
    DueCase("healthy-without-interval", 21.0, None, "good", False),
    DueCase("of-an-old-version", 25.0, (3.0, 40.0), None, True),
    DueCase("lost", 60.0, (2.0, 118.0), "unfamiliar", None),
    DueCase("lost-and-low", 5.0, (0.0, 24.0), "unfamiliar", None),
    DueCase("lost-at-the-limit", 5.0, (0.0, 20.0), "unfamiliar", None),
    DueCase("lost-and-surely-due", 5.0, (0.5, 19.9), "unfamiliar", True),
    DueCase("lost-without-interval", 5.0, None, "unfamiliar", None),
    DueCase("out-of-range", 2.0, (0.0, 9.0), "range: T24, T30", None),
    DueCase("in-another-unit", 2.0, (0.0, 9.0), "unit: T24 (degC)", None),
    DueCase("flat", 2.0, (0.0, 9.0), "constant: T24", None),
    DueCase("slow", 2.0, (0.0, 9.0), "rate", None),
    DueCase("made-up", 2.0, (0.0, 9.0), "made up", None),
    DueCase("out-of-range-and-lost", 2.0, (0.0, 9.0), "range: T24; unfamiliar", None),
    DueCase("flagged-by-a-newer-version", 2.0, (0.0, 9.0), "unfamiliar: T24", None),
)

DUE_COURSES = {
    "due-then-out-of-range": ("worn", "out-of-range", "out-of-range"),
    "due-then-lost": ("worn", "lost"),
    "healthy-then-out-of-range": ("healthy", "out-of-range"),
    "mended-then-out-of-range": ("worn", "healthy", "out-of-range"),
    "never-told": ("lost", "out-of-range"),
    "due-without-interval-then-flat": ("without-interval", "flat"),
    "lost-due-then-far": ("healthy", "lost-and-surely-due", "lost"),
    "lost-due-then-mended": ("lost-and-surely-due", "healthy", "slow"),
}
"""Scores of one device in their order, by the names of their cases: doubt ends no alarm."""

"""Points of `drift` as a gateway stores them."""

from __future__ import annotations

from pipeline.points.measurements import DRIFT
from pipeline.points.points import Point

__all__ = ["DRIFT_TEXT", "drift_point"]

DRIFT_TEXT = "60% of the windows are doubtful"
"""What a point says that tells a drift."""


def drift_point(
    stream: str,
    drifted: int,
    at_ms: int,
    *,
    version: int = 3,
    device: str = "*",
    channel: str = "*",
) -> Point:
    """A judgement of the gateway `gate`: of a stream as a whole, one device or one channel."""
    site = "*" if device == "*" else "plant"
    tags = tuple(zip(DRIFT.tags, ("gate", site, device, stream, channel), strict=True))
    fields: tuple[tuple[str, int | float | str], ...] = (
        ("drifted", drifted),
        ("since_ms", (at_ms - 60_000) * drifted),
        ("version", version),
        ("windows", 1000),
        ("text", DRIFT_TEXT if drifted else ""),
    )
    if channel != "*":
        fields = (("psi", 9.0), ("limit", 1.0), ("windows", 1000), ("drifted", drifted))
    return Point(DRIFT.name, tags, fields, at_ms * 1_000_000)

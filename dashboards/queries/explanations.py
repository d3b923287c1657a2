"""Query over explanations: why scores of one device were at alert level. Pure.

A gateway explains such scores, whatever their task; a site does not.
"""

from __future__ import annotations

from dashboards.queries.flux import read
from dashboards.queries.query import table
from dashboards.queries.scores import ONE_DEVICE
from dashboards.queries.stages import PIVOT
from pipeline.points.measurements import EXPLANATION

__all__ = ["DEVICE_EXPLANATIONS"]

DEVICE_EXPLANATIONS = table(
    "device_explanations",
    [*read(EXPLANATION, ["channel", "text", "version"], *ONE_DEVICE), PIVOT],
    {"_time": "time", "channel": "text", "text": "text", "model": "text", "version": "int"},
    sort=["_time"],
    descending=True,
    limit=100,
    may_be_empty=True,
)
"""The newest explanations of one device, at most 100."""

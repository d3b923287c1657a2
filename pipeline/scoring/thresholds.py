"""Limits by which a challenger is judged against the champion, as whole numbers.

A release carries them, and the canonical JSON of The Update Framework has no fractions.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

__all__ = ["Thresholds"]

Permille = Annotated[int, Strict(), Field(ge=0, le=1000)]
Percent = Annotated[int, Strict(), Field(ge=0, le=100_000)]


class Thresholds(BaseModel):
    """When a challenger is unhealthy; each limit compares it with the champion on the same windows.

    Attributes:
        nonfinite_permille: Largest share of finite windows without a finite score.
        latency_percent: Largest time for the same batches, in per cent of the champion's; it counts
            above `latency_ms` only.
        latency_ms: 99th percentile of the time for a batch up to which a challenger is never too
            slow.
        disagreement_permille: Largest mean disagreement (`Answer.disagreement`, 0 to 1).
        psi_permille: Largest population stability index of its scores against the champion's, in
            thousandths.
        spread_percent: Smallest spread of its scores, in per cent of the champion's.
        unknown_permille: Largest share of unknown windows beyond the champion's share.
        error_percent: Largest live error in per cent of the champion's, for a task that measures
            it.
        coverage_permille: Largest loss of interval coverage against the champion's, for a task that
            measures it.
        windows: Windows that a judgement needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nonfinite_permille: Permille = 0
    latency_percent: Percent = 300
    latency_ms: Annotated[int, Strict(), Field(ge=0, le=60_000)] = 1
    disagreement_permille: Permille = 300
    psi_permille: Annotated[int, Strict(), Field(ge=0, le=100_000)] = 2000
    spread_percent: Percent = 20
    unknown_permille: Permille = 100
    error_percent: Percent = 150
    coverage_permille: Permille = 100
    windows: Annotated[int, Strict(), Field(ge=1, le=1_000_000)] = 200

"""Totals of a process: sums over its devices, and the counters of the parts that it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ingest.bridge import Bridge
from pipeline.app import ScoringApp, StoreApp
from pipeline.status.counters import Totals

__all__ = ["process_totals"]


def process_totals(
    sums: Totals,
    steady_ms: int,
    *,
    bridge: Bridge | None = None,
    scoring: ScoringApp | None = None,
    store: StoreApp | None = None,
) -> Totals:
    """Add the counters of the parts to the sums over the devices; missing parts count as zero.

    Args:
        sums: Sums over the devices.
        steady_ms: Monotonic milliseconds, for the latencies of the last minute.
        bridge: The bridge of the process.
        scoring: Its scoring app.
        store: Its store app.

    Returns:
        The totals. `dead_letters` counts those of bridge and scoring stage, not of the store.
    """
    totals = sums
    dead_letters: Counter[str] = Counter()
    if bridge is not None:
        received = bridge.counters
        for reason, count in received.dead_lettered_total.items():
            dead_letters[reason.value] += count
        totals = replace(
            totals,
            messages_received=received.received_total,
            messages_logged=received.logged_total,
            messages_dead_lettered=received.dead_lettered_total.total(),
        )
    if scoring is not None:
        scored = scoring.stage.counters
        dead_letters.update(scored.dead_letters)
        totals = replace(
            totals,
            taken=scored.readings,
            scored=scored.scored,
            unscored=scored.unscored,
            sensor_to_score=scored.sensor_to_score.summary(steady_ms),
            receive_to_score=scored.receive_to_score.summary(steady_ms),
        )
    if store is not None:
        stored = store.counters
        totals = replace(
            totals,
            stored=stored.stored,
            refused_points=stored.refused,
            sensor_to_stored=stored.sensor_to_stored.summary(steady_ms),
        )
    return replace(totals, dead_letters=dict(dead_letters))

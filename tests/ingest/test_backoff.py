"""Pauses between attempts: grow to a limit, honour requests, spread."""

from __future__ import annotations

import pytest

from ingest.backoff import Backoff

SPREAD = Backoff(first_ms=100, factor=2, max_ms=1_000, jitter=(1.0, 1.5))


@pytest.mark.parametrize(
    ("failures", "requested_ms", "share", "expected_ms"),
    [
        (1, None, 0.0, 100),
        (2, None, 0.0, 200),
        (5, None, 0.0, 1_000),
        (1_000, None, 0.0, 1_000),
        (5, None, 1.0, 1_500),
        (1, 17_000, 0.0, 17_000),
        (1, 17_000, 1.0, 25_500),
        (1, 10**9, 0.0, 900_000),
        (5, 10, 0.0, 1_000),
    ],
)
def test_pauses_grow_to_a_limit_and_are_spread(
    failures: int, requested_ms: int | None, share: float, expected_ms: int
) -> None:
    assert SPREAD.delay_ms(failures, requested_ms, lambda: share) == expected_ms


def test_jitter_may_shorten_a_pause() -> None:
    backoff = Backoff(first_ms=200, max_ms=5_000, jitter=(0.75, 1.25))
    assert [backoff.delay_ms(1, random_share=lambda s=s: s) for s in (0.0, 0.5, 1.0)] == [
        *(150, 200, 250),
    ]


def test_pauses_are_random_within_the_jitter() -> None:
    delays = {SPREAD.delay_ms(1) for _ in range(100)}
    assert len(delays) > 1
    assert all(100 <= delay <= 150 for delay in delays)

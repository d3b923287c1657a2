"""When a gateway looks at its centre, and what the last look means for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from deploy.rollout.report import FetchState
from deploy.updates.fetch import FetchFailed
from ingest.backoff import Backoff
from ingest.secrettext import error_text

__all__ = ["FetchPlan"]

NOTE_MS = 10_000
"""Shortest time between two looks that notes cause, however many come."""
AWAY_MS = 86_400_000
"""Time without the centre after which nothing new starts: the release may have been aborted."""
_NOT_YET = "the centre has not been reached since the start"


class FetchPlan:
    """Plans the looks at a centre; the times are monotonic milliseconds.

    - A look every interval, up to a fifth shorter or longer.
    - A note causes an early look within a thirtieth of the interval, at most one in 10 s. Notes
      come from anybody who may publish them, so more they cannot cause.
    - After a failure the pauses grow from 5 s to the interval.

    Args:
        interval_s: The interval.
        random_share: Returns a number in [0, 1); tests pass a fixed one.

    Attributes:
        state: What the last look found.
        detail: Why, for people; "" if all is well.
        wants_index: Whether the look that is due is for the index, not for a student.
        notes_total: Notes that came.
    """

    def __init__(self, interval_s: int, random_share: Callable[[], float] = random.random) -> None:
        self.state: FetchState = "away"
        self.detail = _NOT_YET
        self.wants_index = True
        self.notes_total = 0
        self._interval_ms = 1000 * interval_s
        self._random_share = random_share
        self._backoff = Backoff(min(5_000, self._interval_ms), self._interval_ms, jitter=(0.8, 1.2))
        self._failures = 0
        self._next_ms: int | None = None
        self._noted_ms: int | None = None
        self._early_ms: int | None = None  # a look that a note has asked for since the last began
        self._is_running = False
        self._verified_ms: int | None = None

    def is_due(self, now_ms: int, *, has_wanted: bool) -> bool:
        """Whether to fetch now: the index at its time, or a student that is wanted.

        It is not due again until `succeeded`, `fetched` or `failed` is called.
        """
        if self._is_running:
            return False
        self.wants_index = self._next_ms is None or now_ms >= self._next_ms
        self._is_running = self.wants_index or (has_wanted and not self._failures)
        if self.wants_index:
            self._early_ms = None
        return self._is_running

    def note(self, now_ms: int) -> None:
        """Plan an early look, unless one is planned, or the last one was a moment ago."""
        self.notes_total += 1
        if self._noted_ms is not None and now_ms - self._noted_ms < NOTE_MS:
            return
        self._noted_ms = now_ms
        self._early_ms = now_ms + round(self._random_share() * self._interval_ms / 30)
        self._plan_next(self._early_ms if self._next_ms is None else self._next_ms)

    def succeeded(self, now_ms: int) -> None:
        """Note a verified index."""
        self.state, self.detail = "ok", ""
        self._verified_ms = now_ms
        self._failures, self._is_running = 0, False
        self._plan_next(now_ms + round(self._interval_ms * (0.8 + 0.4 * self._random_share())))

    def fetched(self, failures: Sequence[Exception], now_ms: int) -> None:
        """Note that the wanted students were fetched, or why some were not."""
        self._is_running = False
        for error in failures:
            if isinstance(error, FetchFailed):
                self.failed(error, now_ms)
                return

    def failed(self, error: BaseException, now_ms: int) -> None:
        """Note a failure and plan the next look."""
        self._is_running = False
        self._failures += 1
        self.state = error.state if isinstance(error, FetchFailed) else "refused"
        self.detail = error_text(error)[:500]
        pause_ms = self._backoff.delay_ms(self._failures, random_share=self._random_share)
        self._plan_next(now_ms + pause_ms)

    def no_moves(self, now_ms: int) -> str:
        """Why nothing new may start; "" if it may.

        A centre that is away stops nothing for a day, so that a USB stick may be taken out.
        """
        if self._verified_ms is None:
            return _NOT_YET
        if self.state == "ok":
            return ""
        if self.state == "away" and now_ms - self._verified_ms < AWAY_MS:
            return ""
        return self.detail

    def _plan_next(self, at_ms: int) -> None:
        """Plan the next look; a note that came while the last one ran is not forgotten."""
        self._next_ms = at_ms if self._early_ms is None else min(at_ms, self._early_ms)

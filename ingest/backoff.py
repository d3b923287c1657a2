"""Growing, bounded, randomised pauses between failed attempts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses between attempts, in milliseconds.

    Attributes:
        first_ms: Pause after the first failure.
        max_ms: Longest pause that growth leads to.
        factor: Growth from one failure in a row to the next.
        jitter: Range of the random factor that spreads the pauses of many clients.
        max_requested_ms: Longest pause that the other side can request.
        reset_after_ms: An attempt that succeeded and lasted this long clears earlier failures;
            the caller counts failures and applies this rule.
    """

    first_ms: int
    max_ms: int
    factor: float = 2.0
    jitter: tuple[float, float] = (1.0, 1.0)
    max_requested_ms: int = 900_000
    reset_after_ms: int = 60_000

    def delay_ms(
        self,
        failures: int,
        requested_ms: int | None = None,
        random_share: Callable[[], float] = random.random,
    ) -> int:
        """Return the pause after so many failures in a row.

        The pause is at least as long as the other side requested, up to `max_requested_ms`. Jitter
        applies to requested pauses too, so that clients that were rejected together do not return
        together.

        >>> backoff = Backoff(first_ms=500, max_ms=30_000)
        >>> [backoff.delay_ms(failures) for failures in (1, 2, 3, 7, 1_000)]
        [500, 1000, 2000, 30000, 30000]
        >>> backoff.delay_ms(1, requested_ms=7_000)
        7000

        Args:
            failures: Failed attempts in a row, 1 after the first.
            requested_ms: Pause that the other side requested, or None.
            random_share: Returns a number in [0, 1); tests pass a fixed one.
        """
        grown_ms = min(self.first_ms * self.factor ** min(failures - 1, 30), self.max_ms)
        requested_ms = min(requested_ms or 0, self.max_requested_ms)
        low, high = self.jitter
        return round(max(grown_ms, requested_ms) * (low + (high - low) * random_share()))

"""A log filter that limits how often one message repeats, for Kafka's client during an outage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["RateLimitedLogFilter"]


class RateLimitedLogFilter(logging.Filter):
    """Passes each message of some loggers once per interval, with the number of repetitions.

    Two messages are the same if the same line of code logged them.

    >>> now = 0.0
    >>> limited = RateLimitedLogFilter("aiokafka", every_s=60, clock=lambda: now)
    >>> def emit(text: str) -> str | None:
    ...     record = logging.LogRecord("aiokafka.client", 40, "client.py", 7, text, None, None)
    ...     return record.getMessage() if limited.filter(record) else None
    >>> emit("gone"), emit("still gone"), emit("still gone")
    ('gone', None, None)
    >>> now = 61.0
    >>> emit("gone")
    'gone (and 2 times more)'
    """

    def __init__(
        self, loggers: str, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            loggers: Prefix of the loggers to limit.
            every_s: Seconds between two passes of the same message.
            clock: Monotonic seconds.
        """
        super().__init__()
        self._loggers = loggers
        self._every_s = every_s
        self._clock = clock
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes; appends the number of suppressed repetitions to its text."""
        if not record.name.startswith(self._loggers):
            return True
        place = (record.pathname, record.lineno)
        now_s = self._clock()
        last_s, suppressed = self._passed.get(place, (-self._every_s, 0))
        if now_s - last_s < self._every_s:
            self._passed[place] = (last_s, suppressed + 1)
            return False
        self._passed[place] = (now_s, 0)
        if suppressed:
            record.msg, record.args = f"{record.getMessage()} (and {suppressed} times more)", None
        return True

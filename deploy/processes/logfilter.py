"""What Kafka's client says over and over while Kafka is away, said once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Seldom"]


class Seldom(logging.Filter):
    """Lets each message of some loggers through once in a while, with how often it came since.

    Messages are the same when they are logged by the same line of code.

    >>> now = 0.0
    >>> seldom = Seldom("aiokafka", every_s=60, clock=lambda: now)
    >>> def say(text: str) -> str | None:
    ...     record = logging.LogRecord("aiokafka.client", 40, "client.py", 7, text, None, None)
    ...     return record.getMessage() if seldom.filter(record) else None
    >>> say("gone"), say("still gone"), say("still gone")
    ('gone', None, None)
    >>> now = 61.0
    >>> say("gone")
    'gone (and 2 times more)'
    """

    def __init__(
        self, loggers: str, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._loggers = loggers
        self._every_s = every_s
        self._clock = clock
        self._said: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it through; changes its text when others were held back before it."""
        if not record.name.startswith(self._loggers):
            return True
        place = (record.pathname, record.lineno)
        now_s = self._clock()
        last_s, held = self._said.get(place, (-self._every_s, 0))
        if now_s - last_s < self._every_s:
            self._said[place] = (last_s, held + 1)
            return False
        self._said[place] = (now_s, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} (and {held} times more)", None
        return True

"""Rests of a socket: after a read that brought little, it is left alone for a moment.

One read of several messages costs less than one read for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Rest"]

_HURRY_S = 0.01


class Rest:
    """When a socket is read next. All on the event loop.

    Args:
        rest_s: Length of a rest, seconds; 0: there is none.
        watch: Starts (True) or stops (False) to wait until the socket is readable.
        read: Reads the socket; `after_read` follows.
    """

    def __init__(
        self, rest_s: float, watch: Callable[[bool], None], read: Callable[[], None]
    ) -> None:
        self._rest_s = rest_s
        self._watch = watch
        self._read = read
        self._hurry_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def after_read(self, *, may_rest: bool) -> None:
        """Rest, or wait until the socket is readable; call it after each read."""
        loop = asyncio.get_running_loop()
        if not (may_rest and self._rest_s) or loop.time() < self._hurry_until_s:
            self.stop()
            self._watch(True)
        elif self._timer is None:
            self._watch(False)
            self._timer = loop.call_later(self._rest_s, self._rested)

    def hurry(self) -> None:
        """End a rest, and take none for 10 ms, because more is on its way."""
        self._hurry_until_s = asyncio.get_running_loop().time() + _HURRY_S
        if self._timer is not None:
            self.stop()
            self._watch(True)

    def stop(self) -> None:
        """End a rest without a read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rested(self) -> None:
        self._timer = None
        self._read()

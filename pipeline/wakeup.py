"""A flag that one task waits for, set in the event loop."""

from __future__ import annotations

import asyncio

__all__ = ["WakeUp"]


class WakeUp:
    """Like `asyncio.Event` for one waiting task, but a wait with a limit costs no task of its own.

    ``asyncio.wait_for(event.wait(), limit)`` makes a task, two futures and a timer each time, more
    than the work of a beat.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, and wake the task that waits; call it in the event loop."""
        self._is_set = True
        _resolve(self._waiter)

    def clear(self) -> None:
        """Take the flag back."""
        self._is_set = False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the flag is set, for `timeout_s` at most; returns whether it is set.

        Raises:
            RuntimeError: Another task waits already.
        """
        if self._is_set:
            return True
        if self._waiter is not None:
            msg = "two tasks wait for one WakeUp"
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _resolve, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self._is_set


def _resolve(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)

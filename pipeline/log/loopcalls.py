"""Calls from the log's writing thread into an event loop, all of one transaction at once.

``call_soon_threadsafe`` wakes the loop each time. A transaction resolves several futures and tells
several readers, so its calls are collected here, and the loop is woken once, at its end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

__all__ = ["Changed", "LoopCalls", "Loops"]

Changed = frozenset[tuple[str, int]]
"""Topics and partitions with new durable records."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class LoopCalls:
    """The calls into one event loop.

    Args:
        loop: The loop.
        is_collected: Whether the calling thread rings at the end of what it does; the calls of
            every other thread wake the loop at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_collected: Callable[[], bool]) -> None:
        self.loop = loop
        self._is_collected = is_collected
        self._calls: deque[Callable[[], object]] = deque()
        self._has_rung = False

    def add(self, call: Callable[[], object]) -> None:
        """Have a function called in the loop; any thread."""
        self._calls.append(call)
        if not self._is_collected():
            self.ring()

    def ring(self) -> None:
        """Wake the loop if a call waits; any thread."""
        if self._calls and not self._has_rung:
            self._has_rung = True
            with suppress(RuntimeError):  # the loop is closed, and with it everything that waited
                self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._has_rung = False  # first: what is added from here on rings again
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception:  # the calls behind it must not wait for the next ring
                log.exception("a listener of the log failed")

    def future(self, source: Future[_T]) -> asyncio.Future[_T]:
        """A future of the loop with the result of `source`; to be called in the loop.

        It costs a third of ``asyncio.wrap_future``; unlike there, cancelling it does not cancel
        `source`.
        """
        copy: asyncio.Future[_T] = self.loop.create_future()

        def resolve() -> None:
            if copy.done():  # cancelled by who waited
                return
            if source.cancelled():
                copy.cancel()
            elif (error := source.exception()) is not None:
                copy.set_exception(error)
            else:
                copy.set_result(source.result())

        source.add_done_callback(lambda _: self.add(resolve))
        return copy


class Loops:
    """The event loops that wait for a log, and the listeners in them.

    Args:
        is_collected: See `LoopCalls`.
    """

    def __init__(self, is_collected: Callable[[], bool]) -> None:
        self._is_collected = is_collected
        self._lock = threading.Lock()
        self._calls: tuple[LoopCalls, ...] = ()
        self._listeners: tuple[Callable[[Changed], None], ...] = ()

    def running(self) -> LoopCalls:
        """The calls into the running event loop."""
        loop = asyncio.get_running_loop()
        for calls in self._calls:  # only this loop adds its own
            if calls.loop is loop:
                return calls
        with self._lock:
            calls = LoopCalls(loop, self._is_collected)
            others = [found for found in self._calls if not found.loop.is_closed()]
            self._calls = (*others, calls)
        return calls

    def add_listener(self, listener: Callable[[Changed], None]) -> Callable[[], None]:
        """Have a function called in the running event loop by `tell`; returns how to remove it."""
        calls = self.running()

        def hear(changed: Changed) -> None:
            calls.add(lambda: listener(changed))

        with self._lock:
            self._listeners = (*self._listeners, hear)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(found for found in self._listeners if found is not hear)

        return remove

    def tell(self, changed: Changed) -> None:
        """Call all listeners, each in its loop; any thread."""
        for hear in self._listeners:
            hear(changed)

    def ring(self) -> None:
        """Wake the loops into which a call waits; any thread."""
        for calls in self._calls:
            calls.ring()

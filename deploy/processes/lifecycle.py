"""The life of one process, from its start to its exit code: gateway, bridge, worker, store alike.

A part that fails for good ends its process with exit code 1 and the reason; nothing was confirmed
that is not durable, and a supervisor starts it again. SIGTERM or SIGINT is a clean stop, a second
one ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

__all__ = ["PartFailed", "Process", "Tasks", "run_process", "until_crashed"]

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # malloc.h
_STOP_S = 40.0


class PartFailed(Exception):
    """A part gave up; the message names it and says what to do."""


class Process(Protocol):
    """What `run_process` runs."""

    async def start(self) -> str:
        """Start; returns one line about it when the work has begun. May be cancelled."""

    async def wait(self) -> None:
        """Return when the work is done for good; raise `PartFailed` when a part has given up."""

    async def stop(self) -> str:
        """Stop whatever has been started; returns one line about what was done."""


class Tasks:
    """The tasks of a process: each shall run until the process stops."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run it beside the others."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.append(task)
        return task

    async def wait(self) -> None:
        """Wait until one has ended by itself.

        Raises:
            PartFailed: With the part and its reason; of several, the one that was spawned first.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._tasks if task in done]:
            reason = task.exception() if not task.cancelled() else None
            message = f"{task.get_name()} ended: {reason or 'without a reason'}"
            raise PartFailed(message) from reason

    async def cancel(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until_crashed(app: Any) -> None:
    """Raise the reason once a Faust app has crashed."""
    while not app.crashed:
        await asyncio.sleep(0.2)
    raise app.crash_reason or PartFailed("the app crashed")


async def run_process(name: str, process: Process, announce: Callable[[str], None] = print) -> int:
    """Run a process until SIGINT or SIGTERM, or until it ends itself; returns the exit code.

    Raises:
        Exception: What `process.start` raised.
    """
    _use_one_arena()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():  # asked twice: at once. Nothing unacknowledged is lost by it.
            os._exit(130)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    asked = loop.create_task(stopping.wait())
    code = 0
    try:
        starting = loop.create_task(process.start())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        else:
            announce(starting.result())
            _put_start_up_aside()
            waiting = loop.create_task(process.wait())
            await asyncio.wait({waiting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and waiting.exception() is not None:
                code = 1
                print(f"kpstream {name}: {waiting.exception()}", file=sys.stderr, flush=True)
            waiting.cancel()
    finally:
        asked.cancel()
        _exit_within(_STOP_S, code)
        announce(await process.stop())
    return code


def _exit_within(seconds: float, code: int) -> None:
    """End the process if stopping hangs: a supervisor must be able to start it again."""

    def give_up() -> None:
        log.error("stopping took more than %.0f s: ending at once, a restart goes on", seconds)
        os._exit(code or 1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _use_one_arena() -> None:
    """Let all threads allocate from one heap: glibc's heap per thread costs a process megabytes."""
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to do
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _put_start_up_aside() -> None:
    """What start-up made stays: don't scan it at every collection, and give its scraps back."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

"""End a command or a process on SIGINT or SIGTERM: one rule for everything that runs until then.

The first signal asks to end. The second one ends the process at once: what is unconfirmed then was
not acknowledged to anybody, so nothing is lost that was promised.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any

__all__ = ["EXIT_CODE", "stop_on_signals", "until_stopped"]

EXIT_CODE = 130
"""Exit code of a command that a signal has ended."""


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT or SIGTERM sets, from now until the event loop is closed.

    Both are handled even where a shell has disabled them, as it does for a command in the
    background. Only the main thread of a process can handle signals; in another one, nothing sets
    the event.
    """
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_CODE)
        stop.set()

    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
    return stop


async def until_stopped(work: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Run `work` until it is done, or cancel it as soon as `stop` is set.

    Returns:
        Whether it is done.

    Raises:
        Exception: Any error of `work`.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})

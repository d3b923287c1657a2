"""The lifecycle of a gateway, bridge, worker or store, from start to exit code.

If a part fails permanently, the process ends with exit code 1 and the reason. Everything confirmed
is durable, so a supervisor can start it again. SIGTERM or SIGINT stops it cleanly, also while it
starts; a second signal ends it immediately. So does the first one while its files are being opened:
nothing has been taken yet, and the next start finds them as after any kill.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from deploy.processes.memory import freeze_startup_objects, return_memory, set_up_allocator
from ingest.secrettext import hide_secrets
from ingest.stopping import stop_on_signals

__all__ = ["PartFailed", "Process", "Tasks", "process_age_s", "run_process", "until_crashed"]

log = logging.getLogger(__name__)

_STOP_S = 40.0
_IMPORTED_S = time.monotonic()


def process_age_s() -> float:
    """Seconds since this process was started, with its imports; it needs Linux's /proc.

    Elsewhere they count from the import of this module.
    """
    try:
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # after boot, see proc(5)
        return float(Path("/proc/uptime").read_text("ascii").split()[0]) - started_s
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED_S


class PartFailed(Exception):
    """A part of the process failed permanently; the message names the part and the reason."""


class Process(Protocol):
    """A process for `run_process`."""

    async def start(self) -> str:
        """Start; returns one line of text once the work has begun. May be cancelled."""

    async def wait(self) -> None:
        """Wait until the work is complete; raise `PartFailed` if a part fails."""

    async def stop(self) -> str:
        """Stop everything that was started; returns a one-line summary."""


class Tasks:
    """The tasks of a process, each of which runs until the process stops."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.append(task)
        return task

    async def wait(self) -> None:
        """Wait until a task ends by itself.

        Raises:
            PartFailed: A task ended; of several, the one that was spawned first is named.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._tasks if task in done]:
            reason = task.exception() if not task.cancelled() else None
            message = f"{task.get_name()} ended: {reason or 'without a reason'}"
            raise PartFailed(message) from reason

    async def cancel(self) -> None:
        """Cancel all tasks and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until_crashed(app: Any) -> None:
    """Wait until a Faust app crashes, then raise the reason; wait for ever if it only stops."""
    await app.wait_until_stopped()
    while not app.crashed:  # it was stopped, and this task is about to be cancelled
        await asyncio.sleep(1.0)
    raise app.crash_reason or PartFailed("the app crashed")


async def run_process(
    name: str, make: Callable[[], Process], announce: Callable[[str], None] = print
) -> int:
    """Run a process until SIGINT, SIGTERM or its own end; returns the exit code.

    Args:
        name: Name for error messages.
        make: Builds the process. It may start threads, so it is called after the allocator is set
            up: a thread that allocates before has a heap of its own for good.
        announce: Receives the lines of text from `start` and `stop`.

    Raises:
        Exception: Any error of `make` or `process.start`.
    """
    set_up_allocator()
    # The handler of asyncio.run would cancel this task at its next await, beside a running start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = make()
    stopping = stop_on_signals()
    loop = asyncio.get_running_loop()
    stop_requested = loop.create_task(stopping.wait())
    returning = loop.create_task(return_memory())
    code = 0
    try:
        starting = loop.create_task(process.start())
        await asyncio.wait({starting, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=_STOP_S)
        else:
            announce(hide_secrets(starting.result()))
            freeze_startup_objects()
            waiting = loop.create_task(process.wait())
            await asyncio.wait({waiting, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and waiting.exception() is not None:
                code = 1
                ended = hide_secrets(f"kpstream {name}: {waiting.exception()}")
                print(ended, file=sys.stderr, flush=True)
            waiting.cancel()
    finally:
        stop_requested.cancel()
        returning.cancel()
        _exit_within(_STOP_S, code)
        announce(await process.stop())
    return code


def _exit_within(seconds: float, code: int) -> None:
    """End the process if stopping hangs, so that a supervisor can start it again."""

    def give_up() -> None:
        log.error(
            "stopping took more than %.0f s; ending at once, a restart resumes the work", seconds
        )
        os._exit(code or 1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()

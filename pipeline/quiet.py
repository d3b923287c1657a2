"""A thread that takes a small share of a core, for work that nobody waits long for."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.errors import LineFull

__all__ = ["QuietThread"]

_T = TypeVar("_T")
_NICE = 10


class QuietThread:
    """One thread at low priority with a short line in front of it.

    After work that took t seconds of CPU time it rests for t * (1 / share - 1) seconds, so that it
    takes at most `share` of a core, whoever asks for how much.

    Args:
        name: Name of the thread.
        waiting: Pieces of work that may wait.
        share: Largest share of a core, above 0 and at most 1.
        clock: CPU time of the calling thread in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        waiting: int,
        share: float,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._most = waiting
        self._rest = 1 / share - 1
        self._clock = clock
        self._line: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_lower_priority)

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise."""
        return len(self._line) >= self._most or self._stopped.is_set()

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Put work in the line; returns at once.

        Raises:
            LineFull: As much is waiting as may wait.
        """
        with self._lock:
            if self.is_full:
                msg = "too much was asked for at once: try again in a moment"
                raise LineFull(msg)
            future: Future[_T] = Future()
            self._line.add(future)
            self._thread.submit(self._run, work, future)
        return future

    def close(self) -> None:
        """Let the work in progress end, and cancel what waits."""
        with self._lock:
            self._stopped.set()
            for future in self._line:
                future.cancel()
        self._thread.shutdown(wait=True)

    def _run(self, work: Callable[[], _T], future: Future[_T]) -> None:
        started = self._clock()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as exc:  # the one who asked gets it
                future.set_exception(exc)
        spent = self._clock() - started
        # Only then is there room for more: who is answered still counts while the thread rests.
        self._stopped.wait(spent * self._rest)
        with self._lock:
            self._line.discard(future)


def _lower_priority() -> None:
    # Linux has a priority per thread; elsewhere the thread keeps that of the process.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)

"""One blocking call at a time, in a thread that does not delay the exit of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["BackgroundCall"]

_T = TypeVar("_T")


class BackgroundCall(Generic[_T]):
    """Runs a function that may block in a daemon thread, at most one call at a time."""

    def __init__(self, function: Callable[[], _T], name: str) -> None:
        """Remember the function; nothing runs before :meth:`start`.

        Args:
            function: The function to call.
            name: Name of the thread.
        """
        self._function = function
        self._name = name
        self._future: Future[_T] | None = None

    def start(self) -> None:
        """Start a call, unless one is in progress."""
        if self._future is None:
            future = self._future = Future[_T]()
            threading.Thread(target=self._run, args=[future], name=self._name, daemon=True).start()

    def discard(self) -> None:
        """Ignore the result of the call in progress."""
        self._future = None

    def take_result(self) -> Future[_T] | None:
        """Return the finished call, once; None while there is none."""
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        return future

    def _run(self, future: Future[_T]) -> None:
        try:
            future.set_result(self._function())
        except BaseException as exc:  # the reader of the result handles it
            future.set_exception(exc)

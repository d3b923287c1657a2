"""Explanations of alert-level scores, on their way to InfluxDB through the log."""

from __future__ import annotations

import asyncio
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

from ingest.errors import LogUnavailable
from pipeline.errors import SinkError
from pipeline.explain.alerts import AlertExplainer
from pipeline.explain.students import ExplainingStudents
from pipeline.points.accounts import AppendAccount
from pipeline.points.lines import to_line
from pipeline.points.points import Point
from pipeline.quiet import QuietThread

__all__ = ["PointAppender", "WorkerAlerts", "alert_lines"]

_APPEND_S = 30.0


class PointAppender:
    """Appends points to the log from a thread other than that of the event loop."""

    def __init__(self) -> None:
        self._append: AppendAccount | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, append: AppendAccount) -> None:
        """Take the function that appends to the log; call it in the loop that runs it."""
        self._append, self._loop = append, asyncio.get_running_loop()

    def append(self, point: Point) -> None:
        """Append a point, and wait until the log has it.

        Raises:
            SinkError: The log did not take it in time, or nothing has been started.
        """
        if self._append is None or self._loop is None:
            msg = "the process has not started"
            raise SinkError(msg)
        appending = self._append_line(self._append, to_line(point).encode())
        try:
            asyncio.run_coroutine_threadsafe(appending, self._loop).result(_APPEND_S)
        except (LogUnavailable, FutureTimeout) as exc:
            msg = f"the log did not take the explanation: {exc!r}"
            raise SinkError(msg) from exc

    @staticmethod
    async def _append_line(append: AppendAccount, line: bytes) -> None:
        await append(line)


def alert_lines() -> tuple[QuietThread, QuietThread]:
    """The threads that explain: a tenth of a core, and a hundredth for what was explained before.

    The second one bounds what devices cost that stay at alert level for days.
    """
    return (
        QuietThread("explain-alerts", waiting=32, share=0.1),
        QuietThread("explain-again", waiting=32, share=0.01),
    )


class WorkerAlerts:
    """The alert-level scores of a worker, explained in threads that take little of a core.

    The store of the site writes the explanations to InfluxDB, as the accounts of processes.

    Attributes:
        explainer: Looks for alert-level scores.
        store: Appends a point to the log, and waits until the log has it.
    """

    def __init__(self, registry: Path) -> None:
        self._lines = alert_lines()
        self._points = PointAppender()
        self.store = self._points.append
        self.explainer = AlertExplainer(ExplainingStudents(registry), self.store, *self._lines)

    def start(self, append: AppendAccount) -> None:
        """Take the function that appends to the log; call it in the loop that runs it."""
        self._points.start(append)

    async def stop(self) -> None:
        """Let the explanation in progress end, and cancel what waits."""
        for line in self._lines:
            await asyncio.to_thread(line.close)

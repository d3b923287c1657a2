"""The supervisor of a site: starts its parts in order, restarts them, and stops them in order.

A part is a program (a child process with a health check every second) or a step of the set-up that
has to succeed once. Parts of one rank start together; the next rank starts once all of them have
been ready. A rank that has started never waits again, because later parts tolerate an unavailable
server. `Program.stop_order` gives the order in which programs stop.

A program that ends is started again after a pause that doubles from one to thirty seconds. The
pause is short again once the program has been ready for a minute. The watchdog stops a program that
is silent for long, or has a backlog and makes no progress.

Everything runs in the thread that calls `run`, and the children end with that thread
(`ingest.childprocess`). Only health checks and steps, which may block, have threads of their own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.supervisor.program import Program, Step
from deploy.supervisor.runningprogram import RunningProgram
from deploy.supervisor.runningstep import RunningStep
from deploy.supervisor.sitestate import Row, SiteState, process_start_time, write_state
from ingest.backoff import Backoff
from ingest.clock import now_ms

__all__ = ["Supervisor"]

log = logging.getLogger(__name__)

_TICK_S = 0.1
_HEARTBEAT_S = 5.0
_RESTART_BACKOFF = Backoff(first_ms=1_000, max_ms=30_000, reset_after_ms=60_000)


class Supervisor:
    """Runs the parts of a site until it is asked to stop."""

    def __init__(
        self,
        parts: Sequence[Program | Step],
        folder: Path,
        *,
        backoff: Backoff = _RESTART_BACKOFF,
        check_every_s: float = 1.0,
        on_change: Callable[[SiteState], None] = lambda state: None,
    ) -> None:
        """Prepare; nothing starts before :meth:`run`.

        Args:
            parts: Programs and steps to run.
            folder: Folder of the state file (`deploy.supervisor.sitestate`).
            backoff: Pauses between restarts, and between attempts of a step.
            check_every_s: Seconds between two health checks of a program.
            on_change: Called with the state whenever a part has changed.
        """
        self._folder = folder
        self._on_change = on_change
        self._started_ms = now_ms()
        ordered = sorted(parts, key=lambda part: part.rank)
        self._parts: list[RunningProgram | RunningStep] = [
            RunningProgram(part, backoff, check_every_s)
            if isinstance(part, Program)
            else RunningStep(part, backoff)
            for part in ordered
        ]
        self._rank = min((part.rank for part in parts), default=0)
        self._published: tuple[Row, ...] = ()
        self._written_s = 0.0

    @property
    def state(self) -> SiteState:
        """The current state of the site."""
        rows = tuple(part.row() for part in self._parts)
        pid = os.getpid()
        return SiteState(pid, process_start_time(pid), self._started_ms, now_ms(), rows)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Keep everything running until asked to stop, then stop everything.

        Args:
            should_stop: Called ten times a second; True ends the run.
        """
        try:
            while not should_stop():
                self._tick(time.monotonic())
                time.sleep(_TICK_S)
        finally:
            self._stop()

    def kill_remaining(self) -> None:
        """Kill every program that has not ended yet; for an impatient user during the stop."""
        for part in self._parts:
            if isinstance(part, RunningProgram):
                part.kill()

    def _tick(self, now_s: float) -> None:
        # Without its servers a worker cannot make progress, which is no reason to restart it.
        excused = any(
            isinstance(part, RunningProgram)
            and part.program.kind == "server"
            and part.state != "ready"
            for part in self._parts
        )
        for part in self._parts:
            if part.rank <= self._rank:
                part.tick(now_s, excused)
        if all(part.was_ready for part in self._parts if part.rank <= self._rank):
            later = [part.rank for part in self._parts if part.rank > self._rank]
            self._rank = min(later, default=self._rank)
        self._publish_state(now_s)

    def _stop(self) -> None:
        programs = [part for part in self._parts if isinstance(part, RunningProgram)]
        for order in sorted({part.program.stop_order for part in programs}):
            stopping = [part for part in programs if part.program.stop_order == order]
            for part in stopping:
                part.request_stop(time.monotonic())
            while not all([part.has_ended(time.monotonic()) for part in stopping]):
                self._publish_state(time.monotonic())
                time.sleep(_TICK_S / 2)
        self._publish_state(time.monotonic(), at_once=True)

    def _publish_state(self, now_s: float, *, at_once: bool = False) -> None:
        """Write the state file when a part has changed, and every few seconds."""
        state = self.state
        if state.rows != self._published:
            self._published = state.rows
            self._on_change(state)
        elif not at_once and now_s - self._written_s < _HEARTBEAT_S:
            return
        self._written_s = now_s
        try:
            write_state(self._folder, state)
        except OSError as exc:  # a full disk must not end the supervisor
            log.error("cannot write the state of the site: %s", exc)

"""Keeps the parts of a site running: starts in order, looks after each, restarts, stops in order.

A part is a program (a child process that is looked at once a second) or a step of the set-up that
has to succeed once. Parts of one rank start together; the next rank starts when all of them have
been ready once, and never waits again: who comes later copes with a server that is away. They are
stopped in an order of its own (`Program.ends`).

A program that ends is started again after a pause that doubles from one to thirty seconds, and is
short again once the program has been ready for a minute. One that falls silent for long, or has a
backlog and makes no progress, is ended first (watchdog).

Everything runs in the thread that calls `run`, the children's lives hang on it
(`ingest.childprocess`); only looks and steps, which may block, have threads of their own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.stack.parts import Child, Errand, Program, Step
from deploy.stack.sitestate import Row, SiteState, born, write_state
from ingest.backoff import Backoff

__all__ = ["Supervisor"]

log = logging.getLogger(__name__)

_TICK_S = 0.1
_HEARTBEAT_S = 5.0
_RESTART_BACKOFF = Backoff(first_ms=1_000, max_ms=30_000, reset_after_ms=60_000)


class Supervisor:
    """Runs the parts until told to stop."""

    def __init__(
        self,
        parts: Sequence[Program | Step],
        folder: Path,
        *,
        backoff: Backoff = _RESTART_BACKOFF,
        look_every_s: float = 1.0,
        on_change: Callable[[SiteState], None] = lambda state: None,
    ) -> None:
        """Prepare.

        Args:
            parts: What to run.
            folder: Where the state is written to (`deploy.stack.sitestate`).
            backoff: How long what ended waits.
            look_every_s: Seconds between two looks at a program.
            on_change: Told the state whenever a part's has changed.
        """
        self._folder = folder
        self._on_change = on_change
        self._started_ms = _now_ms()
        ordered = sorted(parts, key=lambda part: part.rank)
        self._parts: list[Child | Errand] = [
            Child(part, backoff, look_every_s)
            if isinstance(part, Program)
            else Errand(part, backoff)
            for part in ordered
        ]
        self._rank = min((part.rank for part in parts), default=0)
        self._shown: tuple[Row, ...] = ()
        self._written_s = 0.0
        self._stopping = False

    @property
    def state(self) -> SiteState:
        """How everything is now."""
        rows = tuple(part.row() for part in self._parts)
        return SiteState(os.getpid(), born(os.getpid()), self._started_ms, _now_ms(), rows)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Keep everything running until told to stop; then stop everything.

        Args:
            should_stop: Asked ten times a second.
        """
        try:
            while not should_stop():
                self._tick(time.monotonic())
                time.sleep(_TICK_S)
        finally:
            self._stop()

    def hurry(self) -> None:
        """While it stops: kill what has not ended yet."""
        for part in self._parts:
            if isinstance(part, Child):
                part.kill()

    def _tick(self, now_s: float) -> None:
        # A worker can't get ahead without its servers; that is no reason to end it.
        excused = any(
            isinstance(part, Child) and part.program.kind == "server" and part.state != "ready"
            for part in self._parts
        )
        for part in self._parts:
            if part.rank <= self._rank:
                part.tick(now_s, excused)
        if all(part.was_ready for part in self._parts if part.rank <= self._rank):
            later = [part.rank for part in self._parts if part.rank > self._rank]
            self._rank = min(later, default=self._rank)
        self._tell(now_s)

    def _stop(self) -> None:
        children = [part for part in self._parts if isinstance(part, Child)]
        for turn in sorted({child.program.ends for child in children}):
            now = [child for child in children if child.program.ends == turn]
            for child in now:
                child.ask_to_end(time.monotonic())
            while not all([child.has_ended(time.monotonic()) for child in now]):
                self._tell(time.monotonic())
                time.sleep(_TICK_S / 2)
        self._tell(time.monotonic(), at_once=True)

    def _tell(self, now_s: float, *, at_once: bool = False) -> None:
        state = self.state
        if state.rows != self._shown:
            self._shown = state.rows
            self._on_change(state)
        elif not at_once and now_s - self._written_s < _HEARTBEAT_S:
            return
        self._written_s = now_s
        try:
            write_state(self._folder, state)
        except OSError as exc:  # a full disk must not end what keeps the site alive
            log.error("the state of the site can't be written: %s", exc)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

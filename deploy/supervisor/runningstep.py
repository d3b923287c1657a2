"""A step of the set-up while the site runs."""

from __future__ import annotations

import logging

from deploy.supervisor.background import BackgroundCall
from deploy.supervisor.program import Step
from deploy.supervisor.sitestate import Row, State, one_line
from ingest.backoff import Backoff
from ingest.clock import now_ms
from ingest.secrettext import error_text

__all__ = ["RunningStep"]

log = logging.getLogger(__name__)


class RunningStep:
    """Runs a step in a thread and retries it until it succeeds.

    Attributes:
        step: The step.
        rank: Its start order.
        was_ready: Whether the step has succeeded.
    """

    def __init__(self, step: Step, backoff: Backoff) -> None:
        """Prepare.

        Args:
            step: The step to run.
            backoff: Pauses between attempts.
        """
        self.step = step
        self.rank = step.rank
        self.was_ready = False
        self._backoff = backoff
        self._call = BackgroundCall(step.run, f"step-{step.name}")
        self._failures = 0
        self._due_s = 0.0
        self._state: State = "waiting"
        self._since_ms = now_ms()
        self._detail = ""

    def row(self) -> Row:
        """Return the current state."""
        return Row(
            self.step.name, "step", self._state, None, None, 0, self._since_ms, 0, self._detail, ""
        )

    def tick(self, now_s: float, excused: bool) -> None:
        """Start the step or pick up its result; called repeatedly until it has succeeded.

        Args:
            now_s: Monotonic seconds.
            excused: Unused; programs have the same method.
        """
        if self.was_ready:
            return
        result = self._call.take_result()
        if result is not None:
            error = result.exception()
            if error is None:
                self.was_ready = True
                self._change("done", result.result())
                return
            self._failures += 1
            self._due_s = now_s + self._backoff.delay_ms(self._failures) / 1000
            self._change("not ready", one_line(error_text(error)))
            log.warning("%s failed and will be retried: %s", self.step.name, error)
        if now_s >= self._due_s:
            if self._state == "waiting":
                self._change("starting", "")
            self._call.start()

    def _change(self, state: State, detail: str) -> None:
        if state != self._state:
            log.info("%s: %s -> %s", self.step.name, self._state, state)
            self._state, self._since_ms = state, now_ms()
        self._detail = detail

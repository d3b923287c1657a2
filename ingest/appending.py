"""Appends of the bridge, repeated until the log confirms them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ingest.backoff import Backoff
from ingest.bridgehealth import BridgeCounters
from ingest.errors import LogUnavailable
from ingest.logwriter import LogRecord, LogWriter

__all__ = ["PatientLog"]

log = logging.getLogger(__name__)

_RETRY = Backoff(first_ms=100, max_ms=5_000)


class PatientLog:
    """The log of a bridge, asked again with back-off while it does not confirm.

    Args:
        writer: The log.
        keep: Keeps a checkpoint of the decoders (`ingest.decoders.Decoders.keep`).
        patience_s: Seconds without a confirmation after which `append` raises.
        counters: Gets the confirmed and the failed appends.
        now_ms: Clock, epoch ms.
        steady_s: Monotonic clock, seconds.

    Attributes:
        failing_since_ms: When the log began not to confirm, epoch ms; None while it confirms.
        error: What the log said last when it did not confirm.
    """

    def __init__(
        self,
        writer: LogWriter,
        keep: Callable[[Any], Awaitable[None]],
        patience_s: float,
        counters: BridgeCounters,
        now_ms: Callable[[], int],
        steady_s: Callable[[], float],
    ) -> None:
        self.failing_since_ms: int | None = None
        self.error = ""
        self._writer = writer
        self._keep = keep
        self._patience_s = patience_s
        self._counters = counters
        self._now_ms = now_ms
        self._steady_s = steady_s
        self._failing_s: float | None = None

    @property
    def failing_for_s(self) -> int | None:
        """Whole seconds for which the log has not confirmed; None while it confirms."""
        return None if self._failing_s is None else int(self._steady_s() - self._failing_s)

    async def append(self, records: Sequence[LogRecord], checkpoint: Any) -> None:
        """Append records, then keep the checkpoint; returns when both are durable.

        Args:
            records: May be empty.
            checkpoint: None: there is none.

        Raises:
            LogUnavailable: The log has not confirmed for `patience_s`.
        """
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._patience_s
        failures = 0
        while True:
            try:
                if records:
                    await self._writer.append(records)
                if checkpoint is not None:
                    await self._keep(checkpoint)
            except LogUnavailable as exc:
                failures += 1
                wait_s = _RETRY.delay_ms(failures) / 1000
                self._note_failure(exc)
                if loop.time() + wait_s > give_up_s:
                    msg = (
                        f"the log has not confirmed for {self._patience_s:.0f} s "
                        f"({exc}); stopping, nothing unconfirmed was acknowledged"
                    )
                    raise LogUnavailable(msg) from exc
                await asyncio.sleep(wait_s)
            else:
                if self.failing_since_ms is not None:
                    log.warning("the log confirms again")
                    self.failing_since_ms = self._failing_s = None
                self._counters.appends_total += 1
                return

    def _note_failure(self, exc: LogUnavailable) -> None:
        self._counters.append_failures_total += 1
        self.error = f"the log does not confirm: {exc}"
        if self.failing_since_ms is None:
            self.failing_since_ms, self._failing_s = self._now_ms(), self._steady_s()
            log.warning("the log does not confirm, trying again: %s", exc)

"""Release of a consumer's partitions, at a stop and at a rebalance.

Faust waits until every delivered record is acked, without exception. `Handover` is mixed into both
consumers (`pipeline.log.sqliteconsumer`, `pipeline.log.kafkatransport`) and ends that wait when no
more acks will arrive: after a crash, after `abandon`, and on cancellation.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from mode.utils.futures import notify

__all__ = ["Handover"]


class Handover:
    """Mixin for a Faust consumer; list it before Faust's class.

    Attributes:
        may_not_end: Asked while waiting for acks; True ends the wait, and unacked records are
            redelivered to the new owner of the partition. For work that depends on another
            system.
    """

    app: Any
    should_stop: bool
    _unacked_messages: Any
    _commit_fut: asyncio.Future[Any] | None
    _clean_unacked_messages: Any
    commit: Any
    commit_and_end_transactions: Any
    may_not_end: Callable[[], bool] | None = None
    _abandoned = False
    _waiting_for_ack: asyncio.Future[None] | None = None

    def abandon(self) -> None:
        """Discard unacknowledged work; this consumer never commits again.

        Later acks are ignored, including those that Faust gives for a cancelled agent body, and
        `wait_empty` returns at once. Uncommitted records are read again after a restart. For an
        app that must stop while its work cannot end.
        """
        self._abandoned = True
        notify(self._waiting_for_ack)

    async def wait_empty(self) -> None:
        """Wait until all delivered records are acked, then commit.

        After a crash or `abandon` it does not wait; a restart replays the unacked records.
        Cancelling this coroutine abandons.
        """
        try:
            while self._unacked_messages and not self._stops_waiting():
                await self.commit()
                if self._unacked_messages and not self._stops_waiting():
                    await self._wait_for_ack(timeout=1)
                    gc.collect()  # records that nothing references will never be acked
                    self._clean_unacked_messages()
            await self.commit_and_end_transactions()
        except asyncio.CancelledError:
            self.abandon()  # Faust acks the records of bodies that it cancels
            raise

    def _stops_waiting(self) -> bool:
        if self._abandoned or self.should_stop or self.app.crashed:
            return True
        return self.may_not_end is not None and self.may_not_end()

    async def _wait_for_ack(self, timeout: float) -> None:
        """Wait for the next ack; unlike Faust's method, this can be cancelled."""
        acked = self._waiting_for_ack = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({acked}, timeout=timeout)
        finally:
            self._waiting_for_ack = None

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit in progress; unlike Faust's method, this can be cancelled.

        Returns:
            Whether there was one that ended.
        """
        in_progress = self._commit_fut
        if in_progress is None:
            return False
        await asyncio.wait({in_progress})
        return not in_progress.cancelled()

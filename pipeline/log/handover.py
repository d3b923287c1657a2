"""How our consumers let go of their partitions: at a stop, and when others join or leave the group.

Faust waits until every record that was handed out is acked, whatever happens. `Handover` is mixed
into both consumers (`pipeline.log.sqlitetransport`, `pipeline.log.kafkatransport`) and ends that
wait where acks will not come: after a crash, when the app has given up, when it is cancelled.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from mode.utils.futures import notify

__all__ = ["Handover"]


class Handover:
    """Mixed into a Faust consumer, before Faust's class.

    Attributes:
        may_not_end: Asked while acks are waited for; True ends the wait, and what is unacked comes
            again, to whoever has the partition then. For work that hangs on somebody else.
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
        """Give up what is being worked on: from now on this consumer commits nothing, for good.

        As after a crash of the app: acks that are still given, also those that Faust gives for a
        cancelled body, count for nothing, and `wait_empty` returns at once. What was not
        committed comes again after a restart. For an app that must stop while its work can't end.
        """
        self._abandoned = True
        notify(self._waiting_for_ack)

    async def wait_empty(self) -> None:
        """Wait until all that is being worked on is acked, then commit.

        Not after a crash or `abandon`: what is unacked stays so, and a restart replays it.
        Cancelling this abandons.
        """
        try:
            while self._unacked_messages and not self._gives_up_waiting():
                await self.commit()
                if self._unacked_messages and not self._gives_up_waiting():
                    await self._wait_for_ack(timeout=1)
                    gc.collect()  # what nobody holds any more will never be acked
                    self._clean_unacked_messages()
            await self.commit_and_end_transactions()
        except asyncio.CancelledError:
            self.abandon()  # whoever stops us waits no longer: Faust acks the bodies it cancels
            raise

    def _gives_up_waiting(self) -> bool:
        if self._abandoned or self.should_stop or self.app.crashed:
            return True
        return self.may_not_end is not None and self.may_not_end()

    async def _wait_for_ack(self, timeout: float) -> None:
        """Wait for the next ack; unlike Faust's, it can be cancelled."""
        acked = self._waiting_for_ack = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({acked}, timeout=timeout)
        finally:
            self._waiting_for_ack = None

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Whether a commit was under way and has ended; unlike Faust's, it can be cancelled."""
        under_way = self._commit_fut
        if under_way is None:
            return False
        await asyncio.wait({under_way})
        return not under_way.cancelled()

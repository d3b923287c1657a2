"""Back-pressure of the Kafka consumer: wait until a buffer has room, not for a fixed second.

Faust stops fetching a partition whose buffer is nearly full. When all buffers are full, it sleeps
for a second; when some are full, it polls Kafka for the others, for up to a second when they are
quiet. The agent empties its buffers within milliseconds and then idles, which put a worker at half
load seconds behind. `WaitsForRoom` continues once a buffer has emptied, and polls quiet partitions
briefly. The consumer of the local log does not need it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from faust.types import TP

__all__ = ["WaitsForRoom"]

_POLL_S = 0.05


class WaitsForRoom:
    """Mixin for a Faust consumer; list it before Faust's class."""

    flow_active: bool
    _buffered_partitions: set[TP]
    _get_active_partitions: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_room = asyncio.Event()

    def on_buffer_drop(self, tp: TP) -> None:
        """Called by Faust when a nearly full buffer has emptied."""
        super().on_buffer_drop(tp)  # type: ignore[misc]
        self._has_room.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self._get_active_partitions():
            self._has_room.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_room.wait(), timeout)
            if not self._get_active_partitions():
                return {}, set()
        if self._buffered_partitions:
            timeout = min(timeout, _POLL_S)
        return await super()._wait_next_records(timeout)  # type: ignore[misc]

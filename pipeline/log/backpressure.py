"""How the consumer on Kafka waits while an agent has enough: until there is room, not for a second.

Faust stops fetching a partition whose buffer is nearly full. Where that is so of all of them it
sleeps for a second; where it is so of some it asks Kafka for the others, up to a second when they
are quiet. Meanwhile the agent empties its buffers within milliseconds, and idles: a worker at half
of what it can do was seconds behind for that. `WaitsForRoom` goes on once a buffer has emptied, and
asks for quiet partitions briefly. (The consumer of the local log has its own way.)
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from faust.types import TP

__all__ = ["WaitsForRoom"]

_LOOK_AGAIN_S = 0.05


class WaitsForRoom:
    """Mixed into a Faust consumer, before Faust's class."""

    flow_active: bool
    _buffered_partitions: set[TP]
    _get_active_partitions: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_room = asyncio.Event()

    def on_buffer_drop(self, tp: TP) -> None:
        """Faust calls it when a buffer that was nearly full has emptied."""
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
            timeout = min(timeout, _LOOK_AGAIN_S)
        return await super()._wait_next_records(timeout)  # type: ignore[misc]

"""How our consumers wait while the agent has enough: until there is room, not for a second.

Faust stops fetching a partition whose buffer is nearly full, and where that is so of all of them it
sleeps for a second, in which the agent empties its buffers within milliseconds and then idles. A
worker at half of what it can do was seconds behind for that. `WaitsForRoom` is mixed into both
consumers (`pipeline.transport`, `pipeline.kafkatransport`) and goes on once a buffer has emptied.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faust.types import TP

__all__ = ["WaitsForRoom"]

_LONGEST_S = 1.0


class WaitsForRoom:
    """Mixed into a Faust consumer, before Faust's class."""

    flow_active: bool
    wait: Any
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
            await self.wait(self._has_room, timeout=min(timeout, _LONGEST_S))
            if not self._get_active_partitions():
                return {}, set()
        return await super()._wait_next_records(timeout)  # type: ignore[misc]

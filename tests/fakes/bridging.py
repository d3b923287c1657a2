"""A bridge that runs while a test looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ingest.bridge import Bridge
from tests.fakes.log import until

__all__ = ["running_bridge"]


@asynccontextmanager
async def running_bridge(bridge: Bridge, *ends: type[BaseException]) -> AsyncIterator[Bridge]:
    """Run a bridge, connected, until the end of the block.

    Args:
        bridge: The bridge.
        ends: Exceptions with which its run may end, also before it is connected.
    """
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected or (bool(ends) and task.done()))
    try:
        yield bridge
    finally:
        bridge.stop()
        with suppress(*ends):
            await asyncio.wait_for(task, 50)  # less than the longest beat

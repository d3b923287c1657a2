"""What gateway and site have in common about the bridge: ticks, and formats beside JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.bridge import Bridge
from ingest.messages import Tick
from ingest.settings import IngestSettings
from pipeline.stage import now_ms

if TYPE_CHECKING:
    from ingest.sparkplug.decoder import Sparkplug

__all__ = ["append_ticks", "sparkplug_decoder"]


async def append_ticks(
    bridge: Bridge, partitions: Callable[[], Sequence[int]], tick_ms: int
) -> None:
    """Put processing time into the log until cancelled, so that idle devices are closed.

    Args:
        bridge: appends them, behind every message that has arrived.
        partitions: which ones need it now.
        tick_ms: milliseconds between two ticks.

    Raises:
        LogUnavailable: The bridge has ended.
    """
    while True:
        await asyncio.sleep(tick_ms / 1000)
        wanted = partitions()
        since_ms = bridge.connected_since_ms
        if wanted and since_ms is not None:
            await bridge.append_tick(wanted, Tick(now_ms(), since_ms))


def sparkplug_decoder(ingest: IngestSettings, state_dir: Path) -> Sparkplug | None:
    """The decoder of Sparkplug B where the settings ask for one.

    Raises:
        IngestError: Its mapping or its state file can't be used.
    """
    if ingest.sparkplug is None:
        return None
    from ingest.sparkplug.decoder import sparkplug_of  # protobuf, which few need

    return sparkplug_of(ingest, state_dir)

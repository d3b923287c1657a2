"""Windows of batches one by one, for tests that look at single windows."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.windows.windowbatch import WindowBatch
from tests.fakes.scores import Closed

__all__ = ["closed_windows"]


def closed_windows(batches: Iterable[WindowBatch]) -> list[Closed]:
    """Every window with the device it belongs to."""
    return [
        Closed(site, device, batch.stream, batch.window(at))
        for batch in batches
        for at, (site, device) in enumerate(batch.senders)
    ]

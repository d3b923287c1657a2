"""Windows of batches one by one, for tests that look at single windows."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.windows.devices import ClosedWindow
from pipeline.windows.spec import Window
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["closed_windows"]


def closed_windows(batches: Iterable[WindowBatch]) -> list[ClosedWindow]:
    """Every window with the device it belongs to."""
    return [
        ClosedWindow(site, device, batch.stream, _window(batch, at))
        for batch in batches
        for at, (site, device) in enumerate(batch.senders)
    ]


def _window(batch: WindowBatch, at: int) -> Window:
    return Window(
        start_ms=int(batch.start_ms[at]),
        end_ms=int(batch.end_ms[at]),
        values=batch.values[at],
        readings=int(batch.readings[at]),
        gaps=int(batch.gaps[at]),
        recv_ms=int(batch.recv_ms[at]),
        made_up=float(batch.made_up[at]),
        rate_hz=None if batch.rate_hz is None else float(batch.rate_hz[at]),
        run_ms=None if batch.run_ms is None else int(batch.run_ms[at]),
    )

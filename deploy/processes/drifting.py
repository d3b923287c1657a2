"""The drift of a process, on its way to the stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ingest.secrettext import error_text
from pipeline.drift.watch import DriftWatch
from pipeline.errors import SinkError
from pipeline.points.points import Point

__all__ = ["publish_drift"]

log = logging.getLogger(__name__)


async def publish_drift(watch: DriftWatch, store: Callable[[Point], None], every_ms: int) -> None:
    """Store what was judged every `every_ms` milliseconds, until cancelled.

    A point that cannot be stored is logged once and is not missed: the next judgement supersedes
    it.

    Args:
        watch: Watches the streams.
        store: Stores a point, and waits until it is stored; it may raise SinkError.
        every_ms: Time between two looks.
    """
    was_unavailable = False
    while True:
        await asyncio.sleep(every_ms / 1000)
        try:
            for point in watch.points():
                await asyncio.to_thread(store, point)
            was_unavailable = False
        except SinkError as exc:
            if not was_unavailable:
                log.warning("the drift of the streams could not be stored: %s", error_text(exc))
            was_unavailable = True

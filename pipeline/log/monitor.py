"""A monitor for Faust apps that keeps no statistics of single records.

Faust's own wakes up every second, and notes four times per record what nobody here reads: what the
product counts is in `pipeline.status`.
"""

from __future__ import annotations

from typing import Any

from faust.sensors import Monitor
from mode import Service

__all__ = ["QuietMonitor"]


class QuietMonitor(Monitor):  # type: ignore[misc]
    """Faust's monitor without its sampler and without figures of records."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _sampler(self) -> None:
        """Sample nothing."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None:
        """Note nothing."""

    def on_message_out(self, tp: Any, offset: int, message: Any) -> None:
        """Note nothing."""

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        """Note nothing."""

    def on_stream_event_out(
        self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None
    ) -> None:
        """Note nothing."""

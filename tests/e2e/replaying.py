"""Publishes recordings in a thread, while a test does something else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from ingest.mqtt.endpoint import Endpoint
from ingest.recordings import Recording
from ingest.replay import ReplayOptions, ReplayReport, replay

START_MS = 1_750_000_000_000
"""Event time of every first reading."""


class Replaying(threading.Thread):
    """One replay, to the broker on a local port."""

    def __init__(self, recordings: Sequence[Recording], options: ReplayOptions, port: int) -> None:
        super().__init__(daemon=True)
        fields = {name: getattr(options, name) for name in options.__slots__}
        endpoint = Endpoint("127.0.0.1", port, "replay")
        self._options = ReplayOptions(**(fields | {"endpoint": endpoint, "start_ms": START_MS}))
        self._recordings = recordings
        self._report: ReplayReport | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._report = asyncio.run(replay(self._recordings, self._options))
        except BaseException as exc:
            self._error = exc

    def result(self, timeout_s: float) -> ReplayReport:
        """The report of the replay, once it is complete."""
        self.join(timeout_s)
        if self._error is not None:
            raise self._error
        assert self._report is not None, "the replay did not end"
        return self._report

"""Keeps in the log what a recorder beside the gateway has not recorded yet.

The recorder (`kpstream record`) is a process of its own, and only the gateway may tell the log what
has to stay. So the gateway reads the positions of the recorder every few seconds, and commits them
for a group of the log. The group is a soft one: a recorder that is away never stops the gateway,
because above 80 % of the log's cap the oldest records that only it still needs are deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest.clock import steady_ms as process_steady_ms
from ingest.topics import READINGS
from pipeline.errors import LogError, RecorderError
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_ends
from pipeline.recording.positions import RecordedPositions, read_positions

__all__ = ["RecordingHold", "recording_group"]

log = logging.getLogger(__name__)

_EVERY_S = 5.0
_ABSENT_MS = 24 * 3_600_000
"""Time without a change of the positions after which nothing is kept for the recorder."""


def recording_group(app_id: str) -> str:
    """Return the group of the recorder.

    >>> recording_group("kpstream")
    'kpstream-record'
    """
    return f"{app_id}-record"


class RecordingHold:
    """Commits the positions of a recorder in the log; one per gateway."""

    def __init__(
        self,
        log_file: SqliteLog,
        group: str,
        folder: Path,
        steady_ms: Callable[[], int] = process_steady_ms,
    ) -> None:
        """Prepare.

        Args:
            log_file: The log.
            group: Group of the recorder.
            folder: Folder of the recordings; it need not exist.
            steady_ms: Monotonic milliseconds.
        """
        self.group = group
        self._log = log_file
        self._folder = folder
        self._steady_ms = steady_ms
        self._seen: RecordedPositions | None = None
        self._changed_ms = steady_ms()
        self._is_held = False
        self._committed: dict[tuple[str, int], int] = {}
        self._was_said = False

    def status(self) -> dict[str, Any]:
        """Return what `/health` shows."""
        if not self._is_held:
            return {"recorder": "none"}
        offsets = self._log.group_offsets(self.group)
        behind = sum(at.end - (at.committed or at.earliest) for at in offsets)
        return {"recorder": str(self._folder), "backlog": behind}

    async def run(self) -> None:
        """Follow the recorder until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.update)
            except (LogError, RecorderError) as exc:
                if not self._was_said:
                    log.warning("cannot tell what the recorder still needs: %s", exc)
                self._was_said = True
            await asyncio.sleep(_EVERY_S)

    def update(self) -> None:
        """Commit the positions of the recorder, or let go of what is kept for it.

        Raises:
            RecorderError: The positions are damaged.
            LogError: The log does not take the change.
        """
        found = read_positions(self._folder)
        if found != self._seen:
            self._seen, self._changed_ms = found, self._steady_ms()
        if found is None or found.source != peek_ends(self._log.path, READINGS)[0]:
            self._let_go()
        elif self._steady_ms() - self._changed_ms > _ABSENT_MS:
            if self._is_held:
                log.warning(
                    "the recorder of %s has recorded nothing for a day: the log keeps nothing for "
                    "it any more",
                    self._folder,
                )
            self._let_go()
        else:
            self._hold(found)

    def _hold(self, found: RecordedPositions) -> None:
        if not self._is_held:
            self._log.register_group(self.group, [READINGS]).result()
            self._is_held = True
        offsets: dict[tuple[str, int], int] = {}
        for partition in range(self._log.topic_partitions(READINGS) or 0):
            at = found.positions.get(f"{READINGS}/{partition}")
            if at is not None:
                end = self._log.end_offset(READINGS, partition)
                offsets[READINGS, partition] = min(at, end)
        if offsets != self._committed:
            self._log.commit(self.group, offsets).result()
            self._committed = offsets

    def _let_go(self) -> None:
        if self.group in self._log.groups():
            self._log.drop_group(self.group).result()
        self._is_held, self._committed = False, {}

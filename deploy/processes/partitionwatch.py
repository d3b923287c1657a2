"""Watch over the partitions of an app on Kafka; ends the process when one makes no progress.

Kafka itself reports the end of each partition, because the offsets that the app has fetched prove
nothing if fetching is stuck. While Kafka does not answer, no partition counts as stalled. After a
pause of this process (frozen, or in a rebalance) the watch is reset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from deploy.processes.lifecycle import PartFailed
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaProbe
from pipeline.log.kafkatransport import offsets_in_use
from pipeline.status.progress import PartitionProgress, ProgressTracker, stalled_partitions

__all__ = ["PartitionWatch"]

_EVERY_S = 1.0
_PAUSE_S = 5.0
_JOIN_S = 180.0


class PartitionWatch:
    """Checks the partitions once a second, from :meth:`run`.

    Attributes:
        away_since_ms: Start of Kafka's current outage, epoch milliseconds; None while it answers.
    """

    def __init__(
        self,
        app: Any,
        probe: KafkaProbe,
        now_ms: Callable[[], int],
        *,
        stall_s: float,
        is_excused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare.

        Args:
            app: A Faust app on Kafka.
            probe: Asks Kafka for offsets; closed at the end of `run`.
            now_ms: Processing time, epoch milliseconds.
            stall_s: Seconds with a backlog and no progress after which the process ends.
            is_excused: Returns whether the app cannot make progress for reasons outside it.
        """
        self.away_since_ms: int | None = None
        self._away_s: float | None = None
        self._app = app
        self._probe = probe
        self._now_ms = now_ms
        self._stall_s = stall_s
        self._is_excused = is_excused
        self._generation = 0
        self._checked_s = 0.0
        self._idle_since_s = time.monotonic()
        self._tracker = ProgressTracker()
        self._progress: list[PartitionProgress] = []

    def partitions(self) -> list[PartitionProgress]:
        """Return the progress as of the last check."""
        return self._progress

    def stalled(self) -> list[PartitionProgress]:
        """Return the partitions without progress for half of `stall_s`; these are a problem."""
        half_ms = round(self._stall_s * 1000 / 2)
        return stalled_partitions(self._tracker.current(), half_ms)

    def away_for_s(self) -> float | None:
        """Return the duration of Kafka's current outage; None while it answers."""
        return None if self._away_s is None else time.monotonic() - self._away_s

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            PartFailed: A partition, or joining the group, has made no progress for too long.
        """
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                await self._check()
        finally:
            await self._probe.close()

    async def _check(self) -> None:
        now_ms, now_s = self._now_ms(), time.monotonic()
        app = self._app
        if app.rebalancing or not app.has_joined:
            await self._check_that_it_joins(now_s)
            return
        found = offsets_in_use(app)
        try:
            ends = await self._probe.ends(found)
        except LogUnavailable:
            if self._away_s is None:
                self.away_since_ms, self._away_s = now_ms, now_s
            self._reset()
            return
        self.away_since_ms = self._away_s = None
        if app.consumer_generation_id != self._generation or now_s - self._checked_s > _PAUSE_S:
            self._reset()
        self._checked_s = self._idle_since_s = time.monotonic()
        for (topic, partition), (position, committed) in found.items():
            end = ends.get((topic, partition), 0)
            self._tracker.observe(
                app.conf.id,
                topic,
                partition,
                end_offset=end,
                position=max(position or 0, committed or 0),
                committed=committed,
                now_ms=now_ms,
                steady_ms=round(now_s * 1000),
            )
        self._progress = self._tracker.current()
        if self._is_excused():
            self._reset()
        for p in stalled_partitions(self._tracker.current(), round(self._stall_s * 1000)):
            msg = (
                f"{p.topic}[{p.partition}] has made no progress for {self._stall_s:.0f} s with a "
                f"backlog of {p.backlog} records, although Kafka answers; a restart resumes from "
                f"offset {p.committed}"
            )
            raise PartFailed(msg)

    async def _check_that_it_joins(self, now_s: float) -> None:
        """End the process if it gets no partitions, because then it makes no progress either.

        Raises:
            PartFailed: No partitions for too long, though Kafka answers.
        """
        self._reset()
        limit_s = max(_JOIN_S, self._stall_s)
        if now_s - self._idle_since_s < limit_s:
            return
        try:
            await self._probe.ends([("readings", 0)])
        except LogUnavailable:
            self._idle_since_s = now_s
            return
        msg = f"no partitions for {limit_s:.0f} s, although Kafka answers; a restart joins again"
        raise PartFailed(msg)

    def _reset(self) -> None:
        self._generation = self._app.consumer_generation_id
        self._tracker = ProgressTracker()

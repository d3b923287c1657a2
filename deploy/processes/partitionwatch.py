"""Watches how far an app on Kafka is in its partitions, and ends its process when one stands still.

Where a partition ends is asked of Kafka itself: what the app has fetched says nothing when it is
the fetching that is stuck. While Kafka does not answer, nobody stands still but Kafka; and after a
pause of our own (a frozen process, a rebalance) the watch begins anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from deploy.processes.lifecycle import PartFailed
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaProbe
from pipeline.log.kafkatransport import offsets_in_use
from pipeline.status.progress import PartitionProgress, ProgressTracker, stalled_partitions

__all__ = ["PartitionWatch"]

_EVERY_S = 1.0
_HELD_UP_S = 5.0
_JOIN_S = 180.0


class PartitionWatch:
    """Looks once a second, from `run`.

    Attributes:
        away_since_ms: since when Kafka does not answer, epoch ms; None while it does.
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
            app: a Faust app on Kafka.
            probe: asks Kafka; closed at the end of `run`.
            now_ms: the clock, epoch milliseconds.
            stall_s: a partition with lag that has not moved for so long ends the process.
            is_excused: whether standing still is somebody else's fault now.
        """
        self.away_since_ms: int | None = None
        self._app = app
        self._probe = probe
        self._now_ms = now_ms
        self._stall_s = stall_s
        self._is_excused = is_excused
        self._generation = 0
        self._looked_s = 0.0
        self._idle_since_s = time.monotonic()
        self._tracker = ProgressTracker()
        self._seen: list[PartitionProgress] = []

    def partitions(self) -> list[PartitionProgress]:
        """As they were at the last look."""
        return self._seen

    def stalled(self) -> list[PartitionProgress]:
        """Those that have stood still for half of what ends the process: a problem by now."""
        half_ms = round(self._stall_s * 1000 / 2)
        return stalled_partitions(self._tracker.current(), self._now_ms(), half_ms)

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            PartFailed: A partition, or joining the group, has made no progress for too long.
        """
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                await self._look()
        finally:
            await self._probe.close()

    async def _look(self) -> None:
        now_ms, now_s = self._now_ms(), time.monotonic()
        app = self._app
        if app.rebalancing or not app.has_joined:
            await self._see_that_it_joins(now_s)
            return
        found = offsets_in_use(app)
        try:
            ends = await self._ends(found)
        except LogUnavailable:
            self.away_since_ms = self.away_since_ms or now_ms
            self._begin_anew()
            return
        self.away_since_ms = None
        if app.consumer_generation_id != self._generation or now_s - self._looked_s > _HELD_UP_S:
            self._begin_anew()
        self._looked_s = self._idle_since_s = time.monotonic()
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
            )
        self._seen = self._tracker.current()
        if self._is_excused():
            self._begin_anew()
        for p in stalled_partitions(self._tracker.current(), now_ms, round(self._stall_s * 1000)):
            msg = (
                f"{p.topic}[{p.partition}] has not moved for {self._stall_s:.0f} s with "
                f"{p.backlog} records waiting, though Kafka answers: a restart goes on from "
                f"{p.committed}"
            )
            raise PartFailed(msg)

    async def _see_that_it_joins(self, now_s: float) -> None:
        """Partitions that nobody has don't move either."""
        self._begin_anew()
        limit_s = max(_JOIN_S, self._stall_s)
        if now_s - self._idle_since_s < limit_s:
            return
        try:
            await self._ends({("readings", 0): (None, None)})
        except LogUnavailable:
            self._idle_since_s = now_s
            return
        msg = f"no partitions for {limit_s:.0f} s, though Kafka answers: a restart joins anew"
        raise PartFailed(msg)

    def _begin_anew(self) -> None:
        self._generation = self._app.consumer_generation_id
        self._tracker = ProgressTracker()

    async def _ends(self, found: Mapping[tuple[str, int], Any]) -> dict[tuple[str, int], int]:
        ends = {}
        for topic in {topic for topic, _ in found}:
            wanted = [partition for name, partition in found if name == topic]
            for partition, end in (await self._probe.end_offsets(topic, wanted)).items():
                ends[topic, partition] = end
        return ends

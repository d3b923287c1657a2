"""The state of a running gateway for its console, read from the parts in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from deploy.processes.totals import process_totals
from ingest.bridge import Bridge
from ingest.clock import PROCESS_CLOCK, steady_ms
from pipeline.app import ScoringApp, StoreApp
from pipeline.log.archive import ArchiveStats
from pipeline.log.locallog import SqliteLog
from pipeline.scoring.students import Students
from pipeline.status.counters import DeviceAccount, Totals
from pipeline.status.health import HealthReport, health_report
from pipeline.status.progress import PartitionProgress, ProgressTracker
from pipeline.status.view import ModelStatus, ReleaseStatus

__all__ = ["RunningGateway", "archive_report"]

_SHOWN_SENDERS = 1000


class RunningGateway:
    """Implements ``pipeline.status.view.GatewayView`` over the parts of one gateway process."""

    def __init__(
        self,
        bridge: Bridge,
        scoring: ScoringApp,
        stores: Sequence[StoreApp],
        students: Students,
        log: SqliteLog,
        clock: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            bridge: The bridge.
            scoring: The scoring app.
            stores: The store apps; the first one writes the results file.
            students: The students.
            log: The log.
            clock: Processing time, epoch milliseconds.
        """
        self._bridge = bridge
        self._scoring = scoring
        self._stores = stores
        self._students = students
        self._log = log
        self._clock = clock
        self.also: dict[str, Callable[[], Any]] = {}
        """Further parts of the health report: name -> function that returns its state."""
        self.release_of: Callable[[str], ReleaseStatus | None] = lambda _name: None
        """The release of a centre that a student follows; None if it follows none."""
        self.is_starting = True
        """Whether the bridge has not begun yet."""
        self._tracker = ProgressTracker()

    def account(self) -> list[DeviceAccount]:
        """Return one account per stream of a device."""
        return self._scoring.stage.devices.accounts()

    def totals(self) -> Totals:
        """Sum over the devices, the bridge, the scoring stage and the store of the results file."""
        return process_totals(
            self._scoring.stage.devices.totals(),
            steady_ms(),
            bridge=self._bridge,
            scoring=self._scoring,
            store=self._stores[0],
        )

    def partitions(self) -> list[PartitionProgress]:
        """Observe the progress of every consumer group."""
        now, steady = self._clock(), steady_ms()
        groups = [part.app.conf.id for part in self._stores]
        for group in (self._scoring.app.conf.id, *groups):
            for seen in self._log.group_offsets(group):
                done = seen.earliest if seen.committed is None else seen.committed
                self._tracker.observe(
                    group,
                    seen.topic,
                    seen.partition,
                    end_offset=seen.end,
                    position=done,
                    committed=seen.committed,
                    now_ms=now,
                    steady_ms=steady,
                )
        return self._tracker.current()

    def models(self) -> list[ModelStatus]:
        """Return the running students, and the versions that were refused."""
        found = self._scoring.stage.counters.statuses(self._students.statuses())
        return [replace(model, release=self.release_of(model.name)) for model in found]

    def health(self) -> HealthReport:
        """Return whether the gateway is alive and ready, and the problems if not."""
        bridge = self._bridge.health()
        counters = self._scoring.stage.counters
        log = self._log.stats()
        recovery = self._scoring.recovery
        recovering = None if self.is_starting and not recovery.devices else recovery.problem
        return health_report(
            partitions=self.partitions(),
            is_starting=self.is_starting,
            bridge_connected=bridge.connected,
            bridge_running=bridge.running,
            bridge_error=bridge.error,
            bridge_notices=bridge.notices,
            clock_problem=bridge.clock_problem,
            log_failing_s=bridge.log_unavailable_s,
            log_fill=log.stored_bytes / log.max_bytes,
            writer_error=log.failure,
            state_problems=() if recovering is None else (recovering,),
            models_without_student=self._students.models.models_without_student(),
            parts={
                "bridge": asdict(bridge),
                "clock": asdict(PROCESS_CLOCK.state()),
                "log": {
                    "stored_records": log.stored_records,
                    "stored_bytes": log.stored_bytes,
                    "max_bytes": log.max_bytes,
                    "file_bytes": log.file_bytes,
                    "commits": log.commits,
                    "longest_commit_seconds": round(log.longest_commit_seconds, 3),
                    "refused": log.refused,
                    "released": log.released,
                    "accepted_lost": log.accepted_lost,
                    "is_checking": log.is_checking,
                },
                "archive": archive_report(self._log.archive()),
                "line": {
                    "records": counters.records,
                    "micro_batches": counters.batches,
                    "checkpoints": counters.checkpoints,
                    "apply_seconds": round(counters.apply_seconds, 3),
                    "score_seconds": round(counters.score_seconds, 3),
                    "unscored": counters.unscored,
                    "devices_begun_anew": self._scoring.stage.devices.reset_total,
                    "devices_removed": self._scoring.stage.devices.removed_total,
                },
            }
            | {f"store-{part.name}": part.stage.problem or "ok" for part in self._stores}
            | {name: status() for name, status in self.also.items()},
        )


def archive_report(found: ArchiveStats) -> dict[str, Any]:
    """Return what `/health` says of the topics without a reader, such as the dead letters.

    `evicted_by` lists topic, sender and number of records, those with most first.
    """
    state = "ok"
    if found.greediest is not None:
        topic, sender, size = found.greediest
        state = (
            f"{found.evicted} of the oldest records were deleted, because {sender or 'one sender'} "
            f"fills {topic} ({size / 1e6:.1f} MB of {found.max_bytes / 1e6:.1f} MB): stop what it "
            "sends"
        )
    return {
        "state": state,
        "stored_bytes": found.stored_bytes,
        "max_bytes": found.max_bytes,
        "evicted": found.evicted,
        "evicted_by": [
            [topic, sender, count]
            for (topic, sender), count in list(found.evicted_by.items())[:_SHOWN_SENDERS]
        ],
    }

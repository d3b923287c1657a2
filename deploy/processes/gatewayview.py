"""What a running gateway tells its console page: filled from the parts, from memory only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ingest.bridge import Bridge
from pipeline.app import ScoringApp, StoreApp
from pipeline.log.locallog import SqliteLog
from pipeline.scoring.rollover import ModelWatch
from pipeline.status.counters import DeviceAccount, Totals, sum_accounts
from pipeline.status.health import HealthReport, health_report
from pipeline.status.progress import PartitionProgress, ProgressTracker
from pipeline.status.view import ModelStatus

__all__ = ["RunningGateway"]


class RunningGateway:
    """Implements ``pipeline.status.view.GatewayView`` over the parts of one gateway process."""

    def __init__(
        self,
        bridge: Bridge,
        scoring: ScoringApp,
        stores: Sequence[StoreApp],
        models: ModelWatch,
        log: SqliteLog,
        clock: Callable[[], int],
    ) -> None:
        self._bridge = bridge
        self._scoring = scoring
        self._stores = stores
        self._models = models
        self._log = log
        self._clock = clock
        self.also: dict[str, Callable[[], Any]] = {}
        """Further parts of the health report: name -> what it says now."""
        self._tracker = ProgressTracker()

    def account(self) -> list[DeviceAccount]:
        """One record per stream of a device."""
        return self._scoring.stage.devices.accounts()

    def totals(self) -> Totals:
        """Sums over the devices, the bridge, the scores and the stores."""
        now = self._clock()
        line = self._scoring.stage.counters
        bridge = self._bridge.counters
        letters = dict(line.dead_letters)
        for reason, count in bridge.dead_lettered_total.items():
            letters[reason.value] = letters.get(reason.value, 0) + count
        local = self._stores[0].counters
        return replace(
            sum_accounts(self.account()),
            messages_received=bridge.received_total,
            messages_logged=bridge.logged_total,
            messages_dead_lettered=bridge.dead_lettered_total.total(),
            dead_letters=letters,
            scored=line.scored,
            unscored=line.unscored,
            stored=local.stored,
            refused_points=local.refused,
            sensor_to_score=line.sensor_to_score.summary(now),
            receive_to_score=line.receive_to_score.summary(now),
            sensor_to_stored=local.sensor_to_stored.summary(now),
        )

    def partitions(self) -> list[PartitionProgress]:
        """How far every consumer group is, observed now."""
        now = self._clock()
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
                )
        return self._tracker.current()

    def models(self) -> list[ModelStatus]:
        """The running students and what was refused."""
        return self._models.statuses()

    def health(self) -> HealthReport:
        """Alive, ready, and why not."""
        bridge = self._bridge.health()
        line = self._scoring.stage.counters
        log = self._log.stats()
        return health_report(
            now_ms=self._clock(),
            partitions=self.partitions(),
            bridge_connected=bridge.connected,
            bridge_running=bridge.running,
            bridge_error=bridge.error,
            log_failing_since_ms=bridge.log_unavailable_since_ms,
            log_fill=log.stored_bytes / log.max_bytes,
            writer_error=log.failure,
            models_without_student=self._models.models_without_student(),
            parts={
                "bridge": asdict(bridge),
                "log": {
                    "stored_records": log.stored_records,
                    "stored_bytes": log.stored_bytes,
                    "max_bytes": log.max_bytes,
                    "file_bytes": log.file_bytes,
                    "commits": log.commits,
                    "longest_commit_seconds": round(log.longest_commit_seconds, 3),
                    "refused": log.refused,
                    "released": log.released,
                },
                "line": {
                    "records": line.records,
                    "micro_batches": line.batches,
                    "checkpoints": line.checkpoints,
                    "apply_seconds": round(line.apply_seconds, 3),
                    "score_seconds": round(line.score_seconds, 3),
                    "unscored": line.unscored,
                    "devices_begun_anew": self._scoring.stage.devices.reset_total,
                },
            }
            | {f"store-{part.name}": part.stage.problem or "ok" for part in self._stores}
            | {name: tell() for name, tell in self.also.items()},
        )

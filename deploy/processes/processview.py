"""The state of a bridge, worker or store of a site, read from its parts in memory.

Implements ``pipeline.status.view.GatewayView``, so that pages, metrics and accounts are the same as
those of a gateway; parts that a process does not have count as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from deploy.processes.partitionwatch import PartitionWatch
from ingest.bridge import Bridge
from pipeline.app import ScoringApp, StoreApp
from pipeline.scoring.students import Students
from pipeline.status.counters import DeviceAccount, Totals, sum_accounts
from pipeline.status.health import HealthReport
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import Measure, ModelStatus

__all__ = ["ProcessView"]


class ProcessView:
    """One process of a site; its parts are set as they come into being.

    Attributes:
        waiting_for: what it waits for before its work can begin; None once it has begun.
        bridge: of a bridge.
        scoring: of a worker.
        students: of a worker.
        store: of a store.
        watch: of a worker or store.
        also: further parts of the health report: name -> what it says now.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.waiting_for: str | None = "it has not started"
        self.bridge: Bridge | None = None
        self.scoring: ScoringApp | None = None
        self.students: Students | None = None
        self.store: StoreApp | None = None
        self.watch: PartitionWatch | None = None
        self.also: dict[str, Callable[[], Any]] = {}
        self._now_ms = now_ms

    def account(self) -> list[DeviceAccount]:
        """The devices whose partitions a worker has; empty for others."""
        return [] if self.scoring is None else self.scoring.stage.devices.accounts()

    def totals(self) -> Totals:
        """Sums over the parts there are."""
        now = self._now_ms()
        totals = sum_accounts(self.account())
        letters: dict[str, int] = {}
        if self.bridge is not None:
            counted = self.bridge.counters
            letters = {reason.value: n for reason, n in counted.dead_lettered_total.items()}
            totals = replace(
                totals,
                messages_received=counted.received_total,
                messages_logged=counted.logged_total,
                messages_dead_lettered=counted.dead_lettered_total.total(),
            )
        if self.scoring is not None:
            line = self.scoring.stage.counters
            letters = dict(line.dead_letters)
            totals = replace(
                totals,
                scored=line.scored,
                unscored=line.unscored,
                sensor_to_score=line.sensor_to_score.summary(now),
                receive_to_score=line.receive_to_score.summary(now),
            )
        if self.store is not None:
            stored = self.store.counters
            letters = dict(stored.dead_letters)
            totals = replace(
                totals,
                stored=stored.stored,
                refused_points=stored.refused,
                sensor_to_stored=stored.sensor_to_stored.summary(now),
            )
        return replace(totals, dead_letters=letters)

    def partitions(self) -> list[PartitionProgress]:
        """The partitions that a worker or store has now."""
        return [] if self.watch is None else self.watch.partitions()

    def models(self) -> list[ModelStatus]:
        """What runs in a worker."""
        return [] if self.students is None else self.students.models.statuses()

    def health(self) -> HealthReport:
        """Alive, ready, and why not."""
        problems = list(self._problems())
        return HealthReport(
            alive=True, ready=not problems, problems=tuple(problems), parts=self._parts()
        )

    def measures(self) -> list[Measure]:
        """What only this kind of process measures."""
        found = []
        if self.scoring is not None:
            line = self.scoring.stage.counters
            found += [
                Measure("readings_applied_total", "Readings windowed by it.", line.readings, True),
                Measure("records_total", "Records of the log applied.", line.records, True),
                Measure("checkpoints_total", "Checkpoints.", line.checkpoints, True),
                Measure("apply_seconds_total", "Time in windowing.", line.apply_seconds, True),
                Measure("score_seconds_total", "Time in students.", line.score_seconds, True),
            ]
            changelog = self.scoring.changelog
            if changelog is not None:
                about = "Time to read window state, the last time."
                found += [
                    Measure("recoveries_total", "Readings of state.", changelog.opened_total, True),
                    Measure("recovery_seconds", about, changelog.open_seconds),
                    Measure("recovery_rows", "Rows read the last time.", changelog.rows_read),
                ]
        app = self.scoring or self.store
        if app is not None:
            count = app.app.rebalancing_count
            found.append(Measure("rebalances_total", "Rebalances of its group.", count, True))
        return found

    def _problems(self) -> Iterator[str]:
        if self.waiting_for is not None:
            yield f"waiting for {self.waiting_for}"
            return
        now = self._now_ms()
        if self.bridge is not None:
            bridge = self.bridge.health()
            if bridge.log_unavailable_since_ms is not None:
                seconds = (now - bridge.log_unavailable_since_ms) // 1000
                yield f"Kafka does not confirm since {seconds} s; messages wait in the broker"
            if not bridge.connected:
                yield bridge.error or "not connected to the MQTT broker; is it running?"
        if self.students is not None:
            for name in self.students.models.models_without_student():
                yield f"no student runs for model {name}; publish a version to the registry"
        yield from self._about_partitions(now)

    def _about_partitions(self, now_ms: int) -> Iterator[str]:
        app = self.scoring or self.store
        if app is None or self.watch is None:
            return
        changelog = None if self.scoring is None else self.scoring.changelog
        if changelog is not None and changelog.is_opening:
            yield "reading the window state of its partitions"
        elif app.app.rebalancing or not app.app.has_joined:
            yield "its group is being rebalanced"
        if self.watch.away_since_ms is not None:
            yield f"Kafka does not answer since {(now_ms - self.watch.away_since_ms) // 1000} s"
        if self.store is not None and self.store.stage.problem is not None:
            yield self.store.stage.problem
        for progress in self.watch.stalled():
            yield progress.describe_stall(now_ms)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        if self.bridge is not None:
            parts["bridge"] = asdict(self.bridge.health())
        app = self.scoring or self.store
        if app is not None:
            parts["group"] = {
                "id": app.app.conf.id,
                "rebalances": app.app.rebalancing_count,
                "rebalancing": app.app.rebalancing,
                "partitions": sorted({p.partition for p in self.partitions()}),
            }
        if self.scoring is not None:
            line = self.scoring.stage.counters
            parts["line"] = {
                "records": line.records,
                "readings": line.readings,
                "checkpoints": line.checkpoints,
                "scored": line.scored,
                "unscored": line.unscored,
                "devices": len(self.scoring.stage.devices),
                "devices_begun_anew": self.scoring.stage.devices.reset_total,
            }
            if self.scoring.changelog is not None:
                parts["state"] = {
                    "opened": self.scoring.changelog.opened_total,
                    "seconds": round(self.scoring.changelog.open_seconds, 3),
                    "rows_read": self.scoring.changelog.rows_read,
                }
        if self.store is not None:
            stored = self.store.counters
            parts["store"] = {
                "stored": stored.stored,
                "refused": stored.refused,
                "unreadable": stored.unreadable,
                "away_since_ms": self.store.stage.away_since_ms,
            }
        return parts | {name: say() for name, say in self.also.items()}

"""The state of a bridge, worker or store of a site, read from its parts in memory.

Implements ``pipeline.status.view.GatewayView``, so pages, metrics and accounts match those of a
gateway. Parts that a process does not have count as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from deploy.processes.partitionwatch import PartitionWatch
from deploy.processes.totals import process_totals
from ingest.bridge import Bridge
from ingest.clock import PROCESS_CLOCK, steady_ms
from pipeline.app import ScoringApp, StoreApp
from pipeline.explain.alerts import AlertExplainer
from pipeline.scoring.students import Students
from pipeline.status.counters import DeviceAccount, Totals
from pipeline.status.health import HealthReport
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import Measure, ModelStatus

__all__ = ["ProcessView"]


class ProcessView:
    """The state of one process of a site; its parts are set when they are created.

    Attributes:
        waiting_for: Reason why the work has not begun; None once it has.
        bridge: Part of a bridge.
        scoring: Part of a worker.
        students: Part of a worker.
        store: Part of a store.
        watch: Part of a worker or store.
        alerts: Part of a worker.
        also: Further parts of the health report: name -> function that returns its state.
    """

    def __init__(self) -> None:
        """Start without any part."""
        self.waiting_for: str | None = "it has not started"
        self.bridge: Bridge | None = None
        self.scoring: ScoringApp | None = None
        self.students: Students | None = None
        self.store: StoreApp | None = None
        self.watch: PartitionWatch | None = None
        self.alerts: AlertExplainer | None = None
        self.also: dict[str, Callable[[], Any]] = {}

    def account(self) -> list[DeviceAccount]:
        """Return the accounts of the devices whose partitions a worker owns; empty for others."""
        return [] if self.scoring is None else self.scoring.stage.devices.accounts()

    def totals(self) -> Totals:
        """Sum over the parts that the process has."""
        scoring = self.scoring
        totals = process_totals(
            Totals() if scoring is None else scoring.stage.devices.totals(),
            steady_ms(),
            bridge=self.bridge,
            scoring=self.scoring,
            store=self.store,
        )
        if self.store is None:
            return totals
        return replace(totals, dead_letters=dict(self.store.counters.dead_letters))

    def partitions(self) -> list[PartitionProgress]:
        """Return the progress of the partitions that a worker or store owns."""
        return [] if self.watch is None else self.watch.partitions()

    def models(self) -> list[ModelStatus]:
        """Return the students that run in a worker."""
        if self.students is None:
            return []
        models = self.students.models.statuses()
        return models if self.scoring is None else self.scoring.stage.counters.statuses(models)

    def health(self) -> HealthReport:
        """Return whether the process is alive and ready, and the problems if not."""
        problems = list(self._problems())
        return HealthReport(
            alive=True,
            ready=not problems,
            problems=tuple(problems),
            parts=self._parts(),
            notices=() if self.bridge is None else self.bridge.health().notices,
        )

    def measures(self) -> list[Measure]:
        """Return the metrics that only this kind of process has."""
        found = [] if self.alerts is None else self.alerts.measures()
        if self.scoring is not None:
            counters = self.scoring.stage.counters
            found += [
                Measure(
                    "readings_applied_total", "Readings added to windows.", counters.readings, True
                ),
                Measure("records_total", "Records of the log processed.", counters.records, True),
                Measure("checkpoints_total", "Checkpoints written.", counters.checkpoints, True),
                Measure(
                    "apply_seconds_total",
                    "Seconds spent in windowing.",
                    counters.apply_seconds,
                    True,
                ),
                Measure(
                    "score_seconds_total",
                    "Seconds spent in students.",
                    counters.score_seconds,
                    True,
                ),
            ]
            changelog = self.scoring.changelog
            if changelog is not None:
                about = "Seconds of the last recovery of window state."
                found += [
                    Measure(
                        "recoveries_total",
                        "Recoveries of window state.",
                        changelog.opened_total,
                        True,
                    ),
                    Measure("recovery_seconds", about, changelog.open_seconds),
                    Measure(
                        "recovery_rows", "Rows read in the last recovery.", changelog.rows_read
                    ),
                ]
        app = self.scoring or self.store
        if app is not None:
            count = app.app.rebalancing_count
            found.append(
                Measure("rebalances_total", "Rebalances of the consumer group.", count, True)
            )
        return found

    def _problems(self) -> Iterator[str]:
        if self.waiting_for is not None:
            yield f"waiting for {self.waiting_for}"
            return
        if self.bridge is not None:
            bridge = self.bridge.health()
            if bridge.clock_problem is not None:
                yield bridge.clock_problem
            if (seconds := bridge.log_unavailable_s) is not None:
                yield f"Kafka has confirmed nothing for {seconds} s; messages wait in the broker"
            if not bridge.connected:
                yield bridge.error or "not connected to the MQTT broker"
        if self.students is not None:
            for name in self.students.models.models_without_student():
                yield f"no student runs for model {name}; publish a version to the registry"
        yield from self._partition_problems()

    def _partition_problems(self) -> Iterator[str]:
        app = self.scoring or self.store
        if app is None or self.watch is None:
            return
        changelog = None if self.scoring is None else self.scoring.changelog
        recovering = None if self.scoring is None else self.scoring.recovery.problem
        if recovering is not None:
            yield recovering
        elif changelog is not None and changelog.is_opening:
            yield "reading the window state of its partitions"
        elif app.app.rebalancing or not app.app.has_joined:
            yield "the consumer group is being rebalanced"
        if (away_s := self.watch.away_for_s()) is not None:
            yield f"Kafka has not answered for {away_s:.0f} s"
        if self.store is not None and self.store.stage.problem is not None:
            yield self.store.stage.problem
        for progress in self.watch.stalled():
            yield progress.describe_stall()

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"clock": asdict(PROCESS_CLOCK.state())}
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
            counters = self.scoring.stage.counters
            parts["line"] = {
                "records": counters.records,
                "readings": counters.readings,
                "checkpoints": counters.checkpoints,
                "scored": counters.scored,
                "unscored": counters.unscored,
                "devices": len(self.scoring.stage.devices),
                "devices_begun_anew": self.scoring.stage.devices.reset_total,
                "devices_removed": self.scoring.stage.devices.removed_total,
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
        return parts | {name: status() for name, status in self.also.items()}

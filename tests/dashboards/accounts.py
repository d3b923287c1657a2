"""What one process of the line says of itself, as points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.points import (
    DEAD_LETTERS,
    LAG,
    MODEL,
    FieldValue,
    Point,
    device_point,
    gateway_point,
    rollout_point,
)
from pipeline.rollover import Change
from pipeline.status import DeviceAccount, HealthReport, ModelStatus, PartitionProgress, Totals

_COUNTERS = ("received", "windowed", "duplicate", "late", "dead_lettered", "gaps", "windows")


@dataclass(frozen=True)
class Process:
    name: str
    role: str
    started_ms: int
    health: HealthReport
    now_ms: int

    def points(
        self,
        totals: Totals,
        accounts: Sequence[DeviceAccount] = (),
        partitions: Sequence[PartitionProgress] = (),
        models: Sequence[ModelStatus] = (),
    ) -> list[Point]:
        return [
            gateway_point(self.name, self.role, self._fields(totals), self.now_ms),
            *(self._device(account) for account in accounts),
            *(self._lag(progress) for progress in partitions),
            *(self._model(model) for model in models),
            *(
                Point(
                    DEAD_LETTERS.name,
                    (("gateway", self.name), ("reason", reason)),
                    (("count", count),),
                    self.now_ms * 1_000_000,
                )
                for reason, count in totals.dead_letters.items()
            ),
        ]

    def mark(self, change: Change) -> Point:
        stream = {"rul-fd001": "engine"}.get(change.name, "imu")
        text = f"{change.name} v{change.version} {change.what}"
        return rollout_point(
            self.name, change.name, stream, change.what, change.version or 0, text, self.now_ms
        )

    def _fields(self, totals: Totals) -> dict[str, FieldValue]:
        up_ms = self.now_ms - self.started_ms
        fields: dict[str, FieldValue] = {
            "alive": int(self.health.alive),
            "ready": int(self.health.ready),
            "problems": "; ".join(self.health.problems),
            "started_ms": self.started_ms,
            "rss_bytes": 150_000_000 + up_ms,
            "cpu_ms": up_ms // 10,
        }
        if self.role == "bridge":
            fields["connected"] = int(self.health.ready)
            for name in ("messages_received", "messages_logged", "messages_dead_lettered"):
                fields[name] = getattr(totals, name)
        if self.role == "worker":
            for name in (*_COUNTERS, "scored", "unscored"):
                fields[name] = getattr(totals, name)
            for span in ("sensor_to_score", "receive_to_score"):
                _add(fields, span, totals)
        if self.role == "store":
            fields["stored"], fields["refused_points"] = totals.stored, totals.refused_points
            _add(fields, "sensor_to_stored", totals)
        return fields

    def _device(self, account: DeviceAccount) -> Point:
        counters = {name: getattr(account, name) for name in _COUNTERS}
        times = {"last_event_ms": account.last_event_ms, "last_recv_ms": account.last_recv_ms}
        counters |= {name: ms for name, ms in times.items() if ms is not None}
        return device_point(account.site, account.device, account.stream, counters, self.now_ms)

    def _lag(self, progress: PartitionProgress) -> Point:
        tags = (
            ("gateway", self.name),
            ("group", progress.app),
            ("topic", progress.topic),
            ("partition", str(progress.partition)),
        )
        fields = (
            ("end_offset", progress.end_offset),
            ("committed", progress.committed or 0),
            ("backlog", progress.backlog),
            ("still_ms", self.now_ms - progress.last_advance_ms if progress.backlog else 0),
        )
        return Point(LAG.name, tags, fields, self.now_ms * 1_000_000)

    def _model(self, model: ModelStatus) -> Point:
        tags = (
            ("gateway", self.name),
            ("model", model.name),
            ("task", model.task),
            ("stream", model.stream),
        )
        refused = model.refused_version
        fields = (
            ("version", model.version or 0),
            ("healthy", int(model.version is not None and refused is None)),
            ("refused_version", refused or 0),
            ("error", model.refused_error or ""),
        )
        return Point(MODEL.name, tags, fields, self.now_ms * 1_000_000)


def _add(fields: dict[str, FieldValue], span: str, totals: Totals) -> None:
    summary = getattr(totals, span)
    for quantile in ("p50", "p99"):
        value = getattr(summary, f"{quantile}_ms")
        if value is not None:
            fields[f"{span}_{quantile}_ms"] = float(value)

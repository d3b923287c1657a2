"""Accounts: points about a process, its devices and its models, for InfluxDB.

Every process appends its account to the log topic `accounts` (`publish_accounts`), and the store
that writes scores to InfluxDB writes accounts as well. An account is a state, not an event: one
that is not appended is not missed, because the next one supersedes it. Marks of rollouts are
repeated until they are confirmed.

A value of the topic is one or more lines of InfluxDB's line protocol.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ingest.errors import LogUnavailable
from pipeline.points.lines import to_line
from pipeline.points.measurements import COUNTER_FIELDS, DEAD_LETTERS, LAG, MODEL
from pipeline.points.points import FieldValue, Point, device_point, gateway_point, rollout_point
from pipeline.status.counters import DeviceAccount, LatencySummary, Totals
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import GatewayView, ModelStatus, Snapshot

__all__ = ["Accounts", "AppendAccount", "encode_points", "publish_accounts"]

log = logging.getLogger(__name__)

AppendAccount = Callable[[bytes], Awaitable[None]]
"""`await append(value)` appends a value to the topic `accounts` and returns when the log has it. It
raises `LogUnavailable` if the log may not have it."""

_COUNTERS = tuple(field.name for field in COUNTER_FIELDS)
_BRIDGE = ("messages_received", "messages_logged", "messages_dead_lettered")
_WORKER = (*_COUNTERS, "scored", "unscored")
_STORE = ("stored", "refused_points")
_TOTALS = {
    "bridge": _BRIDGE,
    "worker": _WORKER,
    "store": _STORE,
    "gateway": (*_BRIDGE, *_WORKER, *_STORE),
}
_MAX_TEXT = 1_000
_MAX_LINES = 1_000


class Accounts:
    """The accounts of one process; devices that have not changed are left out.

    Args:
        view: The view of the process.
        gateway: Value of the tag `gateway`; each process of a site has its own.
        role: Role of the process, one of `ROLES`.
        started_ms: Start of the process, epoch milliseconds.
    """

    def __init__(self, view: GatewayView, gateway: str, role: str, started_ms: int) -> None:
        self._view = view
        self._gateway = gateway
        self._role = role
        self._started_ms = started_ms
        self._confirmed: dict[tuple[str, str, str], DeviceAccount] = {}
        self._current: dict[tuple[str, str, str], DeviceAccount] = {}
        self._confirmed_reasons: set[str] = set()
        self._current_reasons: set[str] = set()
        self._confirmed_ms = self._current_ms = started_ms
        self._models: dict[str, tuple[int | None, int | None]] | None = None
        self._marks: list[Point] = []

    def points(self, now_ms: int) -> list[Point]:
        """The account at `now_ms`, with the devices that have changed since the confirmed one.

        Until `confirm` is called, the next call returns the same changes again.
        """
        view = Snapshot.of(self._view)
        self._current_ms = now_ms
        self._current = {(a.site, a.device, a.stream): a for a in view.account()}
        totals, models = view.totals(), view.models()
        self._current_reasons = set(totals.dead_letters)
        self._mark_changes(models, now_ms)
        return [
            gateway_point(self._gateway, self._role, self._fields(view, totals), now_ms),
            *(
                _device(account, now_ms)
                for key, account in self._current.items()
                if (known := self._confirmed.get(key)) is not account and known != account
            ),
            *(self._lag(progress, now_ms) for progress in view.partitions()),
            # The counter of a reason begins at 0; otherwise its first dead letters would not show.
            *(
                self._dead_letters(reason, 0, self._confirmed_ms)
                for reason in totals.dead_letters
                if reason not in self._confirmed_reasons
            ),
            *(self._dead_letters(reason, n, now_ms) for reason, n in totals.dead_letters.items()),
            *(self._model(model, now_ms) for model in models),
            *self._marks,
        ]

    def confirm(self) -> None:
        """Confirm that the log has the points of the last call of `points`."""
        self._confirmed = self._current
        self._confirmed_reasons = self._current_reasons
        self._confirmed_ms = self._current_ms
        self._marks = []

    # -- parts of an account ----------------------------------------------------------------

    def _fields(self, view: GatewayView, totals: Totals) -> dict[str, FieldValue]:
        health = view.health()
        fields: dict[str, FieldValue] = {
            "alive": int(health.alive),
            "ready": int(health.ready),
            "problems": _one_line("; ".join(health.problems)),
            "started_ms": self._started_ms,
            "rss_bytes": _rss_bytes(),
            "cpu_ms": time.process_time_ns() // 1_000_000,
        }
        fields |= {name: getattr(totals, name) for name in _TOTALS[self._role]}
        bridge, local_log = health.parts.get("bridge"), health.parts.get("log")
        if isinstance(bridge, dict) and "connected" in bridge:
            fields["connected"] = int(bridge["connected"])
            for name in ("sessions_lost", "session_lost_ms"):
                if bridge.get(name) is not None:
                    fields[name] = bridge[name]
        if isinstance(local_log, dict) and local_log.get("max_bytes"):
            fields["log_fill"] = local_log["stored_bytes"] / local_log["max_bytes"]
        archive = health.parts.get("archive")
        if isinstance(archive, dict) and "evicted" in archive:
            fields["evicted"] = archive["evicted"]
        fields |= _quantiles("sensor_to_score", totals.sensor_to_score)
        fields |= _quantiles("receive_to_score", totals.receive_to_score)
        fields |= _quantiles("sensor_to_stored", totals.sensor_to_stored)
        return fields

    def _lag(self, progress: PartitionProgress, now_ms: int) -> Point:
        tags = (
            ("gateway", self._gateway),
            ("group", progress.app),
            ("topic", progress.topic),
            ("partition", str(progress.partition)),
        )
        fields: list[tuple[str, FieldValue]] = [
            ("end_offset", progress.end_offset),
            ("backlog", progress.backlog),
            ("still_ms", progress.still_ms),
        ]
        if progress.committed is not None:
            fields.append(("committed", progress.committed))
        return Point(LAG.name, tags, tuple(fields), now_ms * 1_000_000)

    def _dead_letters(self, reason: str, count: int, now_ms: int) -> Point:
        tags = (("gateway", self._gateway), ("reason", reason))
        return Point(DEAD_LETTERS.name, tags, (("count", count),), now_ms * 1_000_000)

    def _model(self, model: ModelStatus, now_ms: int) -> Point:
        tags = (
            ("gateway", self._gateway),
            ("model", model.name),
            ("task", model.task or "unknown"),
            ("stream", model.stream or "unknown"),
        )
        refused = model.refused_version
        fields: tuple[tuple[str, FieldValue], ...] = (
            ("version", model.version or 0),
            ("healthy", int(model.version is not None and not model.is_refused)),
            ("refused_version", refused or 0),
            ("error", _one_line(model.refused_error or "")),
        )
        return Point(MODEL.name, tags, fields, now_ms * 1_000_000)

    def _mark_changes(self, models: Sequence[ModelStatus], now_ms: int) -> None:
        """Add a mark for every model that has changed since the last account.

        The first account makes no marks, because a restart is not a rollout.
        """
        known = self._models
        self._models = {m.name: (m.version, m.refused_version) for m in models}
        if known is None:
            return
        for model in models:
            version, refused = known.get(model.name, (None, None))
            if model.version is not None and model.version != version:
                before = "" if version is None else f", before v{version}"
                self._mark(model, "swapped", model.version, before, model.since_ms or now_ms)
            if model.refused_version is not None and model.refused_version != refused:
                why = f": {model.refused_error}" if model.refused_error else ""
                self._mark(model, "refused", model.refused_version, why, now_ms)

    def _mark(self, model: ModelStatus, event: str, version: int, more: str, at_ms: int) -> None:
        text = _one_line(f"{model.name} v{version} {event}{more}")
        stream = model.stream or "unknown"
        self._marks.append(
            rollout_point(self._gateway, model.name, stream, event, version, text, at_ms)
        )


def encode_points(points: Sequence[Point]) -> Iterator[bytes]:
    """Values for the topic `accounts`, with at most a thousand points each."""
    for start in range(0, len(points), _MAX_LINES):
        yield "\n".join(map(to_line, points[start : start + _MAX_LINES])).encode()


async def publish_accounts(
    accounts: Accounts, append: AppendAccount, clock: Callable[[], int], every_ms: int
) -> None:
    """Append the account of a process every `every_ms` milliseconds, until cancelled.

    An unavailable log is logged once and is not an error: the next account supersedes this one.
    """
    was_unavailable = False
    while True:
        try:
            for value in encode_points(accounts.points(clock())):
                await append(value)
            accounts.confirm()
            was_unavailable = False
        except LogUnavailable as exc:
            if not was_unavailable:
                log.warning("the account of this process could not be appended to the log: %s", exc)
            was_unavailable = True
        await asyncio.sleep(every_ms / 1000)


def _device(account: DeviceAccount, now_ms: int) -> Point:
    """The account of a device, at a time that identifies its state.

    The time is that of the latest message, plus one nanosecond per counted event. So a state that
    is written twice is one point, and a worker that was frozen and reports an old state of a device
    that has moved to another worker does not hide the newer one.
    """
    counters = {name: getattr(account, name) for name in _COUNTERS}
    times = {"last_event_ms": account.last_event_ms, "last_recv_ms": account.last_recv_ms}
    counters |= {name: ms for name, ms in times.items() if ms is not None}
    at_ms = now_ms if account.last_recv_ms is None else account.last_recv_ms
    point = device_point(account.site, account.device, account.stream, counters, at_ms)
    counted = account.received + account.gaps + account.windows
    return replace(point, time_ns=point.time_ns + counted % 1_000_000)


def _quantiles(span: str, summary: LatencySummary) -> dict[str, FieldValue]:
    found = {f"{span}_p50_ms": summary.p50_ms, f"{span}_p99_ms": summary.p99_ms}
    return {name: float(value) for name, value in found.items() if value is not None}


def _one_line(text: str) -> str:
    r"""The text on one line, shortened to fit a panel.

    >>> _one_line("two\nlines")
    'two lines'
    """
    return " ".join(text.split())[:_MAX_TEXT].encode("utf-8", "replace").decode()


def _rss_bytes() -> int:
    """Resident memory of this process; its maximum so far where the system has no `/proc`."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

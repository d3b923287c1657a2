"""What a process says of itself, of its devices and its models: account points for the store.

Every process of the line appends them to the log topic `accounts` (`tell`); the store that writes
scores to InfluxDB writes them too. They are moments, not events: one that is not appended is not
missed, since the next one says more. Marks of rollouts are told as long as they are not confirmed.

A value of the topic is lines of InfluxDB's line protocol.
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

__all__ = ["Accounts", "AppendAccount", "encode_points", "tell"]

log = logging.getLogger(__name__)

AppendAccount = Callable[[bytes], Awaitable[None]]
"""``await append(value)`` puts a value on the topic `accounts`; returns when the log has it.
Raises `LogUnavailable` when it may not have it."""

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
_TEXT_MOST = 1_000
_LINES_MOST = 1_000


class Accounts:
    """Makes the points of one process; remembers what it has told already.

    Args:
        view: What the process knows of itself.
        gateway: Its name, the tag `gateway`; another one for each process of a site.
        role: What it does, of `ROLES`.
        started_ms: When it started, epoch milliseconds.
    """

    def __init__(self, view: GatewayView, gateway: str, role: str, started_ms: int) -> None:
        self._view = view
        self._gateway = gateway
        self._role = role
        self._started_ms = started_ms
        self._told: dict[tuple[str, str, str], DeviceAccount] = {}
        self._asked: dict[tuple[str, str, str], DeviceAccount] = {}
        self._reasons_told: set[str] = set()
        self._reasons_asked: set[str] = set()
        self._told_ms = self._asked_ms = started_ms
        self._models: dict[str, tuple[int | None, int | None]] | None = None
        self._marks: list[Point] = []

    def points(self, now_ms: int) -> list[Point]:
        """The account at `now_ms`; a device is in it only if something of it has changed.

        Until `confirm` is called, the next call says it all again.
        """
        view = Snapshot.of(self._view)
        self._asked_ms = now_ms
        self._asked = {(a.site, a.device, a.stream): a for a in view.account()}
        totals, models = view.totals(), view.models()
        self._reasons_asked = set(totals.dead_letters)
        self._notice(models, now_ms)
        return [
            gateway_point(self._gateway, self._role, self._fields(view, totals), now_ms),
            *(
                _device(account, now_ms)
                for key, account in self._asked.items()
                if self._told.get(key) != account
            ),
            *(self._lag(progress, now_ms) for progress in view.partitions()),
            # A reason's counter begins at 0, or nobody would see its first letters as new.
            *(
                self._letters(reason, 0, self._told_ms)
                for reason in totals.dead_letters
                if reason not in self._reasons_told
            ),
            *(self._letters(reason, n, now_ms) for reason, n in totals.dead_letters.items()),
            *(self._model(model, now_ms) for model in models),
            *self._marks,
        ]

    def confirm(self) -> None:
        """The log has what the last call of `points` returned."""
        self._told = self._asked
        self._reasons_told = self._reasons_asked
        self._told_ms = self._asked_ms
        self._marks = []

    # -- the parts --------------------------------------------------------------------------

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
        if isinstance(local_log, dict) and local_log.get("max_bytes"):
            fields["log_fill"] = local_log["stored_bytes"] / local_log["max_bytes"]
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
            ("still_ms", max(0, now_ms - progress.last_advance_ms) if progress.backlog else 0),
        ]
        if progress.committed is not None:
            fields.append(("committed", progress.committed))
        return Point(LAG.name, tags, tuple(fields), now_ms * 1_000_000)

    def _letters(self, reason: str, count: int, now_ms: int) -> Point:
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
            ("healthy", int(model.version is not None and refused is None)),
            ("refused_version", refused or 0),
            ("error", _one_line(model.refused_error or "")),
        )
        return Point(MODEL.name, tags, fields, now_ms * 1_000_000)

    def _notice(self, models: Sequence[ModelStatus], now_ms: int) -> None:
        """Keep a mark of every model that has changed since the last time.

        None of those that were found at the first time: a restart is no rollout.
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
    """Values for the topic `accounts`, a thousand points in each at the most."""
    for start in range(0, len(points), _LINES_MOST):
        yield "\n".join(map(to_line, points[start : start + _LINES_MOST])).encode()


async def tell(
    accounts: Accounts, append: AppendAccount, clock: Callable[[], int], every_ms: int
) -> None:
    """Append the account of a process every `every_ms` milliseconds, until cancelled.

    A log that is away is no error here: the next account says what this one would have said.
    """
    was_away = False
    while True:
        try:
            for value in encode_points(accounts.points(clock())):
                await append(value)
            accounts.confirm()
            was_away = False
        except LogUnavailable as exc:
            if not was_away:
                log.warning("the account of this process is not in the log: %s", exc)
            was_away = True
        await asyncio.sleep(every_ms / 1000)


def _device(account: DeviceAccount, now_ms: int) -> Point:
    """The account of a device, at the time that belongs to this state of it.

    That is when the latest message came, and as many nanoseconds later as the account has counted:
    a state told twice is one point, and a worker that was frozen and tells an old state of a device
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
    r"""A text that fits a line of the protocol, and a panel.

    >>> _one_line("two\nlines")
    'two lines'
    """
    return " ".join(text.split())[:_TEXT_MOST].encode("utf-8", "replace").decode()


def _rss_bytes() -> int:
    """Resident memory of this process; where the system does not tell, the most it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

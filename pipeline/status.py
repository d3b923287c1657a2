"""What the running gateway tells about itself: the seam between gateway, console page and /metrics.

The gateway fills these frozen records; `pipeline.console.server` and `pipeline.console.metrics`
only read them. Everything here is pure: time comes in as `now_ms`, nothing sleeps, nothing is
measured behind the caller's back. Counters only grow while a process lives; a restart may set those
that are not part of the persisted window state back to zero.

The account that must balance, per device and in sum:
received = windowed + duplicate + late + dead_lettered, all counted in readings.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

__all__ = [
    "LOG_FILL",
    "STALL_MS",
    "DeviceAccount",
    "GatewayView",
    "HealthReport",
    "History",
    "Latency",
    "LatencySummary",
    "Measure",
    "ModelStatus",
    "PartitionProgress",
    "ProgressTracker",
    "Sample",
    "Snapshot",
    "Totals",
    "health_report",
    "stalled_partitions",
    "sum_accounts",
]

STALL_MS = 30_000
"""A partition with backlog that has not moved for this long (ms) makes the gateway not ready."""

LOG_FILL = 0.7
"""Share of its disk cap above which the log makes the gateway not ready."""


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """Counters of one stream of one device, in readings unless named otherwise.

    `dead_lettered` counts readings that reached the windows and were refused there (wrong clock,
    missing channel, no model); messages refused earlier by the bridge are in `Totals`.
    `last_event_ms` is the largest event time, `last_recv_ms` the latest receive time (epoch ms).
    """

    site: str
    device: str
    stream: str
    received: int = 0
    windowed: int = 0
    duplicate: int = 0
    late: int = 0
    dead_lettered: int = 0
    gaps: int = 0
    windows: int = 0
    last_event_ms: int | None = None
    last_recv_ms: int | None = None

    @property
    def missing(self) -> int:
        """Readings the account cannot explain: 0 when it balances."""
        return self.received - self.windowed - self.duplicate - self.late - self.dead_lettered

    @property
    def balanced(self) -> bool:
        """True when received = windowed + duplicate + late + dead_lettered."""
        return self.missing == 0


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Percentiles of the recent past in milliseconds; None when nothing was measured."""

    count: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all devices, and what happened before the windows and after the scores.

    Readings: `received` .. `dead_lettered`. Messages: `messages_received` came over MQTT,
    `messages_logged` are durable in the log, `messages_dead_lettered` were refused by the bridge.
    `dead_letters` counts records on the dead-letter topic by reason, whoever wrote them.
    `scored` are scores appended to the log, `unscored` are closed windows that have no score
    (a number that is not finite), `stored` are points the results file confirmed.
    """

    received: int = 0
    windowed: int = 0
    duplicate: int = 0
    late: int = 0
    dead_lettered: int = 0
    gaps: int = 0
    windows: int = 0
    messages_received: int = 0
    messages_logged: int = 0
    messages_dead_lettered: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    scored: int = 0
    unscored: int = 0
    stored: int = 0
    refused_points: int = 0
    sensor_to_score: LatencySummary = LatencySummary()
    receive_to_score: LatencySummary = LatencySummary()
    sensor_to_stored: LatencySummary = LatencySummary()

    @property
    def missing(self) -> int:
        """Readings the account cannot explain: 0 when it balances."""
        return self.received - self.windowed - self.duplicate - self.late - self.dead_lettered


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one consumer group is in one partition.

    Offsets are exclusive: `end_offset` is where the next record will be appended, `position` the
    next one to be read, `committed` the next one after a restart (None: nothing committed yet).
    `last_advance_ms` is when position or committed last moved, or when there last was no backlog.
    """

    app: str
    topic: str
    partition: int
    end_offset: int
    position: int
    committed: int | None
    last_advance_ms: int

    @property
    def backlog(self) -> int:
        """Records appended and not yet committed by this group."""
        done = self.position if self.committed is None else min(self.position, self.committed)
        return max(0, self.end_offset - done)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The student that scores one stream now, and the version that was refused last, if any.

    `version` is None when the task has no model. `metrics` is {split: {metric: value}} from the
    manifest, `lineage` its lineage as text. `labels` (classes, in model order), `unit` and
    `channels` help the page to draw and to show an example message.
    """

    name: str
    task: str
    stream: str
    version: int | None
    digest: str | None = None
    since_ms: int | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    refused_version: int | None = None
    refused_error: str | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    unit: str = ""
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`alive`: the process works at all; `ready`: it does its job now; `problems`: why not.

    `parts` maps a part (bridge, log, models, results, ...) to a JSON-able value, usually one line.
    """

    alive: bool
    ready: bool
    problems: tuple[str, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that only one kind of process has, for `/metrics`.

    `name` without the prefix `kpstream_`, in Prometheus style; `grows`: a counter.
    """

    name: str
    about: str
    value: float
    grows: bool = False


class GatewayView(Protocol):
    """What the console page and /metrics may ask a gateway.

    Called from the event loop every second or two: each call answers from memory, never blocks,
    never raises, and returns records that do not change afterwards.
    """

    def account(self) -> Sequence[DeviceAccount]:
        """One record per stream of a device, in any order."""

    def totals(self) -> Totals:
        """The sums; consistent with `account()` up to readings that arrive between the calls."""

    def partitions(self) -> Sequence[PartitionProgress]:
        """Progress of every consumer group in every partition it reads."""

    def models(self) -> Sequence[ModelStatus]:
        """One record per task that is configured, with or without a model."""

    def health(self) -> HealthReport:
        """Alive, ready, and the reasons if not; see `health_report`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view held still: taken in the event loop, read in any thread. Is itself a `GatewayView`."""

    view_account: Sequence[DeviceAccount]
    view_totals: Totals
    view_partitions: Sequence[PartitionProgress]
    view_models: Sequence[ModelStatus]
    view_health: HealthReport

    @classmethod
    def of(cls, view: GatewayView) -> Snapshot:
        """Ask the view everything once."""
        return cls(
            tuple(view.account()),
            view.totals(),
            tuple(view.partitions()),
            tuple(view.models()),
            view.health(),
        )

    def account(self) -> Sequence[DeviceAccount]:
        """As the view answered."""
        return self.view_account

    def totals(self) -> Totals:
        """As the view answered."""
        return self.view_totals

    def partitions(self) -> Sequence[PartitionProgress]:
        """As the view answered."""
        return self.view_partitions

    def models(self) -> Sequence[ModelStatus]:
        """As the view answered."""
        return self.view_models

    def health(self) -> HealthReport:
        """As the view answered."""
        return self.view_health


def sum_accounts(accounts: Iterable[DeviceAccount]) -> Totals:
    """Add device accounts up into a `Totals` whose other fields are zero.

    >>> one = DeviceAccount("plant", "e1", "engine", received=5, windowed=4, duplicate=1)
    >>> sum_accounts([one, one]).received
    10
    """
    listed = list(accounts)
    return Totals(
        received=sum(a.received for a in listed),
        windowed=sum(a.windowed for a in listed),
        duplicate=sum(a.duplicate for a in listed),
        late=sum(a.late for a in listed),
        dead_lettered=sum(a.dead_lettered for a in listed),
        gaps=sum(a.gaps for a in listed),
        windows=sum(a.windows for a in listed),
    )


def stalled_partitions(
    partitions: Iterable[PartitionProgress], now_ms: int, stall_ms: int = STALL_MS
) -> list[PartitionProgress]:
    """Partitions with backlog that have not advanced for `stall_ms` or longer.

    >>> p = PartitionProgress("score", "readings", 0, 10, 4, 4, last_advance_ms=1_000)
    >>> [s.partition for s in stalled_partitions([p], now_ms=31_000)]
    [0]
    >>> stalled_partitions([p], now_ms=30_999)
    []
    """
    return [p for p in partitions if p.backlog > 0 and now_ms - p.last_advance_ms >= stall_ms]


def health_report(
    *,
    now_ms: int,
    partitions: Iterable[PartitionProgress],
    bridge_connected: bool,
    bridge_running: bool = True,
    bridge_error: str | None = None,
    writer_error: str | None = None,
    log_failing_since_ms: int | None = None,
    log_fill: float | None = None,
    state_problems: Sequence[str] = (),
    tasks_without_model: Sequence[str] = (),
    stall_ms: int = STALL_MS,
    parts: Mapping[str, Any] | None = None,
) -> HealthReport:
    """Decide alive and ready.

    Not ready while any problem is listed. Not alive only when the log writer failed: nothing but a
    restart helps then.

    Args:
        now_ms: the time, epoch milliseconds.
        partitions: progress of all groups; those that stand still with a backlog are problems.
        bridge_connected: the bridge has a broker.
        bridge_running: the bridge's task has not ended.
        bridge_error: why the bridge has no broker, in its own words; None when it can't say.
        writer_error: why the log writer gave up for good.
        log_failing_since_ms: since when (epoch ms) the log has confirmed nothing that was appended,
            because its disk is full or fails; None while it works.
        log_fill: share of the log's disk cap that is in use, 0 to 1; a problem above `LOG_FILL`.
        state_problems: what is wrong with the files of the state, each a line as shown.
        tasks_without_model: configured tasks that have no model.
        stall_ms: how long a partition may stand still.
        parts: see `HealthReport`.
    """
    problems = []
    if writer_error is not None:
        problems.append(f"log writer failed: {writer_error}; restart the gateway")
    if log_failing_since_ms is not None:
        seconds = max(0, now_ms - log_failing_since_ms) // 1000
        problems.append(f"the log does not confirm since {seconds} s; check its disk")
    if log_fill is not None and log_fill > LOG_FILL:
        problems.append(
            f"log is {100 * log_fill:.0f} % full: at 100 % readings wait in the broker; see which "
            "group is behind, or raise KPSTREAM_GATEWAY_LOG_MAX_MB"
        )
    problems.extend(state_problems)
    if not bridge_running:
        problems.append("bridge task has ended: no reading is taken; restart the gateway")
    elif not bridge_connected:
        problems.append(
            bridge_error or "bridge is not connected to the MQTT broker; is the broker running?"
        )
    problems.extend(
        f"no model for task {task}; publish one to the registry" for task in tasks_without_model
    )
    for p in stalled_partitions(partitions, now_ms, stall_ms):
        seconds = (now_ms - p.last_advance_ms) // 1000
        problems.append(
            f"{p.app} has not advanced in {p.topic}[{p.partition}] for {seconds} s "
            f"with {p.backlog} records waiting"
        )
    return HealthReport(
        alive=writer_error is None,
        ready=not problems,
        problems=tuple(problems),
        parts=dict(parts or {}),
    )


class ProgressTracker:
    """Remembers when each partition last moved, so that idle partitions never look stalled."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], PartitionProgress] = {}

    def observe(
        self,
        app: str,
        topic: str,
        partition: int,
        *,
        end_offset: int,
        position: int,
        committed: int | None,
        now_ms: int,
    ) -> PartitionProgress:
        """Record one look at a partition and return it with `last_advance_ms` filled in."""
        key = (app, topic, partition)
        now = PartitionProgress(app, topic, partition, end_offset, position, committed, now_ms)
        before = self._seen.get(key)
        if (
            before is not None
            and before.backlog > 0
            and now.backlog > 0
            and before.position == position
            and before.committed == committed
        ):
            now = PartitionProgress(
                app, topic, partition, end_offset, position, committed, before.last_advance_ms
            )
        self._seen[key] = now
        return now

    def current(self) -> list[PartitionProgress]:
        """The last look at every partition, sorted by app, topic, partition."""
        return [self._seen[key] for key in sorted(self._seen)]


_PER_OCTAVE = 16  # 2 ** (1/16): a percentile is off by at most 4.5 %
_LOWEST_MS = 0.01
_BUCKETS = 36 * _PER_OCTAVE  # up to 0.01 ms * 2**36, about eight days


class Latency:
    """Histogram of the recent past with bounded memory: logarithmic buckets in a ring of slots.

    One thread records, any thread may read: a reader sees each count before or after an addition,
    never a torn one. Values older than `horizon_ms` fall out slot by slot.
    """

    def __init__(self, horizon_ms: int = 60_000, slots: int = 6) -> None:
        self._slot_ms = max(1, horizon_ms // slots)
        self._slots: deque[tuple[int, list[int], list[float]]] = deque(maxlen=slots)

    def record(self, value_ms: float, now_ms: int, count: int = 1) -> None:
        """Add `count` values of `value_ms` (negative ones count as 0: clocks differ)."""
        number = now_ms // self._slot_ms
        if not self._slots or self._slots[-1][0] < number:
            self._slots.append((number, [0] * _BUCKETS, [0.0]))
        _, counts, top = self._slots[-1]
        value = max(value_ms, 0.0)
        counts[_bucket(value)] += count
        if value > top[0]:
            top[0] = value

    def summary(self, now_ms: int) -> LatencySummary:
        """Percentiles of the values recorded within the horizon that ends at `now_ms`."""
        oldest = now_ms // self._slot_ms - (self._slots.maxlen or 1) + 1
        recent = [slot for slot in list(self._slots) if slot[0] >= oldest]
        merged = [sum(column) for column in zip(*(slot[1] for slot in recent), strict=True)]
        count = sum(merged)
        if count == 0:
            return LatencySummary()
        top = max(slot[2][0] for slot in recent)
        return LatencySummary(
            count=count,
            p50_ms=min(_percentile(merged, count, 0.50), top),
            p99_ms=min(_percentile(merged, count, 0.99), top),
            max_ms=top,
        )


def _bucket(value_ms: float) -> int:
    if value_ms <= _LOWEST_MS:
        return 0
    return min(_BUCKETS - 1, math.ceil(math.log2(value_ms / _LOWEST_MS) * _PER_OCTAVE))


def _percentile(counts: Sequence[int], total: int, share: float) -> float:
    rank = max(1, math.ceil(total * share))
    below = 0
    for bucket, count in enumerate(counts):
        below += count
        if below >= rank:
            return float(_LOWEST_MS * 2 ** (bucket / _PER_OCTAVE))
    return float(_LOWEST_MS * 2 ** (_BUCKETS / _PER_OCTAVE))


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters and percentiles at one moment; rates are differences of two samples."""

    now_ms: int
    received: int
    scored: int
    stored: int
    backlog: int
    p50_ms: float | None
    p99_ms: float | None


class History:
    """The last samples, bounded, for the charts of the page."""

    def __init__(self, samples: int = 300) -> None:
        self._samples: deque[Sample] = deque(maxlen=samples)

    def observe(self, totals: Totals, partitions: Iterable[PartitionProgress], now_ms: int) -> None:
        """Add one sample; a clock that stands still or goes back is ignored."""
        if self._samples and self._samples[-1].now_ms >= now_ms:
            return
        self._samples.append(
            Sample(
                now_ms=now_ms,
                received=totals.received,
                scored=totals.scored,
                stored=totals.stored,
                backlog=sum(p.backlog for p in partitions),
                p50_ms=totals.sensor_to_score.p50_ms,
                p99_ms=totals.sensor_to_score.p99_ms,
            )
        )

    def samples(self) -> list[dict[str, Any]]:
        """Oldest first, as JSON-able dicts."""
        return [asdict(sample) for sample in list(self._samples)]

"""The seam between a running process and its console, `/metrics` and accounts.

Every process implements `GatewayView` over its parts; `pipeline.console` and
`pipeline.points.accounts` only read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.status.counters import DeviceAccount, Totals
from pipeline.status.health import HealthReport
from pipeline.status.progress import PartitionProgress

__all__ = [
    "ChallengerStatus",
    "GatewayView",
    "LiveFigures",
    "Measure",
    "ModelStatus",
    "ReleaseStatus",
    "Snapshot",
]


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Sums of the health figures of a task over scored windows; they need no labels.

    Attributes:
        windows: Windows with a score.
        sums: For each figure (`Answer.health`) the sum over these windows; divided by `windows`, it
            is the mean.
    """

    windows: int = 0
    sums: Mapping[str, float] = field(default_factory=dict)

    def plus(self, windows: int, means: Mapping[str, float]) -> LiveFigures:
        """These figures and those of a batch, of which the means are given."""
        sums = dict(self.sums)
        for name, mean in means.items():
            sums[name] = sums.get(name, 0.0) + mean * windows
        return LiveFigures(self.windows + windows, sums)


@dataclass(frozen=True, slots=True)
class ChallengerStatus:
    """A new student that is compared with another one on the same windows.

    Attributes:
        version: Its version.
        digest: Its digest.
        against: Version that it is compared with.
        is_running: Whether it runs already, on probation; else it is in shadow.
        since_ms: Beginning of the comparison, epoch milliseconds.
        windows: Windows that both have scored.
        skipped: Windows that were not compared, because the thread was busy.
        failed: Why it has failed; None while it has not.
        evidence: Figures by name; see `pipeline.scoring.evidence.Evidence`.
    """

    version: int
    digest: str
    against: int
    is_running: bool
    since_ms: int
    windows: int
    skipped: int
    failed: str | None = None
    evidence: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """The release of a centre that a student follows.

    Attributes:
        number: Number of the release.
        version: Version that it brings.
        phase: `waiting`, `shadow`, `probation`, `champion`, `failed` or `held`.
        since_ms: Beginning of the phase, epoch milliseconds.
        reason: Why it failed, is held or waits; "" otherwise.
    """

    number: int
    version: int
    phase: str
    since_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The student that runs under one model name, and the version that was refused last.

    Attributes:
        version: Running version; None when no student runs.
        digest: Digest of the running version.
        since_ms: Time at which it took over, epoch milliseconds.
        metrics: {split: {metric: value}} from the manifest.
        refused_version: Version that was refused last; None also for a pointer that names none.
        refused_error: Reason of the refusal.
        lineage: Lineage from the manifest, as text.
        labels: Classes in model order; empty for a numeric task.
        unit: Unit of a numeric task.
        subject: What wears the sensors: a machine or a person.
        channels: Channels of the stream; the page shows an example message with them.
        units: Their units, in the same order.
        rate_hz: Readings per second that the student expects; None if it expects no rate.
        live: What its scores were like since it took over; None in a process that does not score.
        challenger: The student that is compared with another one; None without one.
        release: The release that it follows; None without a centre.
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
    subject: str = ""
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    rate_hz: float | None = None
    live: LiveFigures | None = None
    challenger: ChallengerStatus | None = None
    release: ReleaseStatus | None = None

    @property
    def is_refused(self) -> bool:
        """Whether what the registry says is not followed."""
        return self.refused_version is not None or self.refused_error is not None


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that only one kind of process has, for `/metrics`.

    Attributes:
        name: Prometheus name without the prefix `kpstream_`.
        about: Help text.
        grows: Whether it is a counter.
    """

    name: str
    about: str
    value: float
    grows: bool = False


class GatewayView(Protocol):
    """The state of a process as the console page, `/metrics` and the accounts read it.

    Called from the event loop every second or two. Each call answers from memory, never blocks,
    never raises, and returns records that do not change afterwards.
    """

    def account(self) -> Sequence[DeviceAccount]:
        """One record per stream of a device, in any order."""

    def totals(self) -> Totals:
        """The sums; consistent with `account()` up to readings that arrive between the calls."""

    def partitions(self) -> Sequence[PartitionProgress]:
        """Progress of every consumer group in every partition it reads."""

    def models(self) -> Sequence[ModelStatus]:
        """One record per model in the registry, with or without a student."""

    def health(self) -> HealthReport:
        """Alive, ready, and the reasons if not; see `health_report`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view frozen in the event loop, for use in any thread; it is itself a `GatewayView`."""

    view_account: Sequence[DeviceAccount]
    view_totals: Totals
    view_partitions: Sequence[PartitionProgress]
    view_models: Sequence[ModelStatus]
    view_health: HealthReport

    @classmethod
    def of(cls, view: GatewayView) -> Snapshot:
        """Call every method of the view once."""
        return cls(
            tuple(view.account()),
            view.totals(),
            tuple(view.partitions()),
            tuple(view.models()),
            view.health(),
        )

    def account(self) -> Sequence[DeviceAccount]:
        """The accounts at the time of the snapshot."""
        return self.view_account

    def totals(self) -> Totals:
        """The sums at the time of the snapshot."""
        return self.view_totals

    def partitions(self) -> Sequence[PartitionProgress]:
        """The progress at the time of the snapshot."""
        return self.view_partitions

    def models(self) -> Sequence[ModelStatus]:
        """The models at the time of the snapshot."""
        return self.view_models

    def health(self) -> HealthReport:
        """The health at the time of the snapshot."""
        return self.view_health

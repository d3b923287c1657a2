"""The documents of a rollout, as the centre signs them and a gateway reads them.

All numbers are whole: the canonical JSON of The Update Framework has no fractions. A document is
small, bounded and complete: a gateway that has missed a month reads the newest index and knows all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    StringConstraints,
    model_serializer,
    model_validator,
)

from models.tasks.fields import NAME_PATTERN
from pipeline.scoring.thresholds import Thresholds

__all__ = [
    "INDEX_TARGET",
    "MAX_BUNDLE_BYTES",
    "MAX_INDEX_BYTES",
    "SOFTWARE",
    "WHOLE",
    "AnyRelease",
    "Plan",
    "Policy",
    "Release",
    "ReleaseIndex",
    "SignedBundle",
    "SoftwareRelease",
    "Step",
    "bundle_target",
    "cutoff_of",
    "is_member",
    "position",
]

INDEX_TARGET = "releases.json"
"""Name of the TUF target that holds the `ReleaseIndex`."""
MAX_INDEX_BYTES = 2_000_000
MAX_BUNDLE_BYTES = 2 * 1024**3
SOFTWARE = "software"
"""Name of the release of the gateways' software; no student can be released under it."""
WHOLE = 2**32
"""The cutoff that includes every gateway."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Gateway = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[int, Strict(), Field(ge=0, le=10_000_000)]
Epoch = Annotated[int, Strict(), Field(ge=0, le=2**40)]
Count = Annotated[int, Strict(), Field(ge=0, le=1_000_000_000)]
Version = Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Document):
    """One step of a plan.

    Attributes:
        percent: Share of the gateways of the release that take part, in per cent.
        seconds: Shortest time of the step.
        windows: Windows that each of its gateways has to compare, shadow included.
    """

    percent: Annotated[int, Strict(), Field(ge=1, le=100)]
    seconds: Seconds = 3600
    windows: Count = 200


class Plan(_Document):
    """How a release reaches its gateways.

    Attributes:
        steps: Steps with growing shares; the last one is 100 per cent.
        shadow_seconds: Shortest time in shadow on a gateway.
        shadow_windows: Windows that a gateway compares in shadow before it decides.
        probation_seconds: Time after the takeover in which the old student still watches.
        max_failed: Failed gateways above which the release pauses.
        groups: Groups of gateways that take part; empty for all.
        hold: Gateways that do not take part.
        thresholds: When a gateway judges the new student unhealthy.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)] = (
        Step(percent=10),
        Step(percent=50),
        Step(percent=100),
    )
    shadow_seconds: Seconds = 600
    shadow_windows: Count = 200
    probation_seconds: Seconds = 3600
    max_failed: Count = 0
    groups: Annotated[tuple[Gateway, ...], Field(max_length=200)] = ()
    hold: Annotated[tuple[Gateway, ...], Field(max_length=10_000)] = ()
    thresholds: Thresholds = Thresholds()

    @model_validator(mode="after")
    def _check_steps(self) -> Plan:
        shares = [step.percent for step in self.steps]
        if shares != sorted(set(shares)) or shares[-1] != 100:
            msg = f"the steps must grow and end at 100 per cent, not {shares}"
            raise ValueError(msg)
        return self


class _Rollout(_Document):
    """What every release has, whatever it brings.

    Attributes:
        number: Number of the release; it only grows at one centre.
        plan: How it goes.
        state: `complete` once the last step is healthy; members of an `aborted` release go back.
        step: Index of the current step in the plan.
        step_since_s: Time at which the step began, epoch seconds.
        cutoff: Gateways whose `position` is below it are members of the current step.
        created_s: Time of the release, epoch seconds.
        reason: Why it paused or was aborted; "" otherwise.
    """

    number: Version
    plan: Plan
    state: Literal["running", "paused", "aborted", "complete"] = "running"
    step: Annotated[int, Strict(), Field(ge=0, lt=20)] = 0
    step_since_s: Epoch
    cutoff: Annotated[int, Strict(), Field(ge=0, le=WHOLE)]
    created_s: Epoch
    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class Release(_Rollout):
    """One student on its way to the gateways.

    Attributes:
        name: Name of the student.
        version: Its version.
        digest: Digest of its manifest, which holds the digest of the graph.
    """

    name: Name
    version: Version
    digest: Digest

    @property
    def title(self) -> str:
        """What it brings, for people."""
        return f"{self.name} v{self.version}"

    @property
    def targets(self) -> tuple[str, str]:
        """Names of its TUF targets: the manifest, the graph."""
        folder = f"students/{self.name}/{self.version}"
        return f"{folder}/manifest.json", f"{folder}/model.onnx"


class SignedBundle(_Document):
    """The offline bundle of one architecture and one version of Python.

    Attributes:
        target: Name of its TUF target.
        sha256: Digest of the archive.
        size: Its length in bytes.
    """

    target: Annotated[
        str, StringConstraints(pattern=rf"^{SOFTWARE}/kpstream-[A-Za-z0-9._-]+\.tar$")
    ]
    sha256: Digest
    size: Annotated[int, Strict(), Field(ge=1, le=MAX_BUNDLE_BYTES)]


class SoftwareRelease(_Rollout):
    """A version of the gateways' software on its way to them.

    Of its plan the steps, the groups, the hold list and `max_failed` count: software has no shadow.

    Attributes:
        version: The version of kpstream.
        bundles: Its bundles, one for each architecture and version of Python.
    """

    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")]
    bundles: Annotated[tuple[SignedBundle, ...], Field(min_length=1, max_length=50)]

    @property
    def name(self) -> str:
        """The name under which an operator pauses, resumes or aborts it."""
        return SOFTWARE

    @property
    def title(self) -> str:
        """What it brings, for people."""
        return f"{SOFTWARE} {self.version}"

    def bundle_for(self, machine: str, python: str) -> SignedBundle | None:
        """The bundle for an architecture and a version of Python; None if there is none."""
        wanted = bundle_target(self.version, machine, python)
        return next((each for each in self.bundles if each.target == wanted), None)


AnyRelease = Release | SoftwareRelease


class Policy(_Document):
    """What the centre asks of one gateway, or of a group.

    Attributes:
        gateway: The gateway; "" for a group's policy.
        group: The group; "" for a gateway's policy.
        hold: Take nothing new.
        pin: Versions that stay, by name of the student.
        window: Maintenance window in UTC as `HH:MM-HH:MM`, outside which nothing takes over; "" for
            any time.
    """

    gateway: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    hold: bool = False
    pin: Annotated[dict[Name, Version], Field(max_length=100)] = {}
    window: Annotated[
        str,
        StringConstraints(
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$"
        ),
    ] = ""

    @model_validator(mode="after")
    def _check_owner(self) -> Policy:
        if bool(self.gateway) == bool(self.group):
            msg = "a policy is for one gateway or for one group"
            raise ValueError(msg)
        return self


class ReleaseIndex(_Document):
    """The newest release of every student, and the policies: content of the target `releases.json`.

    Without software it is written as before there was any, so that older gateways go on reading it.
    An index with software they refuse, as every index that they do not know in full.

    Attributes:
        format: Version of this document.
        made_s: Time at which it was made, epoch seconds.
        releases: At most one release a student, sorted by name.
        policies: Policies of gateways and groups.
        software: The newest release of the gateways' software; None without one.
    """

    format: Literal[1] = 1
    made_s: Epoch
    releases: Annotated[tuple[Release, ...], Field(max_length=200)] = ()
    policies: Annotated[tuple[Policy, ...], Field(max_length=10_000)] = ()
    software: SoftwareRelease | None = None

    @property
    def rollouts(self) -> tuple[AnyRelease, ...]:
        """Every release: those of students, then that of the software."""
        return (*self.releases, *(() if self.software is None else (self.software,)))

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.software is None:
            found.pop("software", None)
        return found

    @model_validator(mode="after")
    def _check_names(self) -> ReleaseIndex:
        names = [release.name for release in self.releases]
        if names != sorted(set(names)):
            msg = "releases must be sorted by name, one a student"
            raise ValueError(msg)
        return self


def position(release_number: int, gateway: str) -> int:
    """Place of a gateway in the order of a release, from 0 to `WHOLE` - 1.

    It is another order for each release, so that not the same gateways are always the first.
    """
    text = f"{release_number}/{gateway}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def bundle_target(version: str, machine: str, python: str) -> str:
    """Name of the TUF target of a bundle.

    >>> bundle_target("0.3.0", "aarch64", "3.11")
    'software/kpstream-0.3.0-aarch64-py311.tar'
    """
    return f"{SOFTWARE}/kpstream-{version}-{machine}-py{python.replace('.', '')}.tar"


def is_member(release: AnyRelease, gateway: str, group: str = "") -> bool:
    """Whether a gateway takes part in the current step of a release.

    Args:
        release: The release.
        gateway: Name of the gateway.
        group: Its group; "" for none.
    """
    plan = release.plan
    if gateway in plan.hold or (plan.groups and group not in plan.groups):
        return False
    return position(release.number, gateway) < release.cutoff


def cutoff_of(
    release_number: int, plan: Plan, step: int, gateways: Iterable[tuple[str, str]]
) -> int:
    """The cutoff of a step: its share of the known gateways, rounded down, but at least one.

    A gateway that becomes known later takes part by its position, as all others.

    Args:
        release_number: Number of the release.
        plan: Its plan.
        step: Index of the step in the plan.
        gateways: Name and group of the known gateways.

    >>> fleet = [(f"gw-{n}", "") for n in range(50)]
    >>> cutoff = cutoff_of(7, Plan(), 0, fleet)
    >>> sum(position(7, name) < cutoff for name, _ in fleet)
    5
    """
    percent = plan.steps[step].percent
    if percent == 100:
        return WHOLE
    places = sorted(
        position(release_number, gateway)
        for gateway, group in gateways
        if gateway not in plan.hold and (not plan.groups or group in plan.groups)
    )
    if not places:
        return WHOLE * percent // 100
    return places[max(1, len(places) * percent // 100) - 1] + 1

"""The documents of a rollout, as the centre signs them and a gateway reads them.

All numbers are whole: the canonical JSON of The Update Framework has no fractions. A document is
small, bounded and complete: a gateway that has missed a month reads the newest index and knows all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator

from models.tasks.fields import NAME_PATTERN
from pipeline.scoring.thresholds import Thresholds

__all__ = [
    "INDEX_TARGET",
    "MAX_INDEX_BYTES",
    "WHOLE",
    "Plan",
    "Policy",
    "Release",
    "ReleaseIndex",
    "Step",
    "cutoff_of",
    "is_member",
    "position",
]

INDEX_TARGET = "releases.json"
"""Name of the TUF target that holds the `ReleaseIndex`."""
MAX_INDEX_BYTES = 2_000_000
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


class Release(_Document):
    """One student on its way to the gateways.

    Attributes:
        number: Number of the release; it only grows at one centre.
        name: Name of the student.
        version: Its version.
        digest: Digest of its manifest, which holds the digest of the graph.
        plan: How it goes.
        state: `complete` once the last step is healthy; members of an `aborted` release go back.
        step: Index of the current step in the plan.
        step_since_s: Time at which the step began, epoch seconds.
        cutoff: Gateways whose `position` is below it are members of the current step.
        created_s: Time of the release, epoch seconds.
        reason: Why it paused or was aborted; "" otherwise.
    """

    number: Version
    name: Name
    version: Version
    digest: Digest
    plan: Plan
    state: Literal["running", "paused", "aborted", "complete"] = "running"
    step: Annotated[int, Strict(), Field(ge=0, lt=20)] = 0
    step_since_s: Epoch
    cutoff: Annotated[int, Strict(), Field(ge=0, le=WHOLE)]
    created_s: Epoch
    reason: Annotated[str, StringConstraints(max_length=500)] = ""

    @property
    def targets(self) -> tuple[str, str]:
        """Names of its TUF targets: the manifest, the graph."""
        folder = f"students/{self.name}/{self.version}"
        return f"{folder}/manifest.json", f"{folder}/model.onnx"


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

    Attributes:
        format: Version of this document.
        made_s: Time at which it was made, epoch seconds.
        releases: At most one release a student, sorted by name.
        policies: Policies of gateways and groups.
    """

    format: Literal[1] = 1
    made_s: Epoch
    releases: Annotated[tuple[Release, ...], Field(max_length=200)] = ()
    policies: Annotated[tuple[Policy, ...], Field(max_length=10_000)] = ()

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


def is_member(release: Release, gateway: str, group: str = "") -> bool:
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

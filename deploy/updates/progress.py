"""What a gateway remembers of the release that a student follows; pure data, kept by `memory`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Strict, StringConstraints

from deploy.rollout.release import Count, Digest, Epoch, Release, Seconds, Version
from deploy.rollout.report import Evidence, Phase
from models.pointer import Pointer
from pipeline.scoring.thresholds import Thresholds

__all__ = ["Failure", "Progress"]

MOST_STARTS: Mapping[Phase, int] = {"shadow": 3, "probation": 2}
"""Starts without a clean stop, in one release, at which a student counts as crashing. In shadow it
has not scored yet, and a shadow may last for weeks, with power cuts of its own."""
MOST_SPENT_S = 10_000_000
"""The longest probation that a plan may have."""

_Text = Annotated[str, StringConstraints(max_length=500)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(_Document):
    """A student that failed here.

    Attributes:
        release: Number of the release.
        version: Its version.
        digest: Its digest.
        reason: Why it failed.
        at_s: When, epoch seconds.
    """

    release: Version
    version: Version
    digest: Digest
    reason: _Text
    at_s: Epoch


class Progress(_Document):
    """How far this gateway has come with the newest release of a student.

    It holds what a restart needs without the centre, so that probation goes on, and ends, while the
    centre is away.

    Attributes:
        release: Number of the release.
        version: Version of its student.
        digest: Digest of its student.
        phase: The phase; see `deploy.rollout.report.StudentReport`.
        since_s: Beginning of the phase, epoch seconds.
        reason: Why it failed, is held or waits; "" otherwise.
        former: The version that ran before the takeover; None before it, or without one.
        is_taken: Whether the student has taken over here.
        move: The pointer is about to move to the student, or back from it. Written before the move,
            so that a start after a power cut knows what was meant.
        spent_s: Seconds of the phase that earlier runs of the process have spent.
        starts: Starts that no clean stop preceded, in shadow or on probation; a takeover counts
            anew.
        is_stopped: Whether the process was stopped cleanly, and has not started since.
        probation_seconds: From the plan of the release.
        thresholds: From the plan of the release.
        evidence: What was measured, as it was when the phase before ended.
    """

    release: Version
    version: Version
    digest: Digest
    phase: Phase
    since_s: Epoch
    reason: _Text = ""
    former: Pointer | None = None
    is_taken: Annotated[bool, Strict()] = False
    move: Literal["", "to", "back"] = ""
    spent_s: Seconds = 0
    starts: Count = 0
    is_stopped: Annotated[bool, Strict()] = False
    probation_seconds: Seconds = 3600
    thresholds: Thresholds = Thresholds()
    evidence: Evidence = Evidence()

    @classmethod
    def of(cls, release: Release, phase: Phase, now_s: int, reason: str = "") -> Progress:
        """The progress of a release at the beginning of a phase."""
        return cls(
            release=release.number,
            version=release.version,
            digest=release.digest,
            phase=phase,
            since_s=now_s,
            reason=reason[:500],
            probation_seconds=release.plan.probation_seconds,
            thresholds=release.plan.thresholds,
        )

    def enter(self, phase: Phase, now_s: int, reason: str = "") -> Progress:
        """The progress at the beginning of another phase; the same one if nothing changes."""
        reason = reason[:500]
        if phase == self.phase:
            return self.model_copy(update={"reason": reason})
        update = {"phase": phase, "since_s": now_s, "reason": reason, "spent_s": 0}
        return self.model_copy(update=update)

    @property
    def is_crashing(self) -> bool:
        """Whether the gateway has died too often in shadow, or on probation, of this student."""
        return self.starts >= MOST_STARTS.get(self.phase, MOST_SPENT_S)

    @property
    def crash_reason(self) -> str:
        """Why a crashing student fails."""
        where = "in shadow" if self.phase == "shadow" else "on probation"
        return f"the gateway ended {self.starts} times {where} without a clean stop"

    def started(self) -> Progress:
        """The progress after a start; in shadow and on probation an unexpected one counts."""
        if self.phase not in MOST_STARTS:
            return self
        if self.is_stopped:
            return self.model_copy(update={"is_stopped": False})
        return self.model_copy(update={"starts": self.starts + 1})

    def stopped(self, spent_s: int) -> Progress:
        """The progress at a clean stop, with the seconds of the phase that are over."""
        if self.phase not in MOST_STARTS:
            return self
        # A shadow begins anew, because its evidence is in memory only.
        spent_s = min(spent_s, MOST_SPENT_S) if self.phase == "probation" else 0
        return self.model_copy(update={"is_stopped": True, "spent_s": spent_s})

    def failure(self) -> Failure:
        """The failure, of a student that has failed."""
        return Failure(
            release=self.release,
            version=self.version,
            digest=self.digest,
            reason=self.reason,
            at_s=self.since_s,
        )

"""High-water marks: the newest state of the centre that was verified here, beside tuf's own files.

`tuf` refuses to go back as long as its trusted metadata are there. If somebody deletes them, puts
an older copy back, or a power cut damages them, it starts again from the pinned root and would
accept older metadata that have not expired. The marks lie in another file and refuse that. Pure: no
clock, no file.

**Rotated keys.** A mark counts only as long as the keys with which it was verified: an attacker who
had such a key may have set versions to huge numbers (fast-forward), and the centre recovers by
rotating the key. tuf forgets its own metadata by the same rule. The mark of a snapshot goes by the
keys of timestamp and snapshot, that of targets by the keys of snapshot and targets, because the one
names the version of the other. The mark of the root goes by the pinned root, which a person chose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.rollout.errors import first_fault
from deploy.rollout.release import ReleaseIndex

__all__ = ["Facts", "Marks", "decode_marks", "going_back", "raised"]

_DEPENDS = {
    "timestamp": ("timestamp",),
    "snapshot": ("timestamp", "snapshot"),
    "targets": ("snapshot", "targets"),
}


class Facts(BaseModel):
    """What the child verified.

    Attributes:
        versions: Version of each role.
        keys: A digest of the keys and the threshold of each role.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, int]
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one gateway.

    Attributes:
        pinned: SHA-256 of the pinned root; "" without marks.
        root: Newest version of the root.
        versions: Newest version of the other roles.
        keys: By role, the digest of the keys that its mark goes by.
        made_s: `made_s` of the newest index, epoch seconds.
        releases: Largest number of a release, by name of the student.
    """

    pinned: str = ""
    root: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    made_s: int = 0
    releases: Mapping[str, int] = field(default_factory=dict)

    def to_object(self) -> dict[str, Any]:
        """The content of the state file."""
        return {
            "pinned": self.pinned,
            "root": self.root,
            "versions": dict(self.versions),
            "keys": dict(self.keys),
            "made_s": self.made_s,
            "releases": dict(self.releases),
        }


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    pinned: str
    root: int
    versions: dict[str, int]
    keys: dict[str, str]
    made_s: int
    releases: dict[str, int]


def decode_marks(stored: Mapping[str, Any]) -> Marks:
    """Read the content of the state file.

    Raises:
        ValueError: It is none.
    """
    try:
        return Marks(**_Stored.model_validate(dict(stored)).model_dump())
    except ValidationError as exc:
        raise ValueError(first_fault(exc)) from exc


def going_back(marks: Marks, pinned: str, facts: Facts, index: ReleaseIndex | None) -> str | None:
    """Why what was verified now is older than the marks; None if it is not.

    Args:
        marks: The marks so far.
        pinned: SHA-256 of the pinned root.
        facts: What was verified now.
        index: The index that was verified now; None if it was not asked for.
    """
    if pinned == marks.pinned and facts.versions["root"] < marks.root:
        return _reason("root", facts.versions["root"], marks.root)
    for role in _DEPENDS:
        known = marks.versions.get(role, 0)
        if _goes_by(facts, role) == marks.keys.get(role) and facts.versions[role] < known:
            return _reason(role, facts.versions[role], known)
    if index is None or _goes_by(facts, "targets") != marks.keys.get("targets"):
        return None
    for release in index.rollouts:
        known = marks.releases.get(release.name, 0)
        if release.number < known:
            return (
                f"rollback of releases: the centre names release {release.number} of "
                f"{release.name}, release {known} was verified here before: if the centre was "
                f"restored from a backup, give the next release a number above {known}"
            )
    return None


def raised(marks: Marks, pinned: str, facts: Facts, index: ReleaseIndex | None) -> Marks:
    """The marks after what was verified now."""
    keys = {role: _goes_by(facts, role) for role in _DEPENDS}
    if keys["targets"] != marks.keys.get("targets"):
        marks = replace(marks, made_s=0, releases={})
    if index is not None:
        named = {release.name: release.number for release in index.rollouts}
        marks = replace(
            marks,
            made_s=max(marks.made_s, index.made_s),
            releases=dict(sorted({**marks.releases, **named}.items())[:1000]),
        )
    versions = {role: facts.versions[role] for role in _DEPENDS}
    return replace(marks, pinned=pinned, root=facts.versions["root"], versions=versions, keys=keys)


def _goes_by(facts: Facts, role: str) -> str:
    text = " ".join(facts.keys[each] for each in _DEPENDS[role])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _reason(role: str, found: int, known: int) -> str:
    return (
        f"rollback of {role}: the repository offers version {found}, version {known} was verified "
        "here before, although tuf's own trusted metadata do not know it any more"
    )

"""Changes of the index of releases: functions from one index to the next. Pure.

Each is idempotent: the same change again returns an equal index, and nothing is signed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploy.rollout.errors import ReleaseRefused
from deploy.rollout.release import (
    SOFTWARE,
    AnyRelease,
    Plan,
    Policy,
    Release,
    ReleaseIndex,
    SignedBundle,
    SoftwareRelease,
    cutoff_of,
)

__all__ = [
    "abort_release",
    "add_release",
    "add_software",
    "find_release",
    "next_number",
    "pause_release",
    "resume_release",
    "set_policy",
]


def find_release(index: ReleaseIndex, name: str) -> AnyRelease:
    """The newest release of a student, or that of the `software`.

    Raises:
        ReleaseRefused: It has none.
    """
    for release in index.rollouts:
        if release.name == name:
            return release
    known = ", ".join(release.name for release in index.releases) or "none"
    msg = f"{name} has no release; students with one: {known}"
    raise ReleaseRefused(msg)


def next_number(index: ReleaseIndex) -> int:
    """The number of the next release; a release leaves the index only for a larger number."""
    return max((release.number for release in index.rollouts), default=0) + 1


def add_release(
    index: ReleaseIndex,
    *,
    name: str,
    version: int,
    digest: str,
    plan: Plan,
    now_s: int,
    gateways: Sequence[tuple[str, str]],
    replace: bool = False,
) -> ReleaseIndex:
    """Begin a release.

    The same version with the same plan, unless it was aborted, is the release that is there.

    Args:
        index: The present index.
        name: Name of the student.
        version: Its version.
        digest: Digest of its manifest.
        plan: How it goes.
        now_s: Time of the release, epoch seconds.
        gateways: Name and group of the known gateways, for the first step.
        replace: Whether it may take the place of a release that is not at its end.

    Raises:
        ReleaseRefused: Another release of the student is not at its end.
    """
    if name == SOFTWARE:
        msg = f"{SOFTWARE} is the name of the gateways' software: give the student another name"
        raise ReleaseRefused(msg)
    before = next((release for release in index.releases if release.name == name), None)
    if before is not None and before.state != "aborted":
        if (before.version, before.digest, before.plan) == (version, digest, plan):
            return index
        _check_is_over(before, replace=replace)
    number = next_number(index)
    release = Release(
        number=number,
        name=name,
        version=version,
        digest=digest,
        plan=plan,
        step_since_s=now_s,
        cutoff=cutoff_of(number, plan, 0, gateways),
        created_s=now_s,
    )
    others = [each for each in index.releases if each.name != name]
    releases = tuple(sorted([*others, release], key=lambda each: each.name))
    return index.model_copy(update={"releases": releases})


def add_software(
    index: ReleaseIndex,
    *,
    version: str,
    bundles: Sequence[SignedBundle],
    plan: Plan,
    now_s: int,
    gateways: Sequence[tuple[str, str]],
    replace: bool = False,
) -> ReleaseIndex:
    """Begin a release of the gateways' software; the rules are those of `add_release`.

    Args:
        index: The present index.
        version: The version of kpstream.
        bundles: Its signed bundles.
        plan: How it goes.
        now_s: Time of the release, epoch seconds.
        gateways: Name and group of the known gateways, for the first step.
        replace: Whether it may take the place of a release that is not at its end.

    Raises:
        ReleaseRefused: Another release of the software is not at its end.
    """
    before, content = index.software, (version, tuple(bundles), plan)
    if before is not None and before.state != "aborted":
        if (before.version, before.bundles, before.plan) == content:
            return index
        _check_is_over(before, replace=replace)
    number = next_number(index)
    release = SoftwareRelease(
        number=number,
        version=version,
        bundles=tuple(bundles),
        plan=plan,
        step_since_s=now_s,
        cutoff=cutoff_of(number, plan, 0, gateways),
        created_s=now_s,
    )
    return index.model_copy(update={"software": release})


def pause_release(index: ReleaseIndex, name: str, reason: str) -> ReleaseIndex:
    """Stop a release at its step: its gateways go on, no further one takes part.

    Raises:
        ReleaseRefused: There is no such release, or it is at its end.
    """
    release = find_release(index, name)
    if release.state == "paused":
        return index
    if release.state != "running":
        msg = f"release {release.number} of {name} is {release.state}: only a running one can pause"
        raise ReleaseRefused(msg)
    return _replaced(index, release, {"state": "paused", "reason": reason})


def resume_release(
    index: ReleaseIndex, name: str, now_s: int, max_failed: int | None = None
) -> ReleaseIndex:
    """Let a paused release go on; the time of its step begins again.

    Args:
        index: The present index.
        name: Name of the student.
        now_s: The time now, epoch seconds.
        max_failed: A new limit of failed gateways, without which the same failures pause it again.

    Raises:
        ReleaseRefused: There is no such release, or it is at its end.
    """
    release = find_release(index, name)
    if release.state not in ("paused", "running"):
        msg = f"release {release.number} of {name} is {release.state}: make a new one"
        raise ReleaseRefused(msg)
    changes: dict[str, object] = {}
    if release.state == "paused":
        changes = {"state": "running", "reason": "", "step_since_s": now_s}
    if max_failed is not None:
        changes["plan"] = release.plan.model_copy(update={"max_failed": max_failed})
    return _replaced(index, release, changes)


def abort_release(index: ReleaseIndex, name: str, reason: str) -> ReleaseIndex:
    """End a release in whatever state it is: its gateways go back to what ran before.

    Raises:
        ReleaseRefused: There is no such release.
    """
    release = find_release(index, name)
    if release.state == "aborted":
        return index
    return _replaced(index, release, {"state": "aborted", "reason": reason})


def set_policy(
    index: ReleaseIndex, gateway: str, group: str, change: Callable[[Policy], Policy]
) -> ReleaseIndex:
    """Change the policy of one gateway or group; one that asks for nothing is left out.

    Args:
        index: The present index.
        gateway: The gateway; "" for a group.
        group: The group; "" for a gateway.
        change: Returns the new policy for the present one.
    """
    empty = Policy(gateway=gateway, group=group)
    others = [each for each in index.policies if (each.gateway, each.group) != (gateway, group)]
    before = next((each for each in index.policies if each not in others), empty)
    after = change(before)
    kept = [*others, after] if after != empty else others
    policies = tuple(sorted(kept, key=lambda each: (each.group, each.gateway)))
    return index.model_copy(update={"policies": policies})


def _check_is_over(release: AnyRelease, *, replace: bool) -> None:
    if release.state == "complete" or replace:
        return
    msg = (
        f"release {release.number} ({release.title}) is {release.state}: abort it "
        f"(`kpstream centre abort {release.name}`), or add --replace"
    )
    raise ReleaseRefused(msg)


def _replaced(index: ReleaseIndex, release: AnyRelease, changes: dict[str, object]) -> ReleaseIndex:
    after = release.model_copy(update=changes)
    if isinstance(after, SoftwareRelease):
        return index.model_copy(update={"software": after})
    releases = tuple(after if each.name == after.name else each for each in index.releases)
    return index.model_copy(update={"releases": releases})

"""Making a student stable: every check of a gateway, in one place, before the pointer moves.

A pointer to a student that gateways refuse says one thing while another one scores. So whoever
makes a student stable (`kpstream models`, `train-redistill`) goes through `publish_stable` or
`promote`. They try the student in a child process as a gateway does (`models.trial`), refuse a
second student for a stream, because only the first one would score, and keep to what people have
held, pinned or rejected (`models.rulings`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.artifact import Artifact, read_artifact
from models.errors import Misfit, ModelError
from models.manifest import gives_same_scores
from models.pointer import Pointer
from models.registry import Registry
from models.rulings import read_rulings
from models.trial import Trial, try_student

__all__ = [
    "Accepted",
    "promote",
    "publish_stable",
    "require_releasable",
    "require_unruled",
    "retire",
    "rivals",
    "stable_version",
]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A student that is stable now.

    Attributes:
        pointer: Its version and digest.
        retired: New folders of the students that it replaces, by their names.
    """

    pointer: Pointer
    retired: dict[str, Path]


def publish_stable(
    registry: Registry,
    artifact_dir: str | os.PathLike[str],
    *,
    replace: bool = False,
    trial: Callable[[Artifact], Trial] = try_student,
) -> Accepted:
    """Publish an artifact as the next version of its name, and make it stable.

    Args:
        registry: The registry.
        artifact_dir: Directory of the artifact.
        replace: Retire other students of its stream.
        trial: Tries the student; it takes a second or two.

    Raises:
        Held: The name, or a name that it replaces, is held or pinned; nothing has changed.
        Rejected: It has the bytes of a version that was rejected; nothing has changed.
        ModelError: A gateway would not run the student, or another one scores its stream; nothing
            has changed.
        OSError: No trial could be started.
    """
    artifact = read_artifact(artifact_dir)
    _check_rulings(registry, artifact.manifest.name, None)
    _check_rejected(registry, artifact)
    others = _check(registry, artifact, replace, trial)
    version = registry.publish(artifact_dir, stable=True)
    digest = registry.read(artifact.manifest.name, version).digest
    return Accepted(Pointer(version=version, digest=digest), _retire(registry, others))


def promote(
    registry: Registry,
    name: str,
    version: int,
    *,
    replace: bool = False,
    trial: Callable[[Artifact], Trial] = try_student,
) -> Accepted:
    """Make a published version stable; see `publish_stable`. A rejected one is so no longer.

    Raises:
        Held: The name is pinned to another version, or held and the version is newer; nothing has
            changed.
        ModelError: There is no such version, a gateway would not run it, or another student scores
            its stream; nothing has changed.
        OSError: No trial could be started.
    """
    if version not in registry.list_versions(name):
        registry.set_stable(name, version)  # says which versions there are
    _check_rulings(registry, name, version)
    others = _check(registry, registry.read(name, version), replace, trial)
    pointer = registry.set_stable(name, version)
    return Accepted(pointer, _retire(registry, others))


def rivals(registry: Registry, stream: str, besides: str) -> list[str]:
    """Names of other students that are stable and score the stream."""
    found = []
    for name in registry.names():
        try:
            pointer = registry.read_stable(name)
            manifest = registry.read(name, pointer.version).manifest if pointer else None
        except ModelError:
            continue  # no gateway runs it
        if manifest is not None and manifest.stream == stream and name != besides:
            found.append(name)
    return found


def retire(registry: Registry, name: str) -> Path:
    """Retire a student that nobody holds or pins; see `Registry.retire`.

    Raises:
        Held: It is held or pinned.
        ModelError: The registry does not have it.
    """
    require_unruled(registry, name)
    return registry.retire(name)


def require_unruled(registry: Registry, name: str) -> None:
    """Refuse a name that is held or pinned, whatever the version.

    Raises:
        Held: It is.
    """
    read_rulings(registry.folder(name)).require_free(name, None, None)


def require_releasable(registry: Registry, name: str, version: int) -> None:
    """Refuse a version that must not go to gateways. A name that is not there has no rulings.

    Raises:
        Held: The name is pinned to another version, or held and the version is newer.
        Rejected: The version was rejected.
        NameRefused: `name` is invalid.
    """
    rulings = read_rulings(registry.folder(name))
    rulings.require_free(name, version, stable_version(registry, name))
    rulings.require_not_rejected(name, version)


def stable_version(registry: Registry, name: str) -> int | None:
    """The version that the pointer names; None without a pointer that can be read."""
    try:
        pointer = registry.read_stable(name)
    except ModelError:
        return None
    return None if pointer is None else pointer.version


def _check_rulings(registry: Registry, name: str, version: int | None) -> None:
    rulings = read_rulings(registry.folder(name))
    rulings.require_free(name, version, stable_version(registry, name))


def _check_rejected(registry: Registry, artifact: Artifact) -> None:
    """Refuse the bytes of a rejected version under a new number."""
    name = artifact.manifest.name
    rulings = read_rulings(registry.folder(name))
    for version in sorted(rulings.rejected):
        try:
            rejected = registry.read(name, version)
        except ModelError:
            continue  # nothing is left to compare with
        if gives_same_scores(rejected.manifest, artifact.manifest):
            rulings.require_not_rejected(name, version)


def _check(
    registry: Registry, artifact: Artifact, replace: bool, trial: Callable[[Artifact], Trial]
) -> list[str]:
    manifest = artifact.manifest
    others = rivals(registry, manifest.stream, besides=manifest.name)
    if others and not replace:
        msg = (
            f"{' and '.join(others)} already scores the stream {manifest.stream!r}, and only one "
            "student can: add --replace, which retires it, then restart the gateway; or publish "
            "under its name"
        )
        raise Misfit(msg)
    for other in others:
        require_unruled(registry, other)
    trial(artifact)
    return others


def _retire(registry: Registry, names: list[str]) -> dict[str, Path]:
    return {name: registry.retire(name) for name in names}

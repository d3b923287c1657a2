"""Find the student that a user means: by folder, in the registry, or among those that ship."""

from __future__ import annotations

from pathlib import Path

from models.artifact import MANIFEST_FILE, Artifact, read_artifact
from models.errors import VersionMissing
from models.registry import Registry
from models.zoo import list_zoo, zoo_path

__all__ = ["find_student"]


def find_student(name: str, registry: Registry, version: int | None = None) -> Artifact:
    """Read a student.

    Args:
        name: Folder of a student, or its name.
        registry: Its students come before those that ship.
        version: Version of the registry; None: the stable one, or the newest if none is stable.

    Raises:
        VersionMissing: There is no such student; the message lists those that there are.
        ModelError: It is damaged.
    """
    if (Path(name) / MANIFEST_FILE).is_file():
        return read_artifact(Path(name))
    if name in registry.names():
        if version is None:
            pointer = registry.read_stable(name)
            version = pointer.version if pointer else registry.list_versions(name)[-1]
        return registry.read(name, version)
    if name in list_zoo():
        return read_artifact(zoo_path(name))
    known = ", ".join(registry.names()) or "no student"
    msg = (
        f"there is no student {name!r}: no folder with a {MANIFEST_FILE} has this path, "
        f"{registry.root} has {known}, and these ship with kpstream: {', '.join(list_zoo())}"
    )
    raise VersionMissing(msg)

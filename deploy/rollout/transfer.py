"""The repository by hand: copied to a folder such as a USB stick, and taken over from one.

A copy is written as the repository itself: what a file names is there before the file, the
timestamp last. Taking over verifies everything first, as a gateway would, and never goes back to an
older state.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuf.api.metadata import Targets

from deploy.rollout.errors import CentreMissing, RepositoryDamaged
from deploy.rollout.folder import CentreFolder, make_folder
from deploy.rollout.metadata import (
    SignedState,
    read_root,
    read_roots,
    read_state,
    read_target,
    root_path,
    target_path,
)
from models.artifact import read_plain_file, write_durably

__all__ = ["export_repository", "import_repository"]

_MOST_SIGNED_BYTES = 5_000_000


def export_repository(folder: CentreFolder, copy: Path) -> int:
    """Write the newest state to a folder; an earlier copy there is brought up to date.

    Returns:
        The number of files that were written.

    Raises:
        RepositoryDamaged: The repository does not verify, or the folder holds another centre's
            repository, or a newer state of this one.
    """
    with folder.locked():
        repository = folder.repository
        state = read_state(repository)
        _check_newer(repository, copy, state)
        wanted = [*_named_files(repository, state, len(read_roots(repository)))]
        written = 0
        for path in wanted:
            target = copy / path.relative_to(repository)
            data = read_plain_file(path, max(_MOST_SIGNED_BYTES, path.stat().st_size))
            if not target.is_file() or target.read_bytes() != data:
                make_folder(target.parent)
                write_durably(target, data)
                written += 1
        keep = {copy / path.relative_to(repository) for path in wanted}
        for part in ("metadata", "targets"):
            for path in (copy / part).rglob("*.json"):
                if path not in keep:
                    path.unlink()
    return written


def import_repository(folder: CentreFolder, copy: Path, root: Path | None = None) -> bool:
    """Take over the state in a folder, if it is newer than ours.

    Args:
        folder: The folder of the centre, or of a mirror without keys.
        copy: A repository, as `export_repository` writes it.
        root: The first root, for a new mirror.

    Returns:
        Whether it was newer.

    Raises:
        CentreMissing: A new mirror has no root.
        RepositoryDamaged: The copy does not verify, is another centre's, or older than ours.
    """
    with folder.locked():
        first = root_path(folder.repository, 1)
        if not first.exists() and root is None:
            msg = f"{first} is missing: name the root that this mirror trusts with --root"
            raise CentreMissing(msg)
        trusted = read_root(first if first.exists() else root or first)
        if read_root(root_path(copy, 1)) != trusted:
            msg = f"{copy} does not begin with the trusted root: it is another centre's"
            raise RepositoryDamaged(msg)
        state = read_state(copy)
        roots = len(read_roots(copy))
        if not _check_newer(copy, folder.repository, state):
            return False
        targets = _contents(copy, state.targets)
        for version in range(1, roots + 1):
            if not root_path(folder.repository, version).exists():
                folder.publish_root(version, read_root(root_path(copy, version)))
        for path, data in targets:
            folder.write_static(folder.repository / path.relative_to(copy), data)
        for path in _signed_files(copy, state):
            data = read_plain_file(path, _MOST_SIGNED_BYTES)
            folder.write_static(folder.metadata / path.name, data)
        stamp = read_plain_file(copy / "metadata" / "timestamp.json", _MOST_SIGNED_BYTES)
        folder.publish_timestamp(stamp)
    return True


def _check_newer(source: Path, other: Path, state: SignedState) -> bool:
    """Whether a state is newer than that of another copy of the same repository.

    Raises:
        RepositoryDamaged: The other copy is another centre's, is newer, or has the same version
            with another content.
    """
    if not root_path(other, 1).exists():
        return True
    if read_root(root_path(other, 1)) != read_root(root_path(source, 1)):
        msg = f"{other} holds the repository of another centre"
        raise RepositoryDamaged(msg)
    if not (other / "metadata" / "timestamp.json").exists():
        return True
    known = read_state(other)
    for role in ("root", "timestamp", "snapshot", "targets"):
        ours, theirs = getattr(state, role).version, getattr(known, role).version
        if ours < theirs:
            msg = (
                f"{source} is older than {other}: its {role} has version {ours}, the other one "
                f"{theirs}"
            )
            raise RepositoryDamaged(msg)
    if state.timestamp.version > known.timestamp.version:
        return True
    if state.timestamp != known.timestamp:
        msg = (
            f"{source} and {other} have the same version with another content: two copies of the "
            "centre's keys were used; go on with one of them only, and rotate the keys"
        )
        raise RepositoryDamaged(msg)
    return state.root.version > known.root.version


def _named_files(repository: Path, state: SignedState, roots: int) -> Iterator[Path]:
    """The files of a state in the order in which they may appear."""
    for version in range(1, roots + 1):
        yield root_path(repository, version)
    for target in state.targets.targets.values():
        yield target_path(repository, target)
    yield from _signed_files(repository, state)
    yield repository / "metadata" / "timestamp.json"


def _signed_files(repository: Path, state: SignedState) -> Iterator[Path]:
    yield repository / "metadata" / f"{state.targets.version}.targets.json"
    yield repository / "metadata" / f"{state.snapshot.version}.snapshot.json"


def _contents(repository: Path, targets: Targets) -> Iterator[tuple[Path, bytes]]:
    for name, target in targets.targets.items():
        data = read_target(repository, targets, name, target.length)
        yield target_path(repository, target), data

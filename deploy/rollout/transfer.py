"""The repository by hand: copied to a folder such as a USB stick, and taken over from one.

What comes is copied beside the repository and verified there, as a gateway would; then the folders
of signed files change places. Keys may have changed since the older state, and no order of single
files would verify at every moment. Nothing ever goes back to an older state.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Literal

from tuf.api.metadata import TargetFile

from deploy.rollout.errors import CentreMissing, RepositoryDamaged
from deploy.rollout.folder import CentreFolder, make_folder
from deploy.rollout.metadata import (
    SignedState,
    read_root,
    read_roots,
    read_state,
    read_target,
    root_path,
    target_parts,
    target_path,
)
from deploy.rollout.release import INDEX_TARGET, MAX_INDEX_BYTES
from models.artifact import read_plain_file, sync_directory, write_durably

__all__ = ["Outcome", "export_repository", "import_repository"]

Outcome = Literal["same", "newer", "repaired"]
"""What a copy did to a repository; `repaired`: that one did not verify before."""

_MOST_SIGNED_BYTES = 5_000_000
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def export_repository(folder: CentreFolder, copy: Path) -> Outcome:
    """Write the newest state to a folder; an earlier copy there is brought up to date.

    Raises:
        RepositoryDamaged: The repository does not verify, or the folder holds another centre's
            repository, or a newer state of this one.
    """
    with folder.locked():
        first = read_root(root_path(folder.repository, 1))
        return _bring(folder.repository, copy, copy / ".incoming", first)


def import_repository(folder: CentreFolder, copy: Path, root: Path | None = None) -> Outcome:
    """Take over the state in a folder, if it is newer than ours, or ours does not verify.

    Args:
        folder: The folder of the centre, or of a mirror without keys.
        copy: A repository, as `export_repository` writes it.
        root: The first root, for a new mirror.

    Raises:
        CentreMissing: A new mirror has no root.
        RepositoryDamaged: The copy does not verify, is another centre's, or older than ours.
    """
    with folder.locked():
        ours = root_path(folder.repository, 1)
        if not ours.exists() and root is None:
            msg = f"{ours} is missing: name the root that this mirror trusts with --root"
            raise CentreMissing(msg)
        first = read_root(ours if ours.exists() or root is None else root)
        return _bring(copy, folder.repository, folder.incoming, first)


def _bring(source: Path, destination: Path, incoming: Path, first: bytes) -> Outcome:
    """Bring the state of a repository that begins with a trusted root to another place."""
    shutil.rmtree(incoming, ignore_errors=True)
    _copy_signed_files(source, incoming)
    if read_root(root_path(incoming, 1)) != first:
        msg = f"{source} does not begin with the trusted root: it is another centre's"
        raise RepositoryDamaged(msg)
    if root_path(destination, 1).exists() and read_root(root_path(destination, 1)) != first:
        msg = f"{destination} holds the repository of another centre: choose another folder"
        raise RepositoryDamaged(msg)
    state = read_state(incoming)
    outcome = _compare(source, state, destination)
    if outcome != "same":
        for target in state.targets.targets.values():
            path = target_path(destination, target)
            if not _is_there(path, target):
                make_folder(path.parent)
                write_durably(path, target_parts(target_path(source, target), target))
        _exchange(incoming / "metadata", destination / "metadata")
        named = {target_path(destination, target) for target in state.targets.targets.values()}
        for path in (destination / "targets").rglob("*"):
            if path.is_file() and path not in named:
                path.unlink()
    shutil.rmtree(incoming, ignore_errors=True)
    return outcome


def _is_there(path: Path, target: TargetFile) -> bool:
    try:
        for _ in target_parts(path, target):
            pass
    except RepositoryDamaged:
        return False
    return True


def _copy_signed_files(source: Path, incoming: Path) -> None:
    """Copy roots, signed files and index; what is verified afterwards is what is used."""
    state = read_state(source)
    make_folder(incoming / "metadata")
    make_folder(incoming / "targets")
    roots = [f"{version}.root.json" for version in range(1, len(read_roots(source)) + 1)]
    signed = [f"{each.version}.{each.type}.json" for each in (state.targets, state.snapshot)]
    for name in (*roots, *signed, "timestamp.json"):
        data = read_plain_file(source / "metadata" / name, _MOST_SIGNED_BYTES)
        write_durably(incoming / "metadata" / name, data)
    index = state.targets.targets[INDEX_TARGET]
    data = read_target(source, state.targets, INDEX_TARGET, MAX_INDEX_BYTES)
    write_durably(target_path(incoming, index), data)


def _compare(source: Path, state: SignedState, other: Path) -> Outcome:
    """Compare a state with the one at another place.

    Raises:
        RepositoryDamaged: The other one is newer, or has the same version with another content.
    """
    if not root_path(other, 1).exists():
        return "newer"
    try:
        known = read_state(other)
    except (CentreMissing, RepositoryDamaged):
        return "repaired"
    for role in ("root", "timestamp", "snapshot", "targets"):
        ours, theirs = getattr(state, role).version, getattr(known, role).version
        if ours < theirs:
            msg = f"{source} is older than {other}: {role} version {ours}, the other has {theirs}"
            raise RepositoryDamaged(msg)
    if state == known:
        return "same"
    if state.timestamp.version == known.timestamp.version and state.timestamp != known.timestamp:
        msg = (
            f"{source} and {other} have the same version with another content: two copies of the "
            "centre have signed. Go on with one of them only, and rotate the keys"
        )
        raise RepositoryDamaged(msg)
    return "newer"


def _exchange(new: Path, old: Path) -> None:
    """Have two folders change places in one step, where the file system can."""
    if not old.exists():
        make_folder(old.parent)
        new.rename(old)
    elif not _exchanged(new, old):
        aside = new.with_name("old")
        old.rename(aside)
        new.rename(old)  # `CentreFolder.locked` does this after a kill in between
    sync_directory(old.parent)
    sync_directory(new.parent)


def _exchanged(new: Path, old: Path) -> bool:
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(new), os.fsencode(old)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)

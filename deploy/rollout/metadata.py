"""The signed files of a repository: read and verified as one state, or made.

```
{repository}/metadata/1.root.json, 2.root.json, ...      who may sign; the one before verifies it
{repository}/metadata/timestamp.json                     names the newest snapshot; replaced last
{repository}/metadata/N.snapshot.json, N.targets.json    never changed once the timestamp names them
{repository}/targets/{folder}/{sha256}.{name}            never changed
```

Reading goes the way of a gateway: roots, timestamp, snapshot, targets, index; each file is bounded,
and nothing that does not verify is used. Expiry is not checked here, because the centre renews what
has expired; `expired_roles` names it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from deploy.rollout.errors import CentreMissing, RepositoryDamaged, first_fault
from deploy.rollout.release import INDEX_TARGET, MAX_INDEX_BYTES, ReleaseIndex
from ingest.secrettext import error_text
from models.artifact import open_plain_file, read_plain_file
from models.errors import ArtifactError, ArtifactMissing

__all__ = [
    "ONLINE_ROLES",
    "SignedState",
    "encode_signed",
    "expired_roles",
    "expires_at",
    "meta_file",
    "read_root",
    "read_roots",
    "read_state",
    "read_target",
    "root_path",
    "target_parts",
    "target_path",
    "verify_next_root",
]

ONLINE_ROLES = ("targets", "snapshot", "timestamp")
"""The roles whose keys stay at the centre; the keys of the role `root` can be carried away."""

_MOST_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}
"""Largest files that a gateway accepts."""

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
_PART_BYTES = 1024**2
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Kind = TypeVar("_Kind", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class SignedState:
    """One verified state of a repository.

    Attributes:
        root: The newest root.
        timestamp: The timestamp, which names the snapshot.
        snapshot: The snapshot, which names the targets.
        targets: Length and SHA-256 of every target by its name.
        index: Content of the target `releases.json`.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    index: ReleaseIndex


def read_state(repository: Path, timestamp: Path | None = None) -> SignedState:
    """Read and verify a repository.

    Args:
        repository: Its folder.
        timestamp: Another file to take for `timestamp.json`.

    Raises:
        CentreMissing: It has no first root, or no timestamp.
        RepositoryDamaged: A file is missing, damaged, or wrongly signed.
    """
    metadata = repository / "metadata"
    root = read_roots(repository)[-1]
    newest = timestamp or metadata / "timestamp.json"
    if not newest.exists():
        msg = f"{newest} is missing: the setup was interrupted, run `kpstream centre init` again"
        raise CentreMissing(msg)
    data = _read(newest, _MOST_BYTES["timestamp"])
    stamped = _verified(root, Timestamp, data, newest)
    snapshot = _read_named(metadata, root, Snapshot, stamped.snapshot_meta)
    named = snapshot.meta.get("targets.json")
    if named is None:
        msg = f"{_versioned(metadata, 'snapshot', stamped.snapshot_meta)} does not name targets"
        raise RepositoryDamaged(msg)
    targets = _read_named(metadata, root, Targets, named)
    body = read_target(repository, targets, INDEX_TARGET, MAX_INDEX_BYTES)
    try:
        index = ReleaseIndex.model_validate_json(body)
    except ValidationError as exc:
        msg = f"the signed index is invalid: {first_fault(exc)}"
        raise RepositoryDamaged(msg) from exc
    return SignedState(root, stamped, snapshot, targets, index)


def read_roots(repository: Path) -> list[Root]:
    """Read every root from the first one on; each is verified by itself and by the one before.

    Raises:
        CentreMissing: There is no first root.
        RepositoryDamaged: A root is damaged or wrongly signed.
    """
    path = root_path(repository, 1)
    if not path.exists():
        msg = f"{path} is missing: there is no centre here; `kpstream centre init` sets one up"
        raise CentreMissing(msg)
    roots: list[Root] = []
    while path.exists():
        roots.append(verify_next_root(roots[-1] if roots else None, read_root(path), path))
        path = root_path(repository, len(roots) + 1)
    return roots


def read_root(path: Path) -> bytes:
    """Read the bytes of a root, bounded.

    Raises:
        RepositoryDamaged: It cannot be read.
    """
    return _read(path, _MOST_BYTES["root"])


def verify_next_root(before: Root | None, data: bytes, path: Path) -> Root:
    """Verify a root by itself, and by the one before it if any.

    Raises:
        RepositoryDamaged: It is damaged, or not signed by enough keys of both, or not the next one.
    """
    try:
        document = Metadata[Root].from_bytes(data)
        root = document.signed
        if root.type != Root.type:
            msg = f"{path} is no root"
            raise RepositoryDamaged(msg)
        for judge in (root,) if before is None else (before, root):
            judge.verify_delegate(Root.type, document.signed_bytes, document.signatures)
    except (RepositoryError, ValueError) as exc:
        raise _damaged(path, exc) from exc
    if before is not None and root.version != before.version + 1:
        msg = f"{path} has version {root.version}, not {before.version + 1}"
        raise RepositoryDamaged(msg)
    return root


def read_target(repository: Path, targets: Targets, name: str, limit: int) -> bytes:
    """Read a target and compare it with its signed length and SHA-256.

    Raises:
        RepositoryDamaged: It is missing or differs.
    """
    signed = targets.targets.get(name)
    if signed is None:
        msg = f"the signed targets do not name {name}"
        raise RepositoryDamaged(msg)
    path = target_path(repository, signed)
    data = _read(path, limit)
    try:
        signed.verify_length_and_hashes(data)
    except RepositoryError as exc:
        raise _damaged(path, exc) from exc
    return data


def target_parts(path: Path, target: TargetFile) -> Iterator[bytes]:
    """Read a file that should be a target in parts, and compare it at its end.

    Raises:
        RepositoryDamaged: It is missing, or length or SHA-256 differ.
    """
    digest, left = hashlib.sha256(), target.length
    try:
        with os.fdopen(open_plain_file(path, os.O_RDONLY), "rb") as file:
            while part := file.read(min(_PART_BYTES, left + 1)):
                digest.update(part)
                left -= len(part)
                if left < 0:
                    break
                yield part
    except ArtifactError as exc:
        msg = f"{path} is missing or no plain file: put the repository back from a copy"
        raise RepositoryDamaged(msg) from exc
    if left or digest.hexdigest() != target.hashes.get("sha256"):
        raise _damaged(path, ValueError("length or SHA-256 is not the signed one"))


def target_path(repository: Path, target: TargetFile) -> Path:
    """The file of a target, with its SHA-256 before its name.

    Raises:
        RepositoryDamaged: The signed name leads elsewhere, or there is no SHA-256.
    """
    *folders, name = target.path.split("/")
    digest = target.hashes.get("sha256", "")
    if not _SHA256.fullmatch(digest) or not all(map(_PART.fullmatch, (*folders, name))):
        msg = (
            f"the signed target {target.path!a} is none that kpstream makes: whoever signed it has "
            "the keys; rotate them (`kpstream centre rotate`)"
        )
        raise RepositoryDamaged(msg)
    return (repository / "targets").joinpath(*folders, f"{digest}.{name}")


def root_path(repository: Path, version: int) -> Path:
    """The file of a root."""
    return repository / "metadata" / f"{version}.root.json"


def encode_signed(
    signed: Root | Timestamp | Snapshot | Targets, signers: Iterable[Signer]
) -> bytes:
    """Sign a document with every signer, and return the bytes of its file."""
    document = Metadata[Any](signed)
    for signer in signers:
        document.sign(signer, append=True)
    return document.to_bytes()


def meta_file(version: int, data: bytes) -> MetaFile:
    """Version, length and SHA-256 of a metadata file, for the file that names it."""
    return MetaFile.from_data(version, data, ["sha256"])


def expires_at(now_s: int, days: int) -> datetime:
    """The moment some days from now, as metadata name it."""
    return datetime.fromtimestamp(now_s + days * 86_400, timezone.utc)


def expired_roles(state: SignedState, now_s: int) -> list[str]:
    """Names of the roles whose file has expired at a time."""
    now = datetime.fromtimestamp(now_s, timezone.utc)
    files = (state.root, state.targets, state.snapshot, state.timestamp)
    return [signed.type for signed in files if signed.is_expired(now)]


def _read_named(metadata: Path, root: Root, kind: type[_Kind], named: MetaFile) -> _Kind:
    path = _versioned(metadata, kind.type, named)
    data = _read(path, _MOST_BYTES[kind.type])
    try:
        named.verify_length_and_hashes(data)
    except RepositoryError as exc:
        raise _damaged(path, exc) from exc
    signed = _verified(root, kind, data, path)
    if signed.version != named.version:
        msg = f"{path} has version {signed.version}, not {named.version}"
        raise RepositoryDamaged(msg)
    return signed


def _verified(root: Root, kind: type[_Kind], data: bytes, path: Path) -> _Kind:
    try:
        document = Metadata[_Kind].from_bytes(data)
        root.verify_delegate(kind.type, document.signed_bytes, document.signatures)
    except (RepositoryError, ValueError) as exc:
        raise _damaged(path, exc) from exc
    if not isinstance(document.signed, kind):
        msg = f"{path} is no file of the role {kind.type}"
        raise RepositoryDamaged(msg)
    return document.signed


def _versioned(metadata: Path, role: str, named: MetaFile) -> Path:
    return metadata / f"{named.version}.{role}.json"


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_plain_file(path, limit)
    except ArtifactMissing as exc:
        msg = f"{path} is missing or cannot be read: put the repository back from a copy"
        raise RepositoryDamaged(msg) from exc
    except ArtifactError as exc:
        msg = f"{path} is no file of a repository: put it back from a copy"
        raise RepositoryDamaged(msg) from exc


def _damaged(path: Path, error: Exception) -> RepositoryDamaged:
    return RepositoryDamaged(
        f"{path} does not verify ({error_text(error)}): put the repository back from a copy "
        "(`kpstream centre import`)"
    )

"""Ceremonies of keys: setting a centre up, replacing keys, renewing the root.

The root names the keys of every role. It needs the signatures of its own `threshold` keys, and each
new root those of the one before, so that a gateway goes from the root that it was given to the
newest. A key of another role is replaced in three steps, each of which leaves a repository that
verifies: a root with the old and the new key, files signed with the new key, a root without the old
key. A ceremony that was interrupted is done by the same command again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role, Root

from deploy.rollout.errors import CentreMissing, KeyRefused, ReleaseRefused
from deploy.rollout.keys import (
    Keys,
    Passphrase,
    generate_key,
    key_path,
    key_paths,
    public_id,
    write_key,
)
from deploy.rollout.metadata import (
    ONLINE_ROLES,
    encode_signed,
    read_roots,
    root_path,
    verify_next_root,
)
from deploy.rollout.release import ReleaseIndex
from deploy.rollout.repository import CentreRepository
from ingest.statefile import read_regular, replace_file
from models.artifact import sync_directory

__all__ = ["RootKeys", "renew_root", "rotate_online", "rotate_root", "set_up"]

_MOST_KEYS = 20


@dataclass(frozen=True, slots=True)
class RootKeys:
    """New keys of the root.

    Attributes:
        count: Number of keys.
        threshold: How many of them a root needs.
        folder: Folder for their files; it can be carried away afterwards.
        passphrase: Returns the passphrase of a new key file.
    """

    count: int
    threshold: int
    folder: Path
    passphrase: Passphrase

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.threshold <= self.count <= _MOST_KEYS:
            msg = (
                f"{self.count} root keys with a threshold of {self.threshold} are not possible: "
                f"the threshold is between 1 and the number of keys, which is at most {_MOST_KEYS}"
            )
            raise ReleaseRefused(msg)


class _Record(BaseModel):
    """The content of ceremony.json: keys that belong to a root which may not have appeared yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    paths: tuple[str, ...]


def set_up(repository: CentreRepository, root_keys: RootKeys) -> bool:
    """Make the keys, the first root and an empty index; goes on from an interrupted setup.

    Returns:
        Whether anything had to be made.

    Raises:
        ReleaseRefused: There is a centre with other root keys.
        KeyRefused: There are keys whose repository is missing.
        CentreError: See `CentreRepository.write_index`.
    """
    folder = repository.folder
    first = root_path(folder.repository, 1)
    with repository.locked():
        _finish(repository)
        made = not first.exists()
        if made:
            _refuse_foreign_keys(folder.keys)
            online = {role: generate_key() for role in ONLINE_ROLES}
            offline = [generate_key() for _ in range(root_keys.count)]
            paths = [*_paths(root_keys.folder, "root", offline)]
            for role, key in online.items():
                paths += _paths(folder.keys, role, [key])
            _record(repository, 1, paths)
            for role, key in online.items():
                write_key(folder.keys, role, key, repository.passphrase())
            _write_root_keys(root_keys, offline)
            folder.publish_root(1, _first_root(repository, root_keys, online, offline))
        root = read_roots(folder.repository)[-1]
        if root.version == 1:
            present = root.roles[Root.type]
            if (len(present.keyids), present.threshold) != (root_keys.count, root_keys.threshold):
                msg = (
                    f"{folder.path} has {len(present.keyids)} root keys with a threshold of "
                    f"{present.threshold} already: replace them with `kpstream centre rotate root`"
                )
                raise ReleaseRefused(msg)
        if not (folder.metadata / "timestamp.json").exists():
            made = True
            index = ReleaseIndex(made_s=repository.now_s())
            repository.commit(None, targets=repository.write_index_file(index))
        _finish(repository)
    return made


def rotate_online(repository: CentreRepository, role: str, root_signers: Keys) -> str:
    """Replace the key of `targets`, `snapshot` or `timestamp`; the old one may be lost.

    Args:
        repository: The repository.
        role: The role.
        root_signers: Root keys, at least as many as the threshold.

    Returns:
        The id of the new key.

    Raises:
        KeyRefused: Too few root keys are here.
        CentreError: See `CentreRepository.write_index`.
    """
    folder = repository.folder
    with repository.locked():
        _finish(repository)
        root = read_roots(folder.repository)[-1]
        _root_signers(root, root_signers)  # before anything is written
        if len(root.roles[role].keyids) == 1:
            key = generate_key()
            _record(repository, root.version + 1, _paths(folder.keys, role, [key]))
            write_key(folder.keys, role, key, repository.passphrase())
            both = _next(repository, root)
            both.add_key(CryptoSigner(key).public_key, role)
            root = _publish(repository, root, both, root_signers)
            _finish(repository)
        repository.commit(repository.state(), renew=[role])
        *old, newest = root.roles[role].keyids
        only_new = _next(repository, root)
        for keyid in old:
            only_new.revoke_key(keyid, role)
        _publish(repository, root, only_new, root_signers)
        for keyid in old:
            key_path(folder.keys, role, keyid).unlink(missing_ok=True)
        sync_directory(folder.keys)
    return str(newest)


def rotate_root(
    repository: CentreRepository, root_keys: RootKeys, root_signers: Keys
) -> tuple[Root, bool]:
    """Replace all keys of the root.

    Args:
        repository: The repository.
        root_keys: The new keys.
        root_signers: The present keys, at least as many as the threshold.

    Returns:
        The new root, and whether an earlier command had already made it.

    Raises:
        KeyRefused: Too few root keys are here.
        CentreError: See `CentreRepository.write_index`.
    """
    with repository.locked():
        _finish(repository)
        *_, before, root = [None, *read_roots(repository.folder.repository)]
        assert root is not None  # noqa: S101 - there is a first root
        if before is not None and _is_made_with(before, root, root_signers):
            return root, True
        _root_signers(root, root_signers)
        keys = [generate_key() for _ in range(root_keys.count)]
        paths = _paths(root_keys.folder, Root.type, keys)
        _record(repository, root.version + 1, paths)
        _write_root_keys(root_keys, keys)
        changed = _next(repository, root)
        for keyid in [*root.roles[Root.type].keyids]:
            changed.revoke_key(keyid, Root.type)
        new_signers = [CryptoSigner(key) for key in keys]
        for signer in new_signers:
            changed.add_key(signer.public_key, Root.type)
        changed.roles[Root.type].threshold = root_keys.threshold
        changed = _publish(repository, root, changed, root_signers, new_signers)
        _finish(repository)
    return changed, False


def renew_root(repository: CentreRepository, root_signers: Keys) -> Root:
    """Sign the root anew with its present keys, so that it does not expire.

    Raises:
        KeyRefused: Too few root keys are here.
        CentreError: See `CentreRepository.write_index`.
    """
    with repository.locked():
        _finish(repository)
        root = read_roots(repository.folder.repository)[-1]
        return _publish(repository, root, _next(repository, root), root_signers)


def _first_root(
    repository: CentreRepository,
    root_keys: RootKeys,
    online: Mapping[str, Ed25519PrivateKey],
    offline: Sequence[Ed25519PrivateKey],
) -> bytes:
    root = Root(1, None, repository.expires(Root.type))
    for role, key in online.items():
        root.add_key(CryptoSigner(key).public_key, role)
    signers = [CryptoSigner(key) for key in offline]
    for signer in signers:
        root.add_key(signer.public_key, Root.type)
    keyids = root.roles[Root.type].keyids
    root.roles[Root.type] = Role(keyids, root_keys.threshold)
    return encode_signed(root, signers)


def _next(repository: CentreRepository, root: Root) -> Root:
    changed = deepcopy(root)
    changed.version += 1
    changed.expires = repository.expires(Root.type)
    return changed


def _publish(
    repository: CentreRepository,
    before: Root,
    root: Root,
    root_signers: Keys,
    new_signers: Sequence[CryptoSigner] = (),
) -> Root:
    data = encode_signed(root, [*_root_signers(before, root_signers), *new_signers])
    path = root_path(repository.folder.repository, root.version)
    checked = verify_next_root(before, data, path)
    repository.folder.publish_root(root.version, data)
    return checked


def _root_signers(root: Root, keys: Keys) -> list[CryptoSigner]:
    role = root.roles[Root.type]
    found = keys.signers(Root.type, role.keyids)
    if len(found) < role.threshold:
        names = ", ".join(key_path(Path(), Root.type, keyid).name for keyid in role.keyids)
        msg = (
            f"{len(found)} of the root keys are here, {role.threshold} are needed: name the "
            f"folders or files of more with --root-key ({names})"
        )
        raise KeyRefused(msg)
    return found


def _is_made_with(before: Root, root: Root, keys: Keys) -> bool:
    """Whether these keys could sign the root before, but cannot sign the present one."""

    def suffice(judge: Root) -> bool:
        role = judge.roles[Root.type]
        return len(keys.signers(Root.type, role.keyids)) >= role.threshold

    return not suffice(root) and suffice(before)


def _write_root_keys(root_keys: RootKeys, keys: Sequence[Ed25519PrivateKey]) -> None:
    for key in keys:
        path = key_path(root_keys.folder, Root.type, public_id(key))
        write_key(root_keys.folder, Root.type, key, root_keys.passphrase(path))


def _paths(folder: Path, role: str, keys: Sequence[Ed25519PrivateKey]) -> list[Path]:
    return [key_path(folder, role, public_id(key)) for key in keys]


def _refuse_foreign_keys(keys: Path) -> None:
    found = [path for role in ONLINE_ROLES for path in key_paths(keys, role)]
    if found:
        msg = (
            f"{found[0]} is the key of a centre whose repository is missing: put the repository "
            "back from a copy, or set the new centre up in another folder"
        )
        raise KeyRefused(msg)


def _record(repository: CentreRepository, version: int, paths: Sequence[Path]) -> None:
    absolute = tuple(str(path.absolute()) for path in paths)
    record = _Record(version=version, paths=absolute)
    path = repository.folder.path / "ceremony.json"
    replace_file(path, record.model_dump_json().encode())
    sync_directory(path.parent)


def _finish(repository: CentreRepository) -> None:
    """End the recorded ceremony: keep its keys if their root has appeared, else remove them."""
    path = repository.folder.path / "ceremony.json"
    try:
        record = _Record.model_validate_json(read_regular(path, 100_000))
    except FileNotFoundError:
        return
    except (OSError, ValidationError) as exc:
        msg = f"{path} is damaged: the keys of an interrupted ceremony may lie around; move it away"
        raise CentreMissing(msg) from exc
    if not root_path(repository.folder.repository, record.version).exists():
        for name in record.paths:
            for leftover in (Path(name), Path(name + ".new")):
                leftover.unlink(missing_ok=True)
    path.unlink()
    sync_directory(path.parent)

"""The signed repository of a centre: students, software, and the index of releases.

Every change is one commit under the lock of the folder: target files, targets, snapshot, and the
timestamp last. A gateway that reads in between sees the state before or the state after. A command
that was killed is run again; it finishes the commit, or makes it anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from deploy.rollout.errors import ClockRefused, KeyRefused, ReleaseRefused, first_fault
from deploy.rollout.folder import CentreFolder
from deploy.rollout.keys import Keys
from deploy.rollout.metadata import (
    ONLINE_ROLES,
    SignedState,
    encode_signed,
    expires_at,
    meta_file,
    read_roots,
    read_state,
    target_parts,
    target_path,
)
from deploy.rollout.release import INDEX_TARGET, MAX_INDEX_BYTES, SOFTWARE, ReleaseIndex
from deploy.rollout.software import bundle_file, without_old_bundles
from ingest.clock import utc_text
from models.artifact import MANIFEST_FILE, ONNX_FILE, Artifact

__all__ = ["CentreRepository", "Lifetimes", "student_targets"]

_CLOCK_SLACK_S = 86_400
_KEPT_FILES = 50
"""Earlier states that stay, for gateways that are just reading them."""
_KEPT_VERSIONS = 50
"""Versions of a student that stay, besides those that a release names."""
_MOST_SIGNED_BYTES = {"targets": 4_500_000, "snapshot": 1_500_000}
"""Below what a gateway accepts (`deploy.rollout.metadata`)."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Days after which a signed file expires, unless it is renewed.

    Attributes:
        root: The root; a ceremony with its keys renews it.
        targets: The targets.
        snapshot: The snapshot.
        timestamp: The timestamp: how long a gateway may be shown an old state without noticing.
    """

    root: int = 730
    targets: int = 90
    snapshot: int = 30
    timestamp: int = 7


class CentreRepository:
    """The repository in the folder of a centre. Several processes may use it at once.

    Args:
        folder: The folder of the centre; `repository/`, `keys/` and `inventory/` lie in it.
        now_s: The clock, epoch seconds.
        passphrase: Returns the passphrase of the keys; asked when a key is first needed.
        lifetimes: Days after which signed files expire.
    """

    def __init__(
        self,
        folder: Path,
        now_s: Callable[[], int],
        passphrase: Callable[[], bytes | None],
        lifetimes: Lifetimes | None = None,
    ) -> None:
        self.folder = CentreFolder(folder)
        self.lifetimes = lifetimes or Lifetimes()
        self.now_s = now_s
        self.passphrase = passphrase
        self._keys = Keys([self.folder.keys], lambda _: passphrase())

    def state(self) -> SignedState:
        """The newest state, verified.

        Raises:
            CentreMissing: There is no centre in the folder.
            RepositoryDamaged: The repository does not verify.
        """
        return read_state(self.folder.repository)

    def index(self) -> ReleaseIndex:
        """The newest index of releases, verified; raises as `state`."""
        return self.state().index

    def unlock(self) -> None:
        """Open the keys before the lock is held, because a person may have to type a passphrase.

        Raises:
            CentreError: As `state`; or a key is missing or does not open.
        """
        root = self.state().root
        for role in ONLINE_ROLES:
            self.signers(root, role)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the folder; see `CentreFolder.locked`."""
        return self.folder.locked()

    def publish(self, artifact: Artifact) -> bool:
        """Add the two files of a student; nothing happens if the repository has them.

        Returns:
            Whether it was new.

        Raises:
            ReleaseRefused: The version is there with another content.
            CentreError: See `write_index`.
        """
        manifest = artifact.manifest
        contents = {
            MANIFEST_FILE: artifact.manifest_bytes,
            ONNX_FILE: artifact.onnx_bytes,
        }
        files = {
            f"{student_targets(manifest.name, manifest.version)}/{name}": data
            for name, data in contents.items()
        }
        named = {name: TargetFile.from_data(name, data, ["sha256"]) for name, data in files.items()}
        with self.locked():
            state = self._read()
            known = {name: state.targets.targets.get(name) for name in files}
            if any(known[name] not in (None, named[name]) for name in files):
                msg = (
                    f"{manifest.name} v{manifest.version} is published with another content: "
                    "publish this one under a new version"
                )
                raise ReleaseRefused(msg)
            if None not in known.values():
                return False
            for name, data in files.items():
                self.folder.write_static(target_path(self.folder.repository, named[name]), data)
            kept = _without_old_versions(state, manifest.name)
            self.commit(state, targets={**kept, **named})
        return True

    def publish_bundle(self, archive: Path) -> tuple[str, bool]:
        """Add an offline bundle of the gateways' software; nothing happens if it is there.

        Returns:
            Name of its target, and whether it was new.

        Raises:
            ReleaseRefused: It is no bundle, or its name is there with another content.
            CentreError: See `write_index`.
        """
        file = bundle_file(archive)
        with self.locked():
            state = self._read()
            known = state.targets.targets.get(file.path)
            if known not in (None, file):
                msg = (
                    f"{file.path} is published with another content: publish this one under a new "
                    "version"
                )
                raise ReleaseRefused(msg)
            if known is not None:
                return file.path, False
            path = target_path(self.folder.repository, file)
            self.folder.write_static(path, target_parts(archive, file))
            kept = without_old_bundles(state, self.folder.repository, state.index.software)
            self.commit(state, targets={**kept, file.path: file})
        return file.path, True

    def write_index(self, change: Callable[[ReleaseIndex], ReleaseIndex]) -> ReleaseIndex:
        """Change the index of releases; a change that changes nothing makes no new version.

        Args:
            change: Returns the new index for the present one. `made_s` is set here.

        Returns:
            The newest index.

        Raises:
            CentreMissing: There is no centre in the folder.
            CentreBusy: Another command has held the lock for too long.
            ClockRefused: This machine's clock is before the newest index.
            KeyRefused: A key is missing or does not open.
            ReleaseRefused: The new index is invalid or too large.
            RepositoryDamaged: The repository does not verify.
        """
        with self.locked():
            state = self._read()
            changed = change(state.index)
            if changed.model_copy(update={"made_s": state.index.made_s}) == state.index:
                return state.index
            made_s = max(self.now_s(), state.index.made_s)
            index = changed.model_copy(update={"made_s": made_s})
            self.commit(state, targets={**state.targets.targets, **self.write_index_file(index)})
        return index

    def refresh_timestamp(self) -> list[str]:
        """Renew the signed files that are past half of their life; run it every day.

        Returns:
            The roles that were renewed; empty if nothing was due.

        Raises:
            CentreError: See `write_index`.
        """
        with self.locked():
            state = self._read()
            due = [
                signed.type
                for signed in (state.targets, state.snapshot, state.timestamp)
                if signed.expires < self._half_life(signed.type)
            ]
            if not due:
                return []
            return self.commit(state, renew=due)

    def write_index_file(self, index: ReleaseIndex) -> dict[str, TargetFile]:
        """Write an index as a static file that nothing names yet; call it under the lock.

        Raises:
            ReleaseRefused: It is invalid or too large.
        """
        data = index.model_dump_json().encode()
        try:
            ReleaseIndex.model_validate_json(data)
        except ValidationError as exc:
            msg = f"the index would be invalid: {first_fault(exc)}"
            raise ReleaseRefused(msg) from exc
        if len(data) > MAX_INDEX_BYTES:
            msg = (
                f"the index would have {len(data)} bytes, more than {MAX_INDEX_BYTES}: use "
                "policies of groups instead of single gateways, and shorter hold lists"
            )
            raise ReleaseRefused(msg)
        target = TargetFile.from_data(INDEX_TARGET, data, ["sha256"])
        self.folder.write_static(target_path(self.folder.repository, target), data)
        return {INDEX_TARGET: target}

    def commit(
        self,
        state: SignedState | None,
        *,
        targets: Mapping[str, TargetFile] | None = None,
        renew: Collection[str] = (),
    ) -> list[str]:
        """Sign and show a new state; call it under the lock.

        Args:
            state: The present state; None for the first one.
            targets: All targets of the new state; None to keep them.
            renew: Roles to sign anew although their content stays.

        Returns:
            The roles that were signed.

        Raises:
            KeyRefused: A key is missing or does not open.
            ReleaseRefused: There are too many targets.
        """
        root = state.root if state else read_roots(self.folder.repository)[-1]
        roles = _roles_to_sign(targets is not None, renew)
        if state is None or "targets" in roles:
            content = targets if targets is not None or state is None else state.targets.targets
            listed = self._write_targets(root, state, content or {})
        else:
            listed = state.snapshot.meta["targets.json"]
        if state is None or "snapshot" in roles:
            version = state.snapshot.version + 1 if state else 1
            meta = {"targets.json": listed}
            named = self._write(root, Snapshot(version, None, self.expires("snapshot"), meta))
        else:
            named = state.timestamp.snapshot_meta
        version = state.timestamp.version + 1 if state else 1
        timestamp = Timestamp(version, None, self.expires("timestamp"), named)
        data = encode_signed(timestamp, self.signers(root, "timestamp"))
        self._remove_old_files(self.folder.publish_timestamp(data))
        return roles

    def signers(self, root: Root, role: str) -> list[CryptoSigner]:
        """The keys of a role that are here.

        Raises:
            KeyRefused: They are fewer than the role needs.
        """
        needed = root.roles[role]
        signers = self._keys.signers(role, needed.keyids)
        if len(signers) < needed.threshold:
            names = ", ".join(f"{role}-{keyid[:16]}.pem" for keyid in needed.keyids)
            msg = (
                f"{self.folder.keys} lacks the {role} key ({names}): put it back from a backup, or "
                f"replace it with the root keys (`kpstream centre rotate {role}`)"
            )
            raise KeyRefused(msg)
        return signers

    def _read(self) -> SignedState:
        state = self.state()
        if self.now_s() < state.index.made_s - _CLOCK_SLACK_S:
            now, made = utc_text(self.now_s()), utc_text(state.index.made_s)
            msg = (
                f"this machine's clock says {now}, before the newest index ({made}): set the clock"
            )
            raise ClockRefused(msg)
        return state

    def _write_targets(
        self, root: Root, state: SignedState | None, content: Mapping[str, TargetFile]
    ) -> MetaFile:
        version = state.targets.version + 1 if state else 1
        return self._write(root, Targets(version, None, self.expires("targets"), dict(content)))

    def _write(self, root: Root, signed: Snapshot | Targets) -> MetaFile:
        data = encode_signed(signed, self.signers(root, signed.type))
        if len(data) > _MOST_SIGNED_BYTES[signed.type]:
            msg = (
                f"the signed file of the role {signed.type} would have {len(data)} bytes, more "
                f"than {_MOST_SIGNED_BYTES[signed.type]}: too many students for one repository"
            )
            raise ReleaseRefused(msg)
        self.folder.write_static(
            self.folder.metadata / f"{signed.version}.{signed.type}.json", data
        )
        return meta_file(signed.version, data)

    def expires(self, role: str) -> datetime:
        """When a file of a role expires that is signed now."""
        return expires_at(self.now_s(), getattr(self.lifetimes, role))

    def _half_life(self, role: str) -> datetime:
        days = getattr(self.lifetimes, role)
        return datetime.fromtimestamp(self.now_s() + days * 43_200, timezone.utc)

    def _remove_old_files(self, state: SignedState) -> None:
        """Remove what only states before the kept ones name."""
        for signed in (state.targets, state.snapshot):
            for path in self.folder.metadata.glob(f"*.{signed.type}.json"):
                number = path.name.partition(".")[0]
                if number.isdigit() and int(number) <= signed.version - _KEPT_FILES:
                    path.unlink(missing_ok=True)
        folder = self.folder.repository / "targets"
        indexes = sorted(folder.glob(f"*.{INDEX_TARGET}"), key=lambda path: path.stat().st_mtime_ns)
        current = target_path(self.folder.repository, state.targets.targets[INDEX_TARGET])
        for path in indexes[:-_KEPT_FILES]:
            if path != current:
                path.unlink(missing_ok=True)
        named = {name.rpartition("/")[0] for name in state.targets.targets}
        for version in folder.glob("students/*/*"):
            if version.relative_to(folder).as_posix() not in named:
                shutil.rmtree(version, ignore_errors=True)
        bundles = {
            target_path(self.folder.repository, file)
            for name, file in state.targets.targets.items()
            if name.startswith(f"{SOFTWARE}/")
        }
        for path in (folder / SOFTWARE).glob("*.tar"):
            if path not in bundles:
                path.unlink(missing_ok=True)


def student_targets(name: str, version: int) -> str:
    """Folder of the targets of a version.

    >>> student_targets("rul-fd001", 3)
    'students/rul-fd001/3'
    """
    return f"students/{name}/{version}"


def _roles_to_sign(targets_change: bool, renew: Collection[str]) -> list[str]:
    """The roles of a commit: a file that names a changed one changes as well."""
    if targets_change or "targets" in renew:
        return ["targets", "snapshot", "timestamp"]
    if "snapshot" in renew:
        return ["snapshot", "timestamp"]
    return ["timestamp"]


def _without_old_versions(state: SignedState, name: str) -> dict[str, TargetFile]:
    """The targets without the oldest versions of a student that no release names."""
    prefix = f"students/{name}/"
    versions = sorted(
        {
            int(target[len(prefix) :].split("/")[0])
            for target in state.targets.targets
            if target.startswith(prefix)
        }
    )
    named = {release.version for release in state.index.releases if release.name == name}
    pinned = {policy.pin[name] for policy in state.index.policies if name in policy.pin}
    old = set(versions[: -(_KEPT_VERSIONS - 1)]) - named - pinned
    gone = tuple(f"{student_targets(name, version)}/" for version in old)
    return {
        target: file
        for target, file in state.targets.targets.items()
        if not target.startswith(gone or ("//",))
    }

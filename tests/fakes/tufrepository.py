"""A small repository of a centre, made with tuf, of which a test may spoil every part.

It has its keys in memory. `publish` writes what `students` and `releases` name as new versions of
targets, snapshot and timestamp; `rotate` replaces keys and writes a new root.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from deploy.rollout.release import INDEX_TARGET, WHOLE, Plan, Release, ReleaseIndex

ROLES = ("root", "timestamp", "snapshot", "targets")
DAYS = {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1}


class MadeRepository:
    """A repository below `folder`, with `metadata/` and `targets/`.

    Attributes:
        now_s: The time at the centre.
        signers: The keys of each role.
        metadata: The newest metadata of each role.
    """

    def __init__(self, folder: Path, now_s: int, *, thresholds: dict[str, int] | None = None):
        self.folder, self.now_s = folder, now_s
        (folder / "metadata").mkdir(parents=True)
        wanted = thresholds or {}
        self.signers = {
            role: [CryptoSigner.generate_ed25519() for _ in range(wanted.get(role, 1))]
            for role in ROLES
        }
        self.content: dict[str, bytes] = {}
        root = Root(consistent_snapshot=True)
        for role, signers in self.signers.items():
            for signer in signers:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = wanted.get(role, 1)
        self.metadata: dict[str, Metadata[Any]] = {
            "root": Metadata(root),
            "targets": Metadata(Targets()),
            "snapshot": Metadata(Snapshot()),
            "timestamp": Metadata(Timestamp()),
        }
        for role in ("targets", "snapshot", "timestamp"):
            self.metadata[role].signed.version = 0
        self.write("root")
        self.pinned = (folder / "metadata" / "1.root.json").read_bytes()
        self.publish({})

    def signed(self, role: str) -> Any:
        return self.metadata[role].signed

    def expires(self, role: str) -> datetime:
        return datetime.fromtimestamp(self.now_s, timezone.utc) + timedelta(days=DAYS[role])

    def write(self, role: str, signers: Sequence[CryptoSigner] | None = None) -> Path:
        """Sign the metadata of a role as they are, and write them."""
        document = self.metadata[role]
        document.signed.expires = self.expires(role)
        document.signatures.clear()
        for signer in self.signers[role] if signers is None else signers:
            document.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{document.signed.version}.{role}.json"
        path = self.folder / "metadata" / name
        path.write_bytes(document.to_bytes())
        return path

    def publish(self, targets: dict[str, bytes]) -> None:
        """Add targets and write all three online roles, timestamp last."""
        self.content |= targets
        for name, data in targets.items():
            target = TargetFile.from_data(name, data)
            self.signed("targets").targets[name] = target
            path = self.target_path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.renew("targets", "snapshot", "timestamp")

    def renew(self, *roles: str) -> None:
        """Write new versions of these roles, in this order."""
        for role in roles:
            signed = self.signed(role)
            signed.version += 1
            if role == "snapshot":
                signed.meta["targets.json"] = self.described("targets")
            if role == "timestamp":
                signed.snapshot_meta = self.described("snapshot")
            self.write(role)

    def described(self, role: str) -> MetaFile:
        return MetaFile.from_data(
            self.signed(role).version, self.metadata[role].to_bytes(), ["sha256"]
        )

    def target_path(self, name: str) -> Path:
        target = self.signed("targets").targets[name]
        folder, _, base = name.rpartition("/")
        return self.folder / "targets" / folder / f"{target.hashes['sha256']}.{base}"

    def rotate(self, *roles: str) -> None:
        """Give roles new keys and write the new root, signed by old and new keys of the root."""
        root: Root = self.signed("root")
        old_root = list(self.signers["root"])
        for role in roles:
            count = len(self.signers[role])
            for signer in self.signers[role]:
                root.revoke_key(signer.public_key.keyid, role)
            self.signers[role] = [CryptoSigner.generate_ed25519() for _ in range(count)]
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
        root.version += 1
        both = {signer.public_key.keyid: signer for signer in (*old_root, *self.signers["root"])}
        self.write("root", list(both.values()))

    def release(self, artifact: Path, number: int, **changes: Any) -> Release:
        """Publish an artifact's files and an index with one release of it, and return that."""
        manifest_bytes = (artifact / "manifest.json").read_bytes()
        fields = json.loads(manifest_bytes)
        digest = TargetFile.from_data("x", manifest_bytes).hashes["sha256"]
        made = Release(
            number=number,
            name=fields["name"],
            version=fields["version"],
            digest=digest,
            plan=Plan(),
            step_since_s=self.now_s,
            cutoff=WHOLE,
            created_s=self.now_s,
        ).model_copy(update=changes)
        manifest, graph = made.targets
        files = {manifest: manifest_bytes, graph: (artifact / "model.onnx").read_bytes()}
        self.publish({**files, INDEX_TARGET: self.index(made)})
        return made

    def index(self, *releases: Release) -> bytes:
        return ReleaseIndex(made_s=self.now_s, releases=releases).model_dump_json().encode()

    def twin(self) -> MadeRepository:
        """Somebody else with all keys and the same folder; a test lets them use what they stole."""
        twin = copy.copy(self)
        twin.metadata = copy.deepcopy(self.metadata)
        twin.signers = {role: list(signers) for role, signers in self.signers.items()}
        return twin

    def copy(self, folder: Path) -> Path:
        """What an attacker recorded: all files of this moment."""
        shutil.copytree(self.folder, folder)
        return folder

    def restore(self, copied: Path) -> None:
        """Serve an earlier copy instead."""
        shutil.rmtree(self.folder)
        shutil.copytree(copied, self.folder)

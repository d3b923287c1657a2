"""The registry: a directory with every published version of every model.

```
{root}/{name}/versions/{n}/model.onnx, manifest.json     never changed once published
{root}/{name}/stable.json                                the pointer: {"version", "digest"}
{root}/{name}/stable.next.json                           the pointer of a move that is under way
{root}/{name}/history.jsonl                              every move of the pointer, appended
{root}/{name}/rulings.jsonl                              what is held, pinned or rejected, appended
{root}/{name}/.lock                                      held by one publisher at a time
```

A version appears by one rename of a complete, synced directory, and the pointer by one rename of a
synced file. A reader, a crash or a power loss in between finds the old or the new state, never a
mixture. Version numbers only grow, even after a version has been deleted.

Only directories and regular files with these names count, by their own name: no link is followed,
nothing waits for a named pipe. `odd_entries` lists what else is there; it never stops a reader.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.artifact import (
    MANIFEST_FILE,
    ONNX_FILE,
    Artifact,
    read_artifact,
    shown,
    sync_directory,
    write_durably,
)
from models.errors import (
    DigestMismatch,
    ModelError,
    NameRefused,
    PointerInvalid,
    UnexpectedFile,
    VersionMissing,
    VersionTaken,
)
from models.manifest import Manifest, check_fit, decode_manifest, encode_manifest
from models.pointer import (
    HISTORY_FILE,
    NEXT_POINTER_FILE,
    POINTER_FILE,
    Move,
    Pointer,
    files_stamp,
    is_move_to,
    is_superseded,
    publishing,
    read_history,
    read_interrupted_move,
    read_last_number,
    read_pointer,
    write_last_number,
)
from models.rulings import append_line, author
from models.tasks.fields import NAME_PATTERN, is_name

__all__ = ["Registry"]

_VERSION_DIR = re.compile(r"[1-9][0-9]{0,8}")
_RETIRED = ".retired-"
_MOVE_SECONDS = 0.5
"""How long a reader waits for a publisher that has written the history, but not yet the pointer."""


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry directory. Several processes of one machine may use it at once.

    Attributes:
        root: The directory; it is created by the first `publish`.
        now_ms: The clock for the history, epoch milliseconds.
    """

    root: Path
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def names(self) -> list[str]:
        """Names of all models with at least one version or a pointer, sorted."""
        return sorted(name for name in _folders_in(self.root) if is_name(name))

    def odd_entries(self) -> list[str]:
        """What is skipped in the registry, with the reason, for messages; usually nothing.

        Names that begin with a dot are the registry's own.
        """
        found = []
        if not self.root.is_dir():
            return []
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    kind = "a link, which is not followed" if entry.is_symlink() else "no folder"
                    found.append(f"{shown(entry.path)} is {kind}")
                elif not is_name(entry.name):
                    found.append(f"{shown(entry.path)} is no model name ({NAME_PATTERN})")
        return sorted(found)

    def list_versions(self, name: str) -> list[int]:
        """Published versions, oldest first; empty for an unknown name.

        Raises:
            NameRefused: `name` is not a valid model name.
        """
        versions = self.folder(name) / "versions"
        found = [] if versions.is_symlink() else _folders_in(versions)
        return sorted(int(text) for text in found if _VERSION_DIR.fullmatch(text))

    def version_path(self, name: str, version: int) -> Path:
        """The directory of a version, which may not exist.

        Raises:
            NameRefused: `name` or `version` is invalid; no path outside `root` can be named.
        """
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            msg = f"version {version!r} of {name!r} is invalid: use a whole number above 0"
            raise NameRefused(msg)
        return self.folder(name) / "versions" / str(version)

    def read(self, name: str, version: int, digest: str | None = None) -> Artifact:
        """Read a version with all checks; with `digest`, also compare it with the pointer's.

        Raises:
            ArtifactError: The version is missing, damaged, or differs from name, version or digest.
            NameRefused: `name` or `version` is invalid.
        """
        path = self.version_path(name, version)
        for parent in (path.parent.parent, path.parent):
            if parent.is_symlink():
                msg = f"{shown(parent)} is a symbolic link: replace it by the folder itself"
                raise UnexpectedFile(msg)
        artifact = read_artifact(path)
        found = artifact.manifest
        if (found.name, found.version) != (name, version):
            msg = (
                f"the manifest in {artifact.path} says it is {found.name} v{found.version} instead "
                f"of {name} v{version}: publish it instead of copying directories"
            )
            raise DigestMismatch(msg)
        if digest is not None and artifact.digest != digest:
            msg = (
                f"{name} v{version} has digest {artifact.digest}, the pointer says {digest}: "
                "manifest.json was changed after it was published, publish it again"
            )
            raise DigestMismatch(msg)
        return artifact

    def read_stable(self, name: str) -> Pointer | None:
        """The pointer of a name; None if it was never set.

        It is compared with the history, because a pointer that is gone or an older copy is sound in
        itself. A pointer whose move the history does not have is accepted; see `history_gap`. A
        move counts as made if its publisher was killed between the history and the pointer.

        Raises:
            NameRefused: `name` is not a valid model name.
            PointerInvalid: `stable.json` is damaged, is gone although it was set before, or names
                a version from which the history moved on.
        """
        until = time.monotonic() + _MOVE_SECONDS
        while True:
            pointer, moves = read_pointer(self.folder(name)), self.history(name)
            if not moves or (pointer is not None and not is_superseded(pointer, moves)):
                return pointer
            interrupted = read_interrupted_move(self.folder(name), moves[-1])
            if interrupted is not None:
                return interrupted
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        last = moves[-1].version
        found = "is gone" if pointer is None else f"is an older copy and names v{pointer.version}"
        msg = (
            f"{self.folder(name) / POINTER_FILE} {found}, but the last move in history.jsonl is "
            f"to v{last}: set the pointer again (`kpstream models promote {name} {last}`)"
        )
        raise PointerInvalid(msg)

    def history_gap(self, name: str, pointer: Pointer) -> str | None:
        """What the history lacks, for messages; None if it records the move to the pointer."""
        if any(is_move_to(move, pointer) for move in self.history(name)):
            return None
        return (
            f"{self.folder(name) / 'history.jsonl'} does not record the move to v{pointer.version}"
            ": it is damaged, missing or an older copy. Put it back from a backup; without it, a "
            "damaged version has no earlier one to fall back to"
        )

    def stable_stamp(self, name: str) -> tuple[int, ...] | None:
        """A value that differs after every move of the pointer; None without pointer and history.

        It costs two stats, because a gateway reads it every second.
        """
        return files_stamp(self.folder(name), (POINTER_FILE, HISTORY_FILE))

    def history(self, name: str) -> list[Move]:
        """All moves of the pointer, oldest first; see `models.pointer.read_history`."""
        return read_history(self.folder(name))

    def publish(
        self,
        artifact_dir: str | os.PathLike[str],
        name: str | None = None,
        *,
        stable: bool = False,
        who: str | None = None,
    ) -> int:
        """Add an artifact as the next version and return its number.

        The number is that of the manifest if it is above every number used so far. Otherwise it is
        the next free one, which is written into the published manifest and changes its digest.

        Args:
            artifact_dir: Directory of an artifact that `read_artifact` accepts.
            name: Name to publish under; None for the manifest's.
            stable: Also move the pointer to it, under the same lock.
            who: Author of the move; see `set_stable`.

        Raises:
            ArtifactError: The artifact is refused, or does not fit the version that the pointer
                names now; the registry is unchanged.
            NameRefused: `name` is not a valid model name.
            RegistryBusy: Another publisher held the lock for too long.
        """
        artifact = read_artifact(artifact_dir)
        name = artifact.manifest.name if name is None else name
        folder = self.folder(name)
        (folder / "versions").mkdir(parents=True, exist_ok=True)
        with publishing(self.folder(name)):
            if stable:
                self._check_fit(name, artifact.manifest)
            version = max(artifact.manifest.version, self._last_version(name) + 1)
            manifest_bytes = _manifest_bytes(artifact, name, version)
            self._write_version(manifest_bytes, artifact.onnx_bytes, name, version)
            if stable:
                self._move_pointer(self.read(name, version), who)
        return version

    def add_verified(self, manifest_bytes: bytes, onnx_bytes: bytes) -> Artifact:
        """Add a version that a centre has signed, under its own number; the pointer stays.

        Number and digest are kept, because a release names both. Adding it again changes nothing.

        Args:
            manifest_bytes: The bytes of manifest.json.
            onnx_bytes: The bytes of model.onnx.

        Returns:
            The version as the registry has it.

        Raises:
            ArtifactError: The two are no valid artifact; the registry is unchanged.
            VersionTaken: The registry has another content under this number; it is unchanged.
            RegistryBusy: Another publisher held the lock for too long.
            OSError: They could not be written; the registry is unchanged.
        """
        manifest = decode_manifest(manifest_bytes)
        name, version = manifest.name, manifest.version
        (self.folder(name) / "versions").mkdir(parents=True, exist_ok=True)
        with publishing(self.folder(name)):
            if os.path.lexists(self.version_path(name, version)):
                return self._known_version(name, version, manifest_bytes)
            digest = hashlib.sha256(manifest_bytes).hexdigest()
            if any(m.version == version and m.digest != digest for m in self.history(name)):
                raise _taken(name, version)
            self._write_version(manifest_bytes, onnx_bytes, name, version)
        return self.read(name, version)

    def remove(self, name: str, version: int) -> bool:
        """Delete a version; its number stays used if the pointer ever named it.

        Returns:
            False if it does not exist, or if the pointer names it.

        Raises:
            NameRefused: `name` or `version` is invalid.
            PointerInvalid: The pointer cannot be read, so nothing is deleted.
            RegistryBusy: A publisher held the lock for too long.
            OSError: It cannot be deleted.
        """
        if version not in self.list_versions(name):
            return False
        with publishing(self.folder(name)):
            pointer = self.read_stable(name)
            if pointer is not None and pointer.version == version:
                return False
            path = self.version_path(name, version)
            aside = path.with_name(
                f".publishing-{os.getpid()}-old"
            )  # a reader finds all or nothing
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            sync_directory(path.parent)
        return True

    def set_stable(self, name: str, version: int, who: str | None = None) -> Pointer:
        """Move the pointer of a name to a version; gateways follow at their next poll.

        Args:
            name: Name of the model.
            version: A published version; a lower one than the current one is a rollback.
            who: Author of the move, for the history; user and host by default.

        Raises:
            ArtifactError: The version is damaged or does not fit the running one; the pointer
                stays.
            VersionMissing: The version does not exist; the pointer stays.
            RegistryBusy: Another publisher held the lock for too long.
        """
        if version not in self.list_versions(name):
            known = ", ".join(map(str, self.list_versions(name))) or "none"
            msg = f"{name} has no version {version!r}; published versions: {known}"
            raise VersionMissing(msg)
        artifact = self.read(name, version)
        with publishing(self.folder(name)):
            self._check_fit(name, artifact.manifest)
            return self._move_pointer(artifact, who)

    def seed(self, artifact_dir: str | os.PathLike[str]) -> bool:
        """Publish a starter student and set the pointer, unless its name has or had one.

        Returns:
            True if it was published now.

        Raises:
            ModelError: See `publish` and `set_stable`.
        """
        name = read_artifact(artifact_dir).manifest.name
        if os.path.lexists(self.folder(name) / POINTER_FILE) or self.history(name):
            return False
        self.publish(artifact_dir, stable=True)
        return True

    def retire(self, name: str) -> Path:
        """Remove a name, for gateways that start from now on.

        A running gateway keeps its student until it stops. Nothing is deleted: the folder gets a
        new name, which is not a valid model name.

        Returns:
            The new path of the folder.

        Raises:
            NameRefused: `name` is not a valid model name.
            VersionMissing: The registry does not have this name.
        """
        folder = self.folder(name)
        aside = self.root / f"{_RETIRED}{name}-{self.now_ms()}"
        try:
            folder.rename(aside)
        except FileNotFoundError as exc:
            msg = f"the registry has no {name!r}; it has: {', '.join(self.names()) or 'nothing'}"
            raise VersionMissing(msg) from exc
        sync_directory(self.root)
        return aside

    def is_retired(self, name: str) -> bool:
        """Whether a student of this name was retired, and not published again since."""
        return self.retired_ms(name) is not None and not self.folder(name).exists()

    def retired_ms(self, name: str) -> int | None:
        """When a student of this name was retired last, epoch milliseconds; None if never."""
        pattern = re.compile(re.escape(f"{_RETIRED}{name}-") + "([0-9]{1,15})")
        found = map(pattern.fullmatch, _folders_in(self.root))
        return max((int(match[1]) for match in found if match), default=None)

    def folder(self, name: str) -> Path:
        """The folder of a name, which may not exist.

        Raises:
            NameRefused: `name` is not a valid model name.
        """
        if not isinstance(name, str) or not is_name(name):
            msg = f"model name {name!a} is invalid: it must match {NAME_PATTERN}"
            raise NameRefused(msg)
        return self.root / name

    def _last_version(self, name: str) -> int:
        used = [*self.list_versions(name), *(move.version for move in self.history(name))]
        return max(read_last_number(self.folder(name)), *used, 0)

    def _previous(self, name: str) -> int | None:
        try:
            pointer = self.read_stable(name)
        except PointerInvalid:
            moves = self.history(name)
            return moves[-1].version if moves else None
        return pointer.version if pointer else None

    def _known_version(self, name: str, version: int, manifest_bytes: bytes) -> Artifact:
        """The version as it is; a damaged one stays for `read` to report."""
        known = self.read(name, version)
        if known.manifest_bytes != manifest_bytes:
            raise _taken(name, version)
        return known

    def _write_version(
        self, manifest_bytes: bytes, onnx_bytes: bytes, name: str, version: int
    ) -> None:
        versions = self.folder(name) / "versions"
        for leftover in versions.glob(".publishing-*"):  # of a publisher that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = versions / f".publishing-{os.getpid()}-{version}"
        try:
            temporary.mkdir()
            write_durably(temporary / ONNX_FILE, onnx_bytes)
            write_durably(temporary / MANIFEST_FILE, manifest_bytes)
            read_artifact(temporary)
            write_last_number(versions.parent, version)
            temporary.rename(versions / str(version))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the room
            raise
        for folder in (versions, versions.parent, self.root):
            sync_directory(folder)

    def _check_fit(self, name: str, candidate: Manifest) -> None:
        """Refuse a version that running gateways would refuse, because their windows stay open."""
        try:
            pointer = self.read_stable(name)
            running = self.read(name, pointer.version, pointer.digest) if pointer else None
        except ModelError:
            return  # the running version is unknown here; each gateway compares for itself
        if running is not None:
            check_fit(running.manifest, candidate)

    def _move_pointer(self, artifact: Artifact, who: str | None) -> Pointer:
        name, version = artifact.manifest.name, artifact.manifest.version
        previous = self._previous(name)
        pointer = Pointer(version=version, digest=artifact.digest)
        move = Move(
            ts_ms=self.now_ms(),
            who=who or author(),
            what="rollback" if previous and version < previous else "promote",
            version=version,
            digest=artifact.digest,
            previous=previous,
        )
        # The line of the history is the move. A publisher that is killed before it leaves a file
        # that nobody reads; one that is killed after it leaves the file that `read_stable` takes.
        content = json.dumps(pointer.model_dump(), indent=2) + "\n"
        folder = self.folder(name)
        write_durably(folder / NEXT_POINTER_FILE, content.encode("utf-8"))
        self._append_history(name, move)
        (folder / NEXT_POINTER_FILE).replace(folder / POINTER_FILE)
        sync_directory(folder)
        return pointer

    def _append_history(self, name: str, move: Move) -> None:
        line = json.dumps(move.model_dump(), ensure_ascii=False) + "\n"
        append_line(self.folder(name) / HISTORY_FILE, line)


def _taken(name: str, version: int) -> VersionTaken:
    return VersionTaken(
        f"{name} v{version} exists in this registry with another content: publish the student at "
        "the centre under a number that no gateway has used"
    )


def _manifest_bytes(artifact: Artifact, name: str, version: int) -> bytes:
    manifest = artifact.manifest
    if (manifest.name, manifest.version) == (name, version):
        return artifact.manifest_bytes
    renumbered = Manifest.model_validate({**dict(manifest), "name": name, "version": version})
    return encode_manifest(renumbered)


def _folders_in(folder: Path) -> list[str]:
    """Return the names of real folders in a folder; links are left out."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []

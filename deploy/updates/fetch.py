"""What the gateway asks of its centre, verified in a short-lived child process.

`Fetcher` starts `deploy.updates.fetchchild` for each fetch and reads back the bytes whose digest
the child verified, so that what is handed out is what was signed. A fetch that fails raises
`FetchFailed` with a state and a message that names the cause and what to do. It changes nothing of
what runs.

```
{state_dir}/rollout/metadata/     the trusted metadata of tuf
{state_dir}/rollout/partial/      targets that came half; the next fetch continues them
{state_dir}/rollout/files/        verified targets, the index among them
{state_dir}/rollout-marks.json    high-water marks that refuse to go back, see `marks`
```
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.rollout.errors import first_fault
from deploy.rollout.release import (
    INDEX_TARGET,
    MAX_BUNDLE_BYTES,
    MAX_INDEX_BYTES,
    Release,
    ReleaseIndex,
    SignedBundle,
)
from deploy.rollout.report import FetchState
from deploy.settings.repositoryurl import repository_url
from deploy.updates.marks import Facts, Marks, decode_marks, going_back, raised
from ingest.childprocess import kill_child, tied_to_parent
from ingest.clock import utc_text
from ingest.clockjudge import NEVER_SET_MS
from ingest.extras import install_command
from ingest.secrettext import error_text
from ingest.statefile import StateFileUnusable, read_object, read_regular, write_object
from models.artifact import MAX_MANIFEST_BYTES
from models.errors import ModelError
from models.manifest import MAX_ONNX_BYTES, decode_manifest

__all__ = ["BUNDLE_LIMITS", "FetchFailed", "FetchLimits", "Fetcher", "run_child"]

log = logging.getLogger(__name__)

_DAY_S = 86_400
_FAR_S = 4_102_444_800  # 2100-01-01
_MOST_ROOT_BYTES = 512_000
_MOST_ANSWER = 64_000
_MOST_TEXT = 500
"""Characters of a message, as many as a report takes."""
_AFTER_S = 30.0
"""Seconds between the child's own limit and the parent's, for its start and its end."""


class FetchFailed(Exception):
    """A fetch failed; the message names the cause and what to do.

    Attributes:
        state: State for the report.
    """

    def __init__(self, message: str, state: FetchState) -> None:
        super().__init__(message if len(message) <= _MOST_TEXT else f"{message[: _MOST_TEXT - 1]}…")
        self.state = state


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may take.

    Attributes:
        seconds: Limit of the whole fetch.
        stall_s: Seconds without a single byte.
        grace_s: Seconds after which the average speed counts.
        bytes_per_s: Least average speed.
        memory_mb: Address space of the child beyond that of its imports.
        cpu_s: CPU time of the child.
        most_file: Bytes of one file that is kept.
    """

    seconds: float = 600.0
    stall_s: float = 30.0
    grace_s: float = 60.0
    bytes_per_s: int = 500
    memory_mb: int = 256
    cpu_s: int = 120
    most_file: int = 8_000_000


BUNDLE_LIMITS = FetchLimits(seconds=7200, cpu_s=900, most_file=MAX_BUNDLE_BYTES)
"""For a bundle of the software, hundreds of megabytes long."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    bytes: int
    sha256: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: FetchState
    message: str = ""
    facts: Facts | None = None
    files: dict[str, _File] = {}


class Fetcher:
    """Fetches from one repository; one fetch at a time, from any thread.

    Args:
        url: See `deploy.settings.repositoryurl`.
        root: The pinned root, `root.json` as the centre gave it; read at each fetch.
        folder: Folder for what is kept, such as `{state_dir}/rollout`.
        now_s: The time, epoch seconds.
        ca_file: PEM file of the authority for https; None: the system's.
        limits: What one fetch may take.
        child: Runs the child with a request and returns its answer.

    Raises:
        ValueError: The URL is refused.
    """

    def __init__(
        self,
        url: str,
        root: Path,
        folder: Path,
        now_s: Callable[[], int],
        *,
        ca_file: Path | None = None,
        limits: FetchLimits = FetchLimits(),
        child: Callable[[Mapping[str, Any]], bytes] | None = None,
    ) -> None:
        self._url = repository_url(url)
        self._root, self._folder, self._now_s = root, folder, now_s
        self._marks_file = folder.with_name(f"{folder.name}-marks.json")
        self._ca_file, self._limits = ca_file, limits
        self._child = child or run_child
        self._lock = threading.Lock()

    def fetch_index(self) -> ReleaseIndex:
        """Fetch the newest index; blocks, so call it in a thread.

        Raises:
            FetchFailed: It could not be fetched, or is refused.
        """
        with self._lock:
            facts, files = self._fetch({INDEX_TARGET: MAX_INDEX_BYTES})
            try:
                data = _verified(INDEX_TARGET, files.get(INDEX_TARGET))
                index = ReleaseIndex.model_validate_json(data)
            except ValidationError as exc:
                msg = (
                    f"the index of the centre cannot be read: {first_fault(exc)}: "
                    "upgrade kpstream on this gateway"
                )
                raise FetchFailed(msg, "refused") from exc
            self._check_index_time(index)
            self._accept(facts, index)
            return index

    def fetch_student(self, release: Release) -> tuple[bytes, bytes]:
        """Fetch the student of a release; blocks, so call it in a thread.

        A download that was cut is continued.

        Returns:
            The bytes of manifest and graph, which belong together and to the release.

        Raises:
            FetchFailed: It could not be fetched, or is refused.
        """
        manifest_name, graph_name = release.targets
        with self._lock:
            facts, files = self._fetch(
                {manifest_name: MAX_MANIFEST_BYTES, graph_name: MAX_ONNX_BYTES}
            )
            self._accept(facts, None)
        manifest_bytes = _verified(manifest_name, files.get(manifest_name))
        onnx_bytes = _verified(graph_name, files.get(graph_name))
        _check_student(release, manifest_bytes, onnx_bytes)
        return manifest_bytes, onnx_bytes

    def fetch_bundle(self, bundle: SignedBundle) -> Path:
        """Fetch a bundle of the software into a file; blocks, and needs `BUNDLE_LIMITS`.

        Nobody but the user of this process may be able to write the folder: the file is not read
        into memory, so it is what the child verified only as long as nobody changes it.

        Raises:
            FetchFailed: It could not be fetched, or is refused.
        """
        with self._lock:
            facts, files = self._fetch({bundle.target: bundle.size})
            self._accept(facts, None)
        file = files.get(bundle.target)
        if file is None or (file.bytes, file.sha256) != (bundle.size, bundle.sha256):
            msg = (
                f"the release names another content of {bundle.target} than the repository has "
                "signed: release it again at the centre"
            )
            raise FetchFailed(msg, "refused")
        return file.path

    def _fetch(self, targets: Mapping[str, int]) -> tuple[Facts, dict[str, _File]]:
        if importlib.util.find_spec("tuf") is None:
            msg = f"following a centre needs an extra: {install_command('rollout')}"
            raise FetchFailed(msg, "off")
        now_s = self._now_s()
        self._check_clock(now_s)
        request = {
            "url": self._url,
            "root": str(self._root),
            "folder": str(self._folder),
            "targets": dict(targets),
            "now_s": now_s,
            "ca_file": str(self._ca_file or ""),
            **asdict(self._limits),
        }
        self._pinned()  # because the child cannot tell a missing file from a damaged one
        answer = _decode(self._child(request))
        if answer.state != "ok" or answer.facts is None:
            raise FetchFailed(answer.message, answer.state)
        return answer.facts, answer.files

    def _pinned(self) -> str:
        try:
            return hashlib.sha256(read_regular(self._root, _MOST_ROOT_BYTES)).hexdigest()
        except OSError as exc:
            msg = (
                f"the pinned root {self._root} cannot be read ({error_text(exc)}): copy root.json "
                "from the centre and set KPSTREAM_ROLLOUT_ROOT_FILE"
            )
            raise FetchFailed(msg, "refused") from exc

    def _check_clock(self, now_s: int) -> None:
        """Refuse a clock that is surely wrong: by a slow one, old metadata would count as valid."""
        made_s = self._marks().made_s
        if now_s * 1000 < NEVER_SET_MS:
            reason = "nobody has set it since the start"
        elif now_s > _FAR_S:
            reason = "no gateway of today runs then"
        elif now_s < made_s - _DAY_S:
            reason = f"an index that was made at {utc_text(made_s)} was verified here before"
        else:
            return
        msg = f"clock: this machine says {utc_text(now_s)}, but {reason}: set it, such as by NTP"
        raise FetchFailed(msg, "clock")

    def _check_index_time(self, index: ReleaseIndex) -> None:
        now_s = self._now_s()
        if index.made_s > now_s + _DAY_S:
            msg = (
                f"clock: this machine says {utc_text(now_s)}, but the centre made its index at "
                f"{utc_text(index.made_s)}: set the clock that is wrong, here or at the centre"
            )
            raise FetchFailed(msg, "clock")

    def _accept(self, facts: Facts, index: ReleaseIndex | None) -> None:
        """Refuse what is older than the marks, and raise the marks."""
        marks, pinned = self._marks(), self._pinned()
        reason = going_back(marks, pinned, facts, index)
        if reason is not None:
            raise FetchFailed(reason, "refused")
        higher = raised(marks, pinned, facts, index)
        if higher == marks:
            return
        try:
            write_object(self._marks_file, higher.to_object())
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "make room" if full else "the gateway's user must be able to write it"
            msg = f"{self._marks_file} cannot be written ({error_text(exc)}): {what}"
            raise FetchFailed(msg, "full") from exc

    def _marks(self) -> Marks:
        try:
            stored = read_object(self._marks_file)
            return Marks() if stored is None else decode_marks(stored)
        except StateFileUnusable as exc:
            log.warning("%s; only tuf's own metadata refuse to go back until the next fetch", exc)
        except ValueError as exc:
            log.warning("%s is unusable and ignored: %s", self._marks_file, error_text(exc))
        return Marks()


def run_child(request: Mapping[str, Any]) -> bytes:
    """Run `deploy.updates.fetchchild` with a request and return its answer; blocks.

    Raises:
        FetchFailed: It could not be started, or has not ended in time.
    """
    command = tied_to_parent([sys.executable, "-m", "deploy.updates.fetchchild"])
    try:
        child = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as exc:
        msg = f"the process that fetches could not be started ({error_text(exc)})"
        raise FetchFailed(msg, "refused") from exc
    with child:
        limit_s = float(request["seconds"]) + _AFTER_S
        killer = threading.Timer(limit_s, kill_child, [child])
        killer.daemon = True  # a gateway that stops does not wait for it
        killer.start()
        try:
            if child.stdin is not None and child.stdout is not None:
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps(dict(request)).encode())
                    child.stdin.close()
                found = child.stdout.read(_MOST_ANSWER)
                child.wait()
        finally:
            killer.cancel()
            kill_child(child)
    if child.returncode == 0:
        return found
    what = "ended with signal" if child.returncode < 0 else "ended with exit code"
    msg = (
        f"the process that fetches {what} {abs(child.returncode)} within its limits of {limit_s:g} "
        f"s, {request['cpu_s']} s of CPU time and {request['memory_mb']} MB: try again"
    )
    raise FetchFailed(msg, "refused")


def _decode(answer: bytes) -> _Answer:
    try:
        return _Answer.model_validate_json(answer)
    except ValidationError as exc:
        msg = "the process that fetches gave no answer: try again"
        raise FetchFailed(msg, "refused") from exc


def _verified(name: str, file: _File | None) -> bytes:
    """Read the bytes that the child verified, and nothing that somebody put there since."""
    try:
        if file is not None:
            data = read_regular(file.path, file.bytes)
            if hashlib.sha256(data).hexdigest() == file.sha256:
                return data
    except OSError as exc:
        log.warning("%s", error_text(exc))
    msg = f"the verified copy of {name} was changed or removed before it was read: try again"
    raise FetchFailed(msg, "refused")


def _check_student(release: Release, manifest_bytes: bytes, onnx_bytes: bytes) -> None:
    title = f"release {release.number} of {release.name} v{release.version}"
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    if digest != release.digest:
        msg = (
            f"{title} names the manifest {release.digest[:12]}, the repository has signed "
            f"{digest[:12]} under that name: publish and release it again at the centre"
        )
        raise FetchFailed(msg, "refused")
    try:
        manifest = decode_manifest(manifest_bytes)
    except ModelError as exc:
        msg = f"{title} is refused: {exc}"
        raise FetchFailed(msg, "refused") from exc
    if (manifest.name, manifest.version) != (release.name, release.version):
        msg = f"{title} holds the manifest of {manifest.name} v{manifest.version}: release it again"
        raise FetchFailed(msg, "refused")
    if hashlib.sha256(onnx_bytes).hexdigest() != manifest.onnx.sha256:
        msg = f"{title} has another graph than its manifest names: publish it again at the centre"
        raise FetchFailed(msg, "refused")

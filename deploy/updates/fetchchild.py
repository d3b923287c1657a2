"""The short-lived child process that fetches: `python -m deploy.updates.fetchchild`.

It reads a request as JSON from stdin, fetches and verifies with `tuf.ngclient`, and answers with
one line of JSON on stdout: `{"state": "ok", ...}` with what was verified, or a state and a message.
It alone, with `childtransport` and `childverdict`, imports `tuf`, which would cost the gateway some
25 MB of memory. The kernel bounds its memory, CPU time and file sizes, and an alarm its duration;
the parent, `deploy.updates.fetch`, kills it after that.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Root, TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from deploy.updates.childtransport import FetchStopped, Pace, Transport
from deploy.updates.childverdict import Scene, explain

__all__ = ["Request", "answer", "main"]

_MB = 1024 * 1024
_MOST_ROOTS = 1000
"""Rotations that one fetch follows from the pinned root on."""
_MOST_KEPT = 4
_ONLINE = ("timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class Request:
    """What the parent asks for.

    Attributes:
        url: The repository, `https://`, `http://` or `file://`.
        root: Path of the pinned root.
        folder: Folder for everything that the fetch keeps.
        targets: Names of the wanted targets with their limits in bytes.
        now_s: The time, epoch seconds.
        ca_file: Authority for https; "" for the system's.
        seconds: Limit of the whole fetch.
        stall_s: See `Pace`.
        grace_s: See `Pace`.
        bytes_per_s: See `Pace`.
        memory_mb: Address space beyond that of the imports.
        cpu_s: CPU time.
        most_file: Bytes of one file that is kept.
    """

    url: str
    root: str
    folder: str
    targets: Mapping[str, int]
    now_s: int
    ca_file: str
    seconds: float
    stall_s: float
    grace_s: float
    bytes_per_s: int
    memory_mb: int
    cpu_s: int
    most_file: int


def answer(request: Request) -> dict[str, Any]:
    """Fetch, and return the answer; raises nothing that has to do with the fetch."""
    folder = Path(request.folder)
    metadata, partial = folder / "metadata", folder / "partial"
    pace = Pace(request.stall_s, request.grace_s, request.bytes_per_s)
    ca_file = Path(request.ca_file) if request.ca_file else None
    transport = Transport(request.url, partial, pace, ca_file)
    try:
        for each in (metadata, partial, folder / "files"):
            each.mkdir(parents=True, exist_ok=True)
            _tidy(each, request.most_file)
        for each in (partial, folder / "files"):
            _keep_newest(each)
        updater = _refreshed(request, transport, metadata)
        found = _facts(updater)
        files = {
            name: _fetched(updater, transport, name, limit, folder / "files")
            for name, limit in request.targets.items()
        }
    except Exception as exc:
        state, message = explain(exc, Scene(transport, metadata, request.now_s))
        return {"state": state, "message": message}
    return {"state": "ok", "facts": found, "files": files}


def _tidy(folder: Path, most_bytes: int) -> None:
    """Remove what is no file of ours: `tuf` would wait for a named pipe, or read without a limit.

    The folder is a cache that only this program writes. `root.json` is a link to the newest root.
    """
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            if path.name == "root_history":
                _tidy(path, most_bytes)
            else:
                shutil.rmtree(path)
        elif path.name == "root.json" and path.is_symlink():
            continue
        elif not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
            path.unlink()
        elif path.name.startswith("tmp"):  # of a fetch that was killed
            path.unlink()


def _keep_newest(folder: Path) -> None:
    """Remove old downloads, so that abandoned ones do not fill the disk."""
    by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-_MOST_KEPT]:
        path.unlink()


def _refreshed(request: Request, transport: Transport, metadata: Path) -> Updater:
    base = request.url.rstrip("/")
    updater = Updater(
        str(metadata),
        f"{base}/metadata/",
        target_base_url=f"{base}/targets/",
        fetcher=transport,
        config=UpdaterConfig(max_root_rotations=_MOST_ROOTS, max_delegations=0),
        bootstrap=Path(request.root).read_bytes(),
    )
    # The gateway's clock, which ignores short steps, decides what has expired, as everywhere else.
    trusted = updater._trusted_set  # noqa: SLF001 (tuf offers no parameter for the time)
    trusted.reference_time = datetime.fromtimestamp(request.now_s, timezone.utc)
    try:
        updater.refresh()
    finally:
        _sync(metadata)
    return updater


def _facts(updater: Updater) -> dict[str, Any]:
    """Versions, and for each role a digest of the keys that it is signed with."""
    trusted = updater._trusted_set  # noqa: SLF001 (the same metadata as on disk, verified just now)
    root: Root = trusted.root
    signed = {"root": root, **{role: trusted[role] for role in _ONLINE}}
    return {
        "versions": {role: document.version for role, document in signed.items()},
        "keys": {role: _keys(root, role) for role in signed},
    }


def _keys(root: Root, role: str) -> str:
    delegated = root.get_delegated_role(role)
    text = f"{delegated.threshold} {' '.join(sorted(delegated.keyids))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fetched(
    updater: Updater, transport: Transport, name: str, limit: int, folder: Path
) -> dict[str, Any]:
    target = updater.get_targetinfo(name)
    if target is None:
        msg = f"the centre has not signed a target {name}: publish it"
        raise FetchStopped(msg, "refused")
    if target.length > limit:
        msg = f"{name} is announced with {target.length:,} bytes, above the limit of {limit:,}"
        raise FetchStopped(msg, "refused")
    path = folder / hashlib.sha256(name.encode()).hexdigest()
    if updater.find_cached_target(target, str(path)) is None:
        _download(updater, transport, target, path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_MB):
            digest.update(part)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _download(updater: Updater, transport: Transport, target: TargetFile, path: Path) -> None:
    try:
        updater.download_target(target, str(path))
    except LengthOrHashMismatchError:
        if not transport.resumed:
            raise
        # A power cut may have damaged the part that was there.
        updater.download_target(target, str(path))
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Bring the files of a folder, and their names, to the disk."""
    with suppress(FileNotFoundError):
        for path in (*folder.rglob("*"), folder):
            if path.is_symlink():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End whatever waits or computes inside after that time; main thread only."""

    def ring(_signal: int, _frame: FrameType | None) -> NoReturn:
        msg = (
            f"slow retrieval: the fetch has not ended within {seconds:g} s: check the line to the "
            "centre; the next attempt goes on from there"
        )
        raise FetchStopped(msg, "away")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _bound(request: Request) -> None:
    """Have the kernel bound this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    space = pages * resource.getpagesize() + request.memory_mb * _MB
    for what, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, request.cpu_s),
        (resource.RLIMIT_FSIZE, request.most_file),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails with EFBIG


def main() -> None:
    """Answer one request from stdin on stdout."""
    request = Request(**json.load(sys.stdin))
    _bound(request)
    with _alarm(request.seconds):
        found = answer(request)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

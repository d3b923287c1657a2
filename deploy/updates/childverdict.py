"""What a failed fetch means: the state for the report, and a message that names attack or cause.

`tuf` decides what is refused; this module only finds words for it, from the file that was asked for
last and from the metadata that were verified before. Only the child process imports it.
"""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from deploy.updates.childtransport import FetchStopped, Transport
from ingest.clock import utc_text
from ingest.secrettext import error_text

__all__ = ["Scene", "explain"]

_ROLES = ("root", "timestamp", "snapshot", "targets")
_DAY_S = 86_400
_YEARS_S = 5 * 365 * _DAY_S
"""An age of metadata above which the clock is a likelier cause than the centre."""


class Scene:
    """What a failed fetch left behind.

    Args:
        transport: Who fetched.
        folder: The trusted metadata.
        now_s: The time of the fetch, epoch seconds.
    """

    def __init__(self, transport: Transport, folder: Path, now_s: int) -> None:
        self.transport, self.folder, self.now_s = transport, folder, now_s
        kind, _, name = transport.asked.partition("/")
        self.name = name
        """The file that was asked for last, such as `2.root.json`."""
        parts = name.split(".") if kind == "metadata" else []
        self.role = parts[-2] if len(parts) > 1 else ""
        """Its role; "" for a target."""
        self.due = int(parts[0]) if len(parts) == 3 and parts[0].isdecimal() else None
        """The version that was asked for; None for a timestamp."""

    def offered(self) -> dict[str, Any]:
        """The signed part of the last metadata file, as it came; empty if it is none."""
        return _signed(self.transport.last)

    def trusted(self, role: str) -> dict[str, Any]:
        """The signed part of the trusted metadata of a role; empty without."""
        try:
            return _signed((self.folder / f"{role}.json").read_bytes())
        except OSError:
            return {}

    def roots(self) -> list[Root]:
        """All trusted roots, oldest first."""
        found = []
        for path in (self.folder / "root_history").glob("*.root.json"):
            with suppress(OSError, RepositoryError):
                found.append(Metadata[Root].from_file(str(path)).signed)
        return sorted(found, key=lambda root: root.version)


def explain(exc: Exception, scene: Scene) -> tuple[str, str]:
    """State and message for the exception that ended a fetch."""
    if isinstance(exc, FetchStopped):
        return exc.state, str(exc)
    if _is_of_memory(exc):
        return "refused", f"{_file(scene)} needs more memory than a fetch may take"
    if isinstance(exc, ExpiredMetadataError):
        return _expired(scene)
    if isinstance(exc, DownloadHTTPError):
        return "away", _missing(scene, exc.status_code)
    if isinstance(exc, RepositoryError):
        return "refused", _refused(exc, scene)
    if isinstance(exc, OSError):
        return "full", _unwritable(exc, scene)
    return "refused", f"the fetch failed at {_file(scene)} ({error_text(exc, named=True)})"


def _is_of_memory(exc: BaseException | None) -> bool:
    """Whether memory ran out; tuf calls whatever stops it from reading a file damage."""
    while exc is not None and not isinstance(exc, MemoryError):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _refused(exc: RepositoryError, scene: Scene) -> str:
    if not scene.transport.asked:
        return (
            f"the pinned root is no valid root metadata ({error_text(exc)}): copy it again from "
            "the centre, and compare its digest"
        )
    if isinstance(exc, BadVersionNumberError):
        return _wrong_version(scene)
    if isinstance(exc, UnsignedMetadataError):
        return _unsigned(scene)
    if isinstance(exc, LengthOrHashMismatchError):
        return _other_bytes(scene)
    if isinstance(exc, DeserializationError):
        return (
            f"{scene.name} is no signed metadata: it is damaged, or something else than the centre "
            "answers, such as the login page of a network"
        )
    if scene.role == "snapshot":
        return f"rollback of targets: {scene.name} no longer lists what was verified here before"
    return f"{scene.name} is refused ({error_text(exc)})"


def _wrong_version(scene: Scene) -> str:
    offered, role = scene.offered(), scene.role
    version = offered.get("version")
    if role == "timestamp":
        known, named = scene.trusted("timestamp"), _named(offered, "snapshot")
        if named >= _named(known, "snapshot") or version in range(known.get("version", 0)):
            return (
                f"rollback of the timestamp: the repository offers version {version}, version "
                f"{known.get('version')} was verified here before"
            )
        return (
            f"rollback of the snapshot: the timestamp names version {named}, version "
            f"{_named(known, 'snapshot')} was verified here before"
        )
    if role == "root":
        return f"rollback of root: the repository has version {version} as {scene.name}"
    if version != scene.due:
        return f"mix-and-match: {scene.name} holds version {version} of another state"
    return (
        f"rollback of targets: the snapshot names version {_named(offered, 'targets')}, version "
        f"{_named(scene.trusted('snapshot'), 'targets')} was verified here before"
    )


def _unsigned(scene: Scene) -> str:
    roots, role = scene.roots(), scene.role
    try:
        document: Metadata[Any] = Metadata.from_bytes(scene.transport.last)
    except RepositoryError:
        return f"{scene.name} is not signed as the root asks"
    if not roots or role not in _ROLES:
        return f"{scene.name} is not signed as the root asks"
    root, payload, signatures = roots[-1], document.signed_bytes, document.signatures
    result = root.get_verification_result(role, payload, signatures)
    if role == "root" and result.verified and isinstance(document.signed, Root):
        result = document.signed.get_verification_result(role, payload, signatures)
    if set(signatures) & set(result.unsigned):
        return f"forged: {scene.name} was changed after it was signed"
    if result.signed:
        return (
            f"too few signatures: {scene.name} has {len(result.signed)} of {result.threshold} that "
            "the root asks for"
        )
    former = {key for other in roots[:-1] for key in other.get_delegated_role(role).keyids}
    if set(signatures) & former:
        return f"revoked key: {scene.name} is signed with a key that the centre took back"
    return f"wrong key: {scene.name} is signed with no key that the root names for {role}"


def _other_bytes(scene: Scene) -> str:
    if scene.role:
        return f"mix-and-match: {scene.name} is not the file that the other metadata announce"
    return (
        f"replaced target: {scene.transport.asked} has other bytes than the centre signed: publish "
        "it again at the centre"
    )


def _missing(scene: Scene, status: int) -> str:
    if scene.role == "timestamp":
        return (
            f"no repository at the centre: {scene.transport.asked} is not there (status {status}): "
            "check KPSTREAM_ROLLOUT_URL, which names the folder with metadata/ and targets/"
        )
    return (
        f"the repository is incomplete: {scene.transport.asked}, which its metadata announce, is "
        f"not there (status {status}): copy the repository again, metadata/timestamp.json last"
    )


def _expired(scene: Scene) -> tuple[str, str]:
    """Tell an expired repository from a wrong clock, as far as that can be told."""
    ends = {role: _end_s(scene.trusted(role)) for role in _ROLES}
    if scene.role:
        ends[scene.role] = _end_s(scene.offered()) or ends[scene.role]
    over = {role: end for role, end in ends.items() if end is not None and end <= scene.now_s}
    role = "root" if "root" in over else min(over, key=lambda name: over[name], default=scene.role)
    now, end = utc_text(scene.now_s), utc_text(over.get(role, scene.now_s))
    date_s = scene.transport.date_s
    if (
        over
        and date_s is not None
        and abs(date_s - scene.now_s) > _DAY_S
        and date_s < min(over.values())
    ):
        return "clock", (
            f"clock: this machine says {now}, by which {role}.json ran out on {end}; the centre's "
            f"server says {utc_text(date_s)}, by which it is valid (not proven): compare this "
            "machine's clock with a watch and set it"
        )
    if "root" in over and scene.now_s - max(over.values()) > _YEARS_S:
        return "clock", (
            f"clock: this machine says {now}, by which all metadata ran out years ago, {role}.json "
            f"on {end}: compare this machine's clock with a watch and set it"
        )
    return "expired", (
        f"{role}.json ran out on {end} and nothing newer came: the centre does not renew it, or "
        "newer files are held back on the way (freeze): look at the centre (`kpstream centre "
        f"status`); this machine says {now}"
    )


def _unwritable(exc: OSError, scene: Scene) -> str:
    where = exc.filename or scene.folder
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where} cannot be written, the disk is full ({exc.strerror}): make room"
    return f"{where} cannot be used ({exc.strerror}): the gateway's user must be able to write it"


def _file(scene: Scene) -> str:
    return scene.transport.asked or "the pinned root"


def _signed(data: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        signed = json.loads(data)["signed"]
        return signed if isinstance(signed, dict) else {}
    return {}


def _named(signed: dict[str, Any], role: str) -> int:
    """The version of another role that signed metadata name; 0 for none."""
    with suppress(KeyError, TypeError, ValueError):
        return int(signed["meta"][f"{role}.json"]["version"])
    return 0


def _end_s(signed: dict[str, Any]) -> int | None:
    with suppress(KeyError, TypeError, ValueError):
        text = str(signed["expires"]).replace("Z", "+00:00")
        return int(datetime.fromisoformat(text).timestamp())
    return None

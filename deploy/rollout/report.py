"""What a gateway reports about itself, retained on `gateways/{gateway}/report`.

A report is at most `MAX_REPORT_BYTES` long. Its sender is proven by the broker (mutual TLS and an
access list that lets each gateway write below its own name only) or by a signature: HMAC-SHA256
over the bytes of the report with a key that only this gateway and the centre have. HMAC, because a
gateway has it in the standard library; an Ed25519 signature would cost it some 16 MB of memory.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)

from deploy.rollout.errors import first_fault
from deploy.rollout.release import Count, Epoch, Gateway, Name
from ingest.statefile import read_regular
from ingest.topics import report_topic

__all__ = [
    "MAX_REPORT_BYTES",
    "Evidence",
    "FetchState",
    "GatewayReport",
    "ReportRefused",
    "SoftwareReport",
    "StudentReport",
    "decode_report",
    "encode_note",
    "encode_report",
    "read_report_key",
]

MAX_REPORT_BYTES = 64_000

Phase = Literal["champion", "shadow", "probation", "failed", "held", "waiting"]
FetchState = Literal["off", "ok", "away", "expired", "clock", "refused", "full"]
"""Off: no centre is set, or the extra for it is not installed. Away: the centre could not be
reached, or answers too slowly. Expired: its metadata ran out. Clock: this machine's clock is wrong.
Refused: an attack or a damaged repository. Full: no room, or the state folder cannot be written."""
Text = Annotated[str, StringConstraints(max_length=500)]


class ReportRefused(ValueError):
    """A report is not what its topic says; the message names the reason."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Document):
    """What a gateway measured of a student against the other one, on the same windows.

    Whole numbers as in `pipeline.scoring.thresholds.Thresholds`; None for what was not measured.
    """

    windows: Count = 0
    nonfinite_permille: int | None = None
    latency_us: int | None = None
    latency_percent: int | None = None
    disagreement_permille: int | None = None
    psi_permille: int | None = None
    spread_percent: int | None = None
    unknown_permille: int | None = None
    error_percent: int | None = None
    coverage_permille: int | None = None


class StudentReport(_Document):
    """One student on a gateway.

    Attributes:
        name: Name of the student.
        stream: Stream that it scores, or would score.
        version: Version that scores now; None if none does.
        digest: Digest of that version; "" if none does.
        release: Number of the release that it follows; 0 if none.
        phase: What happens to the release here. `waiting`: outside the maintenance window, or not
            fetched yet; `held`: by hand or by policy; `failed`: judged unhealthy, not tried again.
        candidate: Version of the release; None without one.
        since_s: Beginning of the phase, epoch seconds.
        evidence: What was measured in shadow or on probation.
        reason: Why it failed, is held or waits; "" otherwise.
    """

    name: Name
    stream: Annotated[str, StringConstraints(max_length=200)] = ""
    version: int | None = None
    digest: Annotated[str, StringConstraints(max_length=64)] = ""
    release: Count = 0
    phase: Phase = "champion"
    candidate: int | None = None
    since_s: Epoch = 0
    evidence: Evidence = Evidence()
    reason: Text = ""


class SoftwareReport(_Document):
    """What the updater of a gateway has made of the release of the software.

    Attributes:
        release: Number of the release.
        version: The version that it brings.
        phase: `trying`: it is being installed, or waits for `/ready`; `failed`: the former version
            runs again, and this release is not tried again; `done`: it became ready.
        reason: Why it failed, is held or waits; "" otherwise.
    """

    release: Count
    version: Annotated[str, StringConstraints(max_length=64)]
    phase: Literal["waiting", "trying", "done", "failed", "held"]
    reason: Text = ""


class GatewayReport(_Document):
    """A whole report.

    Attributes:
        format: Version of this document.
        gateway: Name of the gateway, as in the topic.
        group: Its group.
        sent_s: Time of the report by the gateway's clock, epoch seconds.
        software: Version of kpstream.
        python: Version of Python.
        machine: Architecture, such as `aarch64`.
        disk_free_mb: Free disk at the state folder.
        fetch: State of the centre as the gateway sees it.
        fetch_detail: Why, for people.
        index_made_s: `made_s` of the newest verified index; 0 without one.
        students: Its students.
        update: What its updater says; None without an updater. It is then left out of the report,
            so that an older centre reads it.
    """

    format: Literal[1] = 1
    gateway: Gateway
    group: Annotated[str, StringConstraints(max_length=64)] = ""
    sent_s: Epoch
    software: Annotated[str, StringConstraints(max_length=64)] = ""
    python: Annotated[str, StringConstraints(max_length=64)] = ""
    machine: Annotated[str, StringConstraints(max_length=64)] = ""
    disk_free_mb: Count = 0
    fetch: FetchState = "off"
    fetch_detail: Text = ""
    index_made_s: Epoch = 0
    students: Annotated[tuple[StudentReport, ...], Field(max_length=100)] = ()
    update: SoftwareReport | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.update is None:
            found.pop("update", None)
        return found


def encode_report(report: GatewayReport, key: bytes | None = None) -> bytes:
    """The payload of a report: one line of JSON, and a second line with its signature if any."""
    body = orjson.dumps(report.model_dump())
    return body if key is None else body + b"\n" + _signature(body, key).encode()


def encode_note(made_s: int) -> bytes:
    """The payload of the note: `made_s` of the newest index. It only causes an early look.

    >>> encode_note(1700000000)
    b'{"made_s":1700000000}'
    """
    return orjson.dumps({"made_s": made_s})


def decode_report(topic: str, payload: bytes, key: bytes | None = None) -> GatewayReport:
    """Check and read a report.

    Args:
        topic: The topic that it came on.
        payload: Its payload.
        key: Key of this gateway; None accepts a report without a signature, as the broker proves
            its sender.

    Raises:
        ReportRefused: The report is too long, damaged, another gateway's, or wrongly signed.
    """
    if len(payload) > MAX_REPORT_BYTES:
        msg = f"the report has {len(payload)} bytes, more than {MAX_REPORT_BYTES}"
        raise ReportRefused(msg)
    body, _, signature = payload.partition(b"\n")
    if key is not None and not hmac.compare_digest(signature, _signature(body, key).encode()):
        msg = "the report is not signed with the key of this gateway"
        raise ReportRefused(msg)
    try:
        report = GatewayReport.model_validate_json(body)
    except ValidationError as exc:
        msg = f"the report is invalid: {first_fault(exc)}"
        raise ReportRefused(msg) from exc
    if topic != report_topic(report.gateway):
        msg = f"the report names the gateway {report.gateway}, but came on the topic {topic}"
        raise ReportRefused(msg)
    return report


def read_report_key(path: Path) -> bytes:
    """Read the key of a gateway's reports: a file with 64 hexadecimal digits.

    `kpstream centre enrol` writes it.

    Raises:
        OSError: The file is missing, too large, no regular file, or cannot be read.
        ValueError: It does not hold a key; the message does not show what it holds.
    """
    try:
        key = bytes.fromhex(read_regular(path, 1000).decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        msg = f"{path} does not hold the key of a report: 64 hexadecimal digits"
        raise ValueError(msg)
    return key


def _signature(body: bytes, key: bytes) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()

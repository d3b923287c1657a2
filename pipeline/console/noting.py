"""Notes on devices that are made on the page of a device; `pipeline.console.notes` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.topics import are_names
from pipeline.console.acting import Access, refusal
from pipeline.console.notes import DeviceNotes, Note, NoteKind
from pipeline.console.queries import Device
from pipeline.errors import NotesError

__all__ = ["take_note"]


class _Said(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    kind: NoteKind | None
    by: str = Field(default="", max_length=200)
    text: str = Field(default="", max_length=200)


def take_note(
    notes: DeviceNotes,
    access: Access,
    device: Device,
    headers: Mapping[str, str],
    peer: str,
    body: bytes,
    now_ms: int,
) -> tuple[int, dict[str, Any]]:
    """Make or end the note of a device; returns the status and the page of the answer.

    Args:
        notes: The notes of the gateway.
        access: Who may act through the page.
        device: The device that the address names.
        headers: Headers of the request.
        peer: Address that the connection comes from.
        body: `{"kind": "acknowledged" | "retired" | null, "by": text, "text": text}`; null ends it.
        now_ms: The clock, epoch ms.
    """
    if (why := refusal(headers, peer, access)) is not None:
        return 403, {"error": why}
    if not are_names(device):
        return 404, {"error": "the address names no device"}
    try:
        said = _Said.model_validate_json(body)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        return 400, {"error": f"{place}: {fault['msg']}"}
    try:
        if said.kind is None:
            notes.remove(device)
        else:
            notes.put(device, Note(said.kind, now_ms, said.by, said.text))
    except NotesError as exc:
        return 503, {"error": str(exc)}
    return 200, {"kind": said.kind}

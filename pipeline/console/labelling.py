"""Labels on the page of a device: those that hold, and those that people give there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from ingest.errors import LogUnavailable, RefusedMessage
from ingest.labels import LabelRecord, decode_label
from ingest.topics import Address, are_names
from pipeline.console.acting import Access, refusal
from pipeline.console.queries import Device
from pipeline.points.measurements import LABEL
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["GiveLabel", "Labelled", "Labelling", "given_labels"]

GiveLabel = Callable[[LabelRecord], Awaitable[None]]
"""Appends a label to the log; returns when it is durable, or raises `LogUnavailable`."""

_MOST_SHOWN = 200
_MOST_WAITING = 8
_PATIENCE_S = 15.0


class Labelled(NamedTuple):
    """An answer: status and page."""

    status: int
    page: dict[str, Any]


class Labelling:
    """Takes labels from the page and gives them to the log; used in one event loop.

    Attributes:
        access: Who may give labels.
    """

    def __init__(self, give: GiveLabel, access: Access, future_ms: int) -> None:
        """Prepare.

        Args:
            give: See `GiveLabel`.
            access: Who may give labels.
            future_ms: Milliseconds that a label may be ahead of the clock.
        """
        self.access = access
        self._give = give
        self._future_ms = future_ms
        self._waiting = 0

    async def take(
        self, device: Device, headers: Mapping[str, str], peer: str, body: bytes, now_ms: int
    ) -> Labelled:
        """Take one label; 201 means that it is in the log durably.

        Args:
            device: The device that the address names.
            headers: Headers of the request.
            peer: Address that the connection comes from.
            body: A label, as over MQTT.
            now_ms: The clock, epoch ms.
        """
        if (why := refusal(headers, peer, self.access)) is not None:
            return _error(403, why)
        if not are_names(device):
            return _error(404, "the address names no device")
        try:
            label = decode_label(body)
            label.check_past(now_ms, self._future_ms)
        except RefusedMessage as exc:
            return _error(400, exc.detail)
        if self._waiting >= _MOST_WAITING:
            return _error(429, "several labels wait for the log; try again in a moment")
        self._waiting += 1
        record = LabelRecord(Address(*device), now_ms, label)
        try:
            await asyncio.wait_for(self._give(record), _PATIENCE_S)
        except (LogUnavailable, asyncio.TimeoutError) as exc:
            why = str(exc) or f"it has not confirmed for {_PATIENCE_S:.0f} s"
            return _error(503, f"the log does not take the label: {why}; try again later")
        finally:
            self._waiting -= 1
        return Labelled(201, {"id": label.id})


def given_labels(results: ResultsFile, device: Device) -> list[dict[str, Any]]:
    """Return the newest labels of a device that hold, the latest time first.

    Each has the fields of `LABEL`, and its `kind`.
    """
    known = results.fields(LABEL.name)
    if not known:
        return []
    fields = [field.name for field in LABEL.fields if field.name in known]
    columns = ", ".join(f'p."{name}"' for name in fields)
    rows = results.select(
        f"SELECT json_extract(s.tags, '$.kind'), {columns} FROM points_{LABEL.name} p "  # noqa: S608 names of the table
        f"JOIN _series s ON s.id = p.series WHERE s.measurement = '{LABEL.name}' AND s.site = ? "
        "AND s.device = ? AND s.stream = ? ORDER BY p.time_ns DESC LIMIT ?",
        (*device, _MOST_SHOWN),
    )
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        label = dict(zip(("kind", *fields), row, strict=True))
        label["revoked"] = bool(label.get("revoked"))
        known_label = newest.get(label["id"])
        if known_label is None or _rank(label) > _rank(known_label):
            newest[label["id"]] = label
    return [label for label in newest.values() if not label["revoked"]]


def _rank(label: Mapping[str, Any]) -> tuple[bool, int]:
    """The order in which records of one id count; as `ingest.labels.later_of`."""
    return label["revoked"], label["recv_ms"]


def _error(status: int, text: str) -> Labelled:
    return Labelled(status, {"error": text})

"""What people have said about devices: an alarm is known, or a device is out of use.

| note         | effect on the fleet page                      | ends by itself                  |
|--------------|-----------------------------------------------|---------------------------------|
| acknowledged | the device sorts behind those that nobody has | when it needs no attention, or  |
|              | looked at, and is marked                      | more than before                |
| retired      | the device is shown and counted on request    | when it sends again             |
|              | only                                          |                                 |

Notes are in one small file of the state folder (`ingest.statefile`). `kpstream devices` and the
console change it, one at a time under a lock; neither waits for the other to read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ingest.secrettext import error_text
from ingest.sharedstate import SharedState
from ingest.statefile import StateFileUnusable, reason_of
from ingest.topics import are_names
from pipeline.console.queries import Device
from pipeline.errors import NotesError

__all__ = ["FILE_NAME", "DeviceNotes", "Note", "NoteKind"]

log = logging.getLogger(__name__)

FILE_NAME = "devices.json"
"""Name of the file in the state folder."""
NoteKind = Literal["acknowledged", "retired"]
_MOST = 50_000
_MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Note:
    """A note on one stream of a device.

    Attributes:
        kind: What was said.
        at_ms: When, epoch milliseconds.
        by: Who said it.
        text: Why, in words; may be empty.
        rank: How urgent the device was when the page first saw the note, 0 for most; None before.
    """

    kind: NoteKind
    at_ms: int
    by: str
    text: str = ""
    rank: int | None = None


class DeviceNotes:
    """The notes of one gateway; reading is cheap while the file does not change."""

    def __init__(self, folder: Path) -> None:
        """Prepare.

        Args:
            folder: The state folder of the gateway.
        """
        self._file = SharedState(folder / FILE_NAME)
        self._notes: dict[Device, Note] = {}

    def read(self) -> Mapping[Device, Note]:
        """All notes; none, with one line in the log, while the file is unusable."""
        if self._file.has_changed():
            try:
                self._notes = _notes(self._file.read())
            except _UNUSABLE as exc:
                log.warning("%s; no device counts as acknowledged or retired", self._said(exc))
                self._notes = {}
        return self._notes

    def known(self) -> Mapping[Device, Note]:
        """All notes that the file has now.

        Raises:
            NotesError: The file is unusable.
        """
        try:
            return _notes(self._file.read())
        except _UNUSABLE as exc:
            raise NotesError(self._said(exc)) from exc

    def put(self, device: Device, note: Note) -> None:
        """Make a note, in place of any earlier one.

        Raises:
            NotesError: The file cannot be read or written, or is full.
        """
        with self._changing() as notes:
            if device not in notes and len(notes) >= _MOST:
                path = self._file.path
                msg = f"{path} has {_MOST:,} notes; end some with `kpstream devices restore`"
                raise NotesError(msg)
            notes[device] = replace(note, by=note.by[:_MOST_TEXT], text=note.text[:_MOST_TEXT])

    def remove(self, device: Device) -> Note | None:
        """End the note of a device and return it; None if it had none.

        Raises:
            NotesError: The file cannot be read or written.
        """
        with self._changing() as notes:
            return notes.pop(device, None)

    def follow(
        self, device: Device, note: Note, rank: int, heard_ms: int | None, *, is_stale: bool
    ) -> Note | None:
        """Keep, complete or end a note by how its device does now.

        Args:
            device: The device.
            note: Its note.
            rank: How urgent it is now: 0 and 1 need attention, 0 more of it; higher ranks none.
            heard_ms: Its latest receive time, epoch milliseconds.
            is_stale: Whether it has been silent for too long, which needs attention too.

        Returns:
            The note as it is now; None if it has ended.
        """
        if note.kind == "retired":
            kept = None if heard_ms is not None and heard_ms > note.at_ms else note
        elif (rank > 1 and not is_stale) or (note.rank is not None and rank < note.rank):
            kept = None
        else:
            kept = note if note.rank is not None else replace(note, rank=rank)
        if kept != note:
            try:
                with self._changing() as notes:
                    if notes.get(device) == note:
                        del notes[device]
                        if kept is not None:
                            notes[device] = kept
            except NotesError as exc:
                log.warning("%s; the notes stay as they are", exc)
        return kept

    @contextmanager
    def _changing(self) -> Iterator[dict[Device, Note]]:
        """Yield the notes for a change that is written when the block ends."""
        try:
            with self._file.changing() as values:
                notes = _notes(values)
                yield notes
                values.clear()
                values["devices"] = {"/".join(each): asdict(note) for each, note in notes.items()}
        except _UNUSABLE as exc:
            raise NotesError(self._said(exc)) from exc
        except OSError as exc:
            msg = f"cannot change {self._file.path}: {error_text(exc)}"
            raise NotesError(msg) from exc

    def _said(self, exc: Exception) -> str:
        why = reason_of(exc)
        return f"the notes on devices in {self._file.path} are unusable ({why}): move the file away"


_UNUSABLE = (StateFileUnusable, KeyError, TypeError, AttributeError, ValueError)


def _notes(values: Mapping[str, Any]) -> dict[Device, Note]:
    """The notes in the object of the file; raises one of `_UNUSABLE`."""
    return dict(map(_entry, values["devices"].items())) if values else {}


def _entry(item: tuple[str, Any]) -> tuple[Device, Note]:
    site, device, stream = item[0].split("/")
    note = Note(**item[1])
    is_valid = (
        are_names((site, device, stream))
        and note.kind in get_args(NoteKind)
        and type(note.at_ms) is int
        and isinstance(note.by, str)
        and isinstance(note.text, str)
        and (note.rank is None or type(note.rank) is int)
    )
    if not is_valid:
        msg = f"{item[0]!r:.80} has no valid note"
        raise ValueError(msg)
    return (site, device, stream), note

"""Which dead letters were published again, and when: a small file in the state folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ingest.clock import now_ms as process_now_ms
from ingest.statefile import StateFileUnusable, read_object, write_object

__all__ = ["note_replayed", "read_replayed"]

log = logging.getLogger(__name__)

_NAME = "dead-letters-replayed.json"
_MOST = 100_000


def read_replayed(state_dir: Path) -> dict[str, tuple[int, str]]:
    """Id of each dead letter that was published again -> when (epoch ms) and how.

    A missing file counts as empty, and an unusable one too, with a warning: it is a note, nothing
    depends on it.
    """
    path = state_dir / _NAME
    try:
        found = read_object(path) or {}
        try:
            notes = found.get("replayed", found)  # an earlier version had the notes only
            return {str(name): (int(at_ms), str(how)) for name, (at_ms, how) in notes.items()}
        except (AttributeError, TypeError, ValueError) as exc:
            raise StateFileUnusable(path, "it has no notes on dead letters") from exc
    except StateFileUnusable as exc:
        log.warning("%s", exc)
        return {}


def note_replayed(state_dir: Path, ids: Iterable[str], how: str, now_ms: int | None = None) -> None:
    """Note that dead letters were published again; keeps the newest hundred thousand notes."""
    notes = read_replayed(state_dir)
    at_ms = process_now_ms() if now_ms is None else now_ms
    for name in ids:
        notes.pop(name, None)
        notes[name] = (at_ms, how)
    kept = dict(list(notes.items())[-_MOST:])
    with suppress(OSError):  # a folder that is not ours: the note is lost, the replay is not
        write_object(state_dir / _NAME, {"replayed": kept})

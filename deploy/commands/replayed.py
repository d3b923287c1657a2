"""Which dead letters were published again, and when: a small file in the state folder."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from ingest.clock import now_ms as process_now_ms

__all__ = ["note_replayed", "read_replayed"]

_NAME = "dead-letters-replayed.json"
_MOST = 100_000


def read_replayed(state_dir: Path) -> dict[str, tuple[int, str]]:
    """Id of each dead letter that was published again -> when (epoch ms) and how.

    A missing or unreadable file counts as empty: it is a note, nothing depends on it.
    """
    with suppress(OSError, orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        found: dict[str, Any] = orjson.loads((state_dir / _NAME).read_bytes())
        return {name: (int(at_ms), str(how)) for name, (at_ms, how) in found.items()}
    return {}


def note_replayed(state_dir: Path, ids: Iterable[str], how: str, now_ms: int | None = None) -> None:
    """Note that dead letters were published again; keeps the newest hundred thousand notes."""
    notes = read_replayed(state_dir)
    at_ms = process_now_ms() if now_ms is None else now_ms
    for name in ids:
        notes.pop(name, None)
        notes[name] = (at_ms, how)
    kept = dict(list(notes.items())[-_MOST:])
    path = state_dir / _NAME
    with suppress(OSError):  # a folder that is not ours: the note is lost, the replay is not
        new = path.with_name(f"{_NAME}.new")
        new.write_bytes(orjson.dumps(kept))
        new.replace(path)

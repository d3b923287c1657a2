"""Which versions ran last: a small file beside the registry's pointers, written at every swap.

After a restart these versions run first, whatever has happened to the registry in the meantime. A
student that the registry has lost stays in the file until another one scores its stream, so that a
second restart does not forget it either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ingest.statefile import StateFileUnusable, read_object, write_object
from models.pointer import Pointer

__all__ = ["Ran", "read_ran", "write_ran"]

log = logging.getLogger(__name__)


class Ran(Pointer):
    """A version that ran, and the stream that it scored; "" in a file of an earlier version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = ""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    running: dict[str, Ran]


def read_ran(path: Path | None) -> dict[str, Ran]:
    """Name to the version that ran last; empty, with a warning, if the file is unusable."""
    if path is None:
        return {}
    try:
        found = read_object(path)
        if found is None:
            return {}
        if found.keys() != {"running"}:  # an earlier version had the pointers only
            found = {"running": found}
        try:
            return _Content.model_validate(found).running
        except ValueError as exc:
            raise StateFileUnusable(path, "it has no list of running versions") from exc
    except StateFileUnusable as exc:
        log.warning("%s; the pointers of the registry decide which students run", exc)
        return {}


def write_ran(path: Path | None, running: Mapping[str, Ran]) -> bool:
    """Replace the file; returns whether it did.

    A failure is logged and no more, because it endangers no reading.
    """
    if path is None:
        return False
    content = {name: ran.model_dump() for name, ran in running.items()}
    try:
        write_object(path, {"running": content})
    except OSError as exc:
        log.warning("cannot save the running versions to %s: %s", path, exc)
        return False
    return True

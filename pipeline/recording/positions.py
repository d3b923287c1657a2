"""The positions of a recorder: how far a log is recorded, and which files belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingest.statefile import StateFileUnusable, read_object, write_object
from pipeline.errors import RecordingUnusable

__all__ = [
    "POSITIONS_FILE",
    "RecordedPositions",
    "read_positions",
    "without_positions",
    "write_positions",
]

POSITIONS_FILE = ".positions.json"


@dataclass(frozen=True, slots=True)
class RecordedPositions:
    """What the file of positions says.

    Attributes:
        source: Identity of the log; "" for none.
        positions: `topic/partition` to the offset of the next record that is not recorded yet.
        next_part: Number of the next file.
        moves: Staged file to its name below the folder, of the last commit.
    """

    source: str = ""
    positions: Mapping[str, int] = field(default_factory=dict)
    next_part: int = 0
    moves: Mapping[str, str] = field(default_factory=dict)


def read_positions(folder: Path) -> RecordedPositions | None:
    """Read the positions of a folder; None without any.

    Raises:
        RecordingUnusable: They are damaged.
    """
    file = folder / POSITIONS_FILE
    try:
        found = read_object(file)
        if found is None:
            return None
        if found.keys() != {"source", "positions", "next_part", "moves"}:
            raise StateFileUnusable(file, "it has other keys")
        return RecordedPositions(**found)
    except StateFileUnusable as exc:
        raise without_positions(folder, f"{file} is unusable ({exc.reason})") from exc


def write_positions(folder: Path, positions: RecordedPositions) -> None:
    """Replace the positions of a folder.

    Raises:
        OSError: They cannot be written, and are as they were.
    """
    values = {
        "source": positions.source,
        "positions": dict(positions.positions),
        "next_part": positions.next_part,
        "moves": dict(positions.moves),
    }
    write_object(folder / POSITIONS_FILE, values)


def without_positions(folder: Path, reason: str) -> RecordingUnusable:
    """Return the error of a folder whose positions are missing or damaged."""
    message = (
        f"{reason}. Without it, nobody knows which records of the log are in {folder} already: "
        "move the folder away (its readings stay usable for training), or record into another one"
    )
    return RecordingUnusable(message)

"""The pointer of a name to the version that gateways run, and the history of its moves, as read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, ValidationError

from models.artifact import open_plain_file, read_plain_file, write_durably
from models.errors import ArtifactError, ArtifactMissing, PointerInvalid, RegistryBusy

__all__ = [
    "HISTORY_FILE",
    "NEXT_POINTER_FILE",
    "POINTER_FILE",
    "Move",
    "Pointer",
    "count_damaged_moves",
    "files_stamp",
    "is_move_to",
    "is_superseded",
    "open_to_append",
    "publishing",
    "read_history",
    "read_interrupted_move",
    "read_last_number",
    "read_pointer",
    "write_last_number",
]

POINTER_FILE = "stable.json"
NEXT_POINTER_FILE = "stable.next.json"
HISTORY_FILE = "history.jsonl"
_NUMBER_FILE = ".last-number"
_MAX_POINTER_BYTES = 10_000
_MAX_HISTORY_BYTES = 100_000_000
_LOCK_SECONDS = 10.0

_Version = Annotated[int, Strict(), Field(ge=1)]
_Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]


class Pointer(BaseModel):
    """The content of stable.json: the version that gateways run, and the digest of its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: _Version
    digest: _Digest


class Move(BaseModel):
    """One line of history.jsonl: a move of the pointer, with its time and its author."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ts_ms: int
    who: str
    what: Literal["promote", "rollback"]
    version: _Version
    digest: _Digest
    previous: _Version | None


def read_pointer(folder: Path, file: str = POINTER_FILE) -> Pointer | None:
    """Read the pointer in the folder of a name; None if it was never set.

    Raises:
        PointerInvalid: It is damaged.
    """
    path = folder / file
    if not os.path.lexists(path):
        return None
    try:
        return Pointer.model_validate_json(read_plain_file(path, _MAX_POINTER_BYTES))
    except ValidationError as exc:
        reason = exc.errors(include_url=False)[0]["msg"]
        msg = f"{path} is damaged ({reason}): set the pointer again (publish or set_stable)"
        raise PointerInvalid(msg) from exc
    except ArtifactMissing:
        return None  # removed in between
    except ArtifactError as exc:
        msg = f"{exc}: set the pointer again (publish or set_stable)"
        raise PointerInvalid(msg) from exc


def read_interrupted_move(folder: Path, last: Move) -> Pointer | None:
    """The pointer that the last move was about to set; None if there is none, or another's."""
    try:
        pointer = read_pointer(folder, NEXT_POINTER_FILE)
    except PointerInvalid:
        return None
    return pointer if pointer is not None and is_move_to(last, pointer) else None


def read_history(folder: Path) -> list[Move]:
    """All moves of the pointer, oldest first; a line truncated by a power loss is left out.

    Empty if the file is missing, or no regular file.
    """
    return [move for move in _read_moves(folder) if move is not None]


def count_damaged_moves(folder: Path) -> int:
    """Number of lines of the history that `read_history` leaves out."""
    return sum(move is None for move in _read_moves(folder))


def _read_moves(folder: Path) -> Iterator[Move | None]:
    try:
        data = read_plain_file(folder / HISTORY_FILE, _MAX_HISTORY_BYTES)
    except ArtifactError:
        return
    for line in data.splitlines():
        try:
            yield Move.model_validate_json(line)
        except ValidationError:
            yield None


def files_stamp(folder: Path, files: Sequence[str]) -> tuple[int, ...] | None:
    """A value that differs after every change of these files; None if none of them is there."""
    stamp: list[int] = []
    for file in files:
        try:
            status = (folder / file).lstat()
        except OSError:
            stamp += (0, 0, 0)
        else:
            stamp += (status.st_ino, status.st_mtime_ns, status.st_size)
    return tuple(stamp) if any(stamp) else None


def read_last_number(folder: Path) -> int:
    """The highest version number that a name has used; 0 if nothing says so."""
    try:
        text = read_plain_file(folder / _NUMBER_FILE, _MAX_POINTER_BYTES).decode("ascii")
        return max(int(text), 0)
    except (ArtifactError, ValueError):
        return 0


def write_last_number(folder: Path, version: int) -> None:
    """Keep the highest number, so that the number of a deleted version never comes back."""
    write_durably(folder / _NUMBER_FILE, f"{max(version, read_last_number(folder))}\n".encode())


def is_move_to(move: Move, pointer: Pointer) -> bool:
    """Whether this move set this pointer."""
    return (move.version, move.digest) == (pointer.version, pointer.digest)


def is_superseded(pointer: Pointer, moves: Sequence[Move]) -> bool:
    """Whether the history once moved to this pointer, and then to another version."""
    return not is_move_to(moves[-1], pointer) and any(is_move_to(move, pointer) for move in moves)


@contextlib.contextmanager
def publishing(folder: Path) -> Iterator[None]:
    """Hold the lock of a name, which one publisher has at a time.

    Args:
        folder: Folder of the name in the registry.

    Raises:
        RegistryBusy: Another publisher held the lock for too long.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    with open_to_append(folder / ".lock") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    msg = (
                        f"another publisher has held the lock of {folder.name} for {_LOCK_SECONDS} "
                        "s: try again later"
                    )
                    raise RegistryBusy(msg) from exc
                time.sleep(0.02)
        yield  # closing the file releases the lock


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file to append to it, and to read it; see `open_plain_file`."""
    return os.fdopen(open_plain_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab")

"""Rulings, by which people overrule automation: a name is held or pinned, a version rejected.

```
{root}/{name}/rulings.jsonl      one line per ruling, appended: hold, unhold, pin, unpin, ...
```

- **Held**: nothing is published over the stable version. A rollback to a lower one is possible.
- **Pinned**: one version is stable, and no other becomes it.
- **Rejected**: a version that was stable until the pointer moved back. Neither its bytes nor an
  equal student are published again, until somebody promotes or readmits it.

A rollback needs no ruling: the history of the pointer says what it left. `models.acceptance` asks
here before a student becomes stable, the centre before it releases one, and a gateway before it
follows a release.
"""

from __future__ import annotations

import getpass
import heapq
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from models.artifact import read_plain_file
from models.errors import ArtifactError, Held, Rejected
from models.pointer import Move, open_to_append, publishing, read_history

__all__ = [
    "RULINGS_FILE",
    "Ruling",
    "Rulings",
    "add_ruling",
    "append_line",
    "author",
    "count_damaged_rulings",
    "list_rulings",
    "read_rulings",
]

RULINGS_FILE = "rulings.jsonl"
_MAX_BYTES = 10_000_000


class Ruling(BaseModel):
    """One line of rulings.jsonl.

    Attributes:
        ts_ms: When, epoch milliseconds.
        who: By whom.
        what: What is ruled.
        version: The version concerned; None for hold, unhold and unpin.
        reason: Why, in words; "" for no reason given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ts_ms: int
    who: str
    what: Literal["hold", "unhold", "pin", "unpin", "reject", "readmit"]
    version: Annotated[int, Field(ge=1)] | None = None
    reason: Annotated[str, StringConstraints(max_length=500)] = ""

    @property
    def text(self) -> str:
        """When, by whom and why, for messages."""
        return _when(self.ts_ms, self.who) + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Rulings:
    """What holds for a name now.

    Attributes:
        held: The hold; None for none.
        pinned: The pin; None for none.
        rejected: Version to the reason why it is rejected.
    """

    held: Ruling | None = None
    pinned: Ruling | None = None
    rejected: Mapping[int, str] = field(default_factory=dict)

    def obstacle(self, version: int | None, stable: int | None) -> str:
        """Why a version must not become stable; "" if it may.

        Args:
            version: The version; None for one that gets a new number.
            stable: The version that is stable now; None for none.

        >>> hold = Ruling(ts_ms=0, who="eva", what="hold", reason="audit")
        >>> Rulings(held=hold).obstacle(3, 2)
        'held since 1970-01-01 00:00:00 UTC by eva: audit'
        >>> Rulings(held=hold).obstacle(1, 2)
        ''
        """
        if self.pinned is not None and version != self.pinned.version:
            return f"pinned to v{self.pinned.version} since {self.pinned.text}"
        is_new = version is None or stable is None or version > stable
        if self.held is not None and is_new:
            return f"held since {self.held.text}"
        return ""

    def require_free(self, name: str, version: int | None, stable: int | None) -> None:
        """Refuse a version that must not become stable; see `obstacle`.

        Raises:
            Held: The name is held, or pinned to another version.
        """
        found = self.obstacle(version, stable)
        if found:
            undo = "unpin" if found.startswith("pinned") else "unhold"
            msg = f"{name} is {found}; `kpstream models {undo} {name}` ends it"
            raise Held(msg)

    def require_not_rejected(self, name: str, version: int) -> None:
        """Refuse a version that was rejected.

        Raises:
            Rejected: It was.
        """
        if version in self.rejected:
            msg = (
                f"{name} v{version} was rejected ({self.rejected[version]}); `kpstream models "
                f"promote {name} {version}` brings it back, and `kpstream models readmit {name} "
                f"{version}` only ends that"
            )
            raise Rejected(msg)


def read_rulings(folder: Path) -> Rulings:
    """Read what holds for a name now.

    Args:
        folder: Folder of the name in the registry.
    """
    held: Ruling | None = None
    pinned: Ruling | None = None
    rejected: dict[int, str] = {}
    # The order of the lines counts, also after the clock went back.
    moves: list[Ruling | Move] = [*read_history(folder)]
    for event in heapq.merge(moves, list_rulings(folder), key=lambda one: one.ts_ms):
        if isinstance(event, Move):
            if event.what == "rollback" and event.previous is not None:
                text = f"rolled back to v{event.version} {_when(event.ts_ms, event.who)}"
                rejected[event.previous] = text
            rejected.pop(event.version, None)
        elif event.what in ("hold", "unhold"):
            held = event if event.what == "hold" else None
        elif event.what in ("pin", "unpin"):
            pinned = event if event.what == "pin" else None
        elif event.version is not None:
            rejected.pop(event.version, None)
            if event.what == "reject":
                rejected[event.version] = event.text
    return Rulings(held, pinned, rejected)


def add_ruling(folder: Path, ruling: Ruling) -> None:
    """Append a ruling, durably.

    Args:
        folder: Folder of the name in the registry; it exists.
        ruling: The ruling.

    Raises:
        RegistryBusy: A publisher held the lock for too long.
        OSError: It cannot be written.
    """
    line = json.dumps(ruling.model_dump(exclude_defaults=True), ensure_ascii=False) + "\n"
    with publishing(folder):
        append_line(folder / RULINGS_FILE, line)


def list_rulings(folder: Path) -> list[Ruling]:
    """All rulings, oldest first; damaged lines are left out."""
    return [ruling for ruling in _read(folder) if ruling is not None]


def count_damaged_rulings(folder: Path) -> int:
    """Number of lines that `list_rulings` leaves out."""
    return sum(ruling is None for ruling in _read(folder))


def append_line(path: Path, line: str) -> None:
    """Append a line durably; one that a power loss has truncated must not swallow it."""
    with open_to_append(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = b"" if size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n" else b"\n"
        file.write(start + line.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def author() -> str:
    """User and host, as the author of a move or a ruling."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a service without an entry in the user database
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _read(folder: Path) -> Iterator[Ruling | None]:
    try:
        data = read_plain_file(folder / RULINGS_FILE, _MAX_BYTES)
    except ArtifactError:
        return
    for line in data.splitlines():
        try:
            yield Ruling.model_validate_json(line)
        except ValidationError:
            yield None


def _when(ts_ms: int, who: str) -> str:
    at = datetime.fromtimestamp(ts_ms / 1000, timezone.utc)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC by {who}"

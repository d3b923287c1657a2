"""Who besides its owner may enter a state folder.

It holds readings, results and, on a site, tokens. kpstream creates it with mode 0700. A folder that
was there before keeps its mode, because a group may be meant to read it; `StateAccess` says what
that means.
"""

from __future__ import annotations

import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["StateAccess", "state_access"]


@dataclass(frozen=True, slots=True)
class StateAccess:
    """Access that others have to a state folder.

    Attributes:
        is_refused: Whether nothing starts with it: every user may write, and so replace the log or
            a student.
        text: Who may do what.
        advice: The command that closes the folder.
    """

    is_refused: bool
    text: str
    advice: str


def state_access(folder: Path) -> StateAccess | None:
    """Return the access of others to an existing state folder; None: it belongs to its owner only.

    Raises:
        OSError: The folder cannot be examined.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return None
    every = bool(mode & 0o007)
    writes = bool(mode & (0o002 if every else 0o020))
    text = (
        f"{'every user' if every else 'its group'} may {'write' if writes else 'read'} the state "
        f"folder {folder} (mode {mode:04o})"
    )
    return StateAccess(every and writes, text, f"chmod 700 {shlex.quote(str(folder))}")

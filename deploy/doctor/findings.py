"""Findings, the results of the checks of `kpstream doctor`.

A finding is `ok`, `warn` (it works, but needs attention), `fail` (the pipeline does not run, or
loses data) or `unknown` (the check cannot tell, or was not tried). What is not known is never `ok`,
and a finding names a cause only if it is known.

A check is a function that takes plain arguments and returns findings. It changes nothing, reports
problems as findings and not as exceptions, and is safe beside a running gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest.secrettext import error_text

__all__ = ["Finding", "Row", "State", "size_text", "unreadable"]

State = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table in a finding.

    Attributes:
        name: What it is about.
        value: What was found.
        meaning: What that means for us.
    """

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: Subject, one word.
        state: `ok`, `warn`, `fail` or `unknown`.
        text: Result of the check.
        advice: Steps to take; empty if none are needed.
        rows: Table below the text; empty: none.
    """

    name: str
    state: State
    text: str
    advice: str = ""
    rows: tuple[Row, ...] = ()


def unreadable(error: OSError, name: str, what: str = "") -> Finding:
    """Return the finding about a file that cannot be read.

    Without the right to read it nothing is known: another user can be the gateway's.

    Args:
        error: Why.
        name: Subject of the check.
        what: What the file belongs to, in front of the text.
    """
    if isinstance(error, PermissionError):
        text = f"{what}cannot tell: this user may not read {error.filename or 'its files'}"
        return Finding(name, "unknown", text, "run doctor as the gateway's user")
    return Finding(name, "fail", f"{what}{error_text(error)}")


def size_text(size_bytes: float) -> str:
    """Format a number of bytes.

    >>> size_text(999), size_text(2_500_000), size_text(73.4e9)
    ('999 B', '2.5 MB', '73.4 GB')
    """
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"

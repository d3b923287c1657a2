"""What `kpstream doctor` reports: findings.

A finding is `ok`, `warn` (it works, but somebody should know) or `fail` (the line does not run, or
loses something). A check is a function that takes plain arguments and returns findings; it changes
nothing, raises nothing for what it is meant to find, and is safe beside a running gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "size_text"]

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: the subject, one word.
        state: `ok`, `warn` or `fail`.
        text: what was found.
        advice: what to do about it; empty when there is nothing to do.
    """

    name: str
    state: State
    text: str
    advice: str = ""


def size_text(size_bytes: float) -> str:
    """A number of bytes for a person.

    >>> size_text(999), size_text(2_500_000), size_text(73.4e9)
    ('999 B', '2.5 MB', '73.4 GB')
    """
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"

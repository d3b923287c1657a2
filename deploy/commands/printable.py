"""Text of peers on a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return a text in which control characters and terminal escapes are shown, not executed.

    >>> print(printable("red \x1b[31m"))
    red \x1b[31m
    """
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

"""How a text file of own data is written, guessed from its first lines."""

from __future__ import annotations

import re
from contextlib import suppress

from ingest.recordings.columns import Notation
from ingest.recordings.tables import parse_number

__all__ = ["guess_notation"]

_SEPARATORS = ",;\t| "


def guess_notation(content: bytes) -> Notation:
    """Guess separator, decimal sign, encoding and header of the text of a file."""
    if content.startswith((b"PAR1", b"\x89HDF")):
        return Notation()
    encoding = "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "latin-1", content.decode("latin-1")
    lines = [line for line in text.splitlines()[:200] if line.strip()]
    if not lines:
        return Notation()
    counts = {one: [len(_split(line, one)) for line in lines] for one in _SEPARATORS}
    even = {one: found[0] for one, found in counts.items() if len(set(found)) == 1}
    separator = max(even, key=lambda one: even[one], default=",") if even else ","
    first = _split(lines[0], separator)
    decimal = "."
    if separator != "," and not any(_is_number(cell) for line in lines[1:2] for cell in first):
        body = [cell for line in lines[1:] for cell in _split(line, separator)]
        if any(re.fullmatch(r"-?\d+,\d+", cell.strip()) for cell in body):
            decimal = ","
    is_headless = all(_is_number(cell) for cell in first)
    header = tuple(f"column_{place}" for place in range(1, len(first) + 1)) if is_headless else ()
    return Notation(separator, decimal, encoding, header=header)


def _split(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else line.split(separator)


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        parse_number(cell.strip().strip('"'))
        return True
    return False

"""The body of a message as a document: objects, arrays, texts and numbers.

One function per format. Each accepts any bytes: it returns a document whose depth and size are
bounded, or raises `BodyFault`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from ingest.mapping.errors import BodyFault
from ingest.mapping.file import MappingTable
from ingest.secrettext import error_text

__all__ = ["BodyReader", "body_reader"]

BodyReader = Callable[[bytes], Any]
"""Returns the document of a body; raises `BodyFault`."""


def body_reader(table: MappingTable) -> BodyReader:
    """Return the function that reads bodies of the mapping's format."""
    return _READERS[table.format]


def _json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as exc:
        msg = f"the body is not JSON ({error_text(exc)}); it begins with {payload[:80]!r}"
        raise BodyFault(msg) from exc


def _value(payload: bytes) -> Any:
    """Return the text of a bare value; a text in JSON quotes loses them."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as exc:
        msg = f"the body is not UTF-8 text; it begins with {payload[:80]!r}"
        raise BodyFault(msg) from exc
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


_READERS: Final[dict[str, BodyReader]] = {"json": _json, "value": _value}

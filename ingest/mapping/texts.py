"""JSON and bare values."""

from __future__ import annotations

from typing import Any

import orjson

from ingest.mapping.errors import BodyFault
from ingest.secrettext import error_text

__all__ = ["read_json", "read_value", "text_of"]


def read_json(payload: bytes) -> Any:
    """Return the document of a JSON body.

    Raises:
        BodyFault: The body is not JSON.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as exc:
        msg = f"the body is not JSON ({error_text(exc)}); it begins with {payload[:80]!r}"
        raise BodyFault(msg) from exc


def read_value(payload: bytes) -> str:
    """Return the text of a bare value; a text in JSON quotes loses them.

    Raises:
        BodyFault: The body is not text.
    """
    text = text_of(payload).strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


def text_of(payload: bytes) -> str:
    """Return the text of a body, without a byte order mark.

    Raises:
        BodyFault: The body is not UTF-8.
    """
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        msg = f"the body is not UTF-8 text; it begins with {payload[:80]!r}"
        raise BodyFault(msg) from exc

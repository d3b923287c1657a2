"""CBOR and MessagePack as documents of objects, arrays, texts and numbers.

A document from outside never becomes anything else: no dates, regular expressions or other objects
of Python. Keys that are numbers become text, so that a path can name them (`"1"`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import cbor2
import msgpack

from ingest.mapping.errors import BodyFault
from ingest.secrettext import error_text

__all__ = ["read_cbor", "read_msgpack"]

_MAX_DEPTH: Final = 32
_MAX_ODD_KEYS_BYTES: Final = 4096
_REFUSED_TAGS: Final = {
    **dict.fromkeys((2, 3), "an integer of more than 64 bits"),
    **dict.fromkeys((4, 5, 30, 264, 265), "a decimal or rational number"),
    **dict.fromkeys((25, 28, 29, 256), "a reference to another place"),
}


class _Tags(dict[int, Any]):
    """Decoders of all tags, also of those that the library knows: a tag is read as its content."""

    def __missing__(self, tag: int) -> Any:
        what = _REFUSED_TAGS.get(tag)
        if what is None:
            return _content

        def refuse(_content: Any, _immutable: bool) -> Any:
            msg = f"tag {tag}, {what}, is not read"
            raise ValueError(msg)

        return refuse


def _content(content: Any, _immutable: bool) -> Any:
    return content


def read_cbor(payload: bytes) -> Any:
    """Return the document of a CBOR body.

    Keys of maps that are no text are read in small bodies only: in a large one, an attacker could
    choose keys that make the decoder slow.

    Raises:
        BodyFault: The body is not CBOR, or goes beyond what is read here.
    """
    try:
        return _cbor(payload, has_odd_keys=False)
    except cbor2.CBORError as exc:
        if "map key must be" not in str(exc) or len(payload) > _MAX_ODD_KEYS_BYTES:
            raise BodyFault(_cbor_advice(exc)) from exc
    try:
        return _cbor(payload, has_odd_keys=True)
    except cbor2.CBORError as exc:
        raise BodyFault(_cbor_advice(exc)) from exc


def _cbor(payload: bytes, *, has_odd_keys: bool) -> Any:
    file = io.BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        file,
        semantic_decoders=_Tags(),
        object_hook=_object,
        max_depth=_MAX_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=not has_odd_keys,
    )
    document = decoder.decode()
    if file.tell() != len(payload):
        msg = f"the CBOR document ends after {file.tell()} of {len(payload)} bytes"
        raise BodyFault(msg)
    return document


def _cbor_advice(exc: Exception) -> str:
    cause = f" ({error_text(exc.__cause__)})" if exc.__cause__ is not None else ""
    return f"the body is not CBOR that can be read: {error_text(exc)}{cause}"


def _object(found: Mapping[Any, Any], _immutable: bool) -> dict[str, Any]:
    """Return an object with keys of text, and null for what is undefined."""
    return {
        key if type(key) is str else _key(key): None if value is cbor2.undefined else value
        for key, value in found.items()
    }


def read_msgpack(payload: bytes) -> Any:
    """Return the document of a MessagePack body; a timestamp is its epoch nanoseconds.

    Raises:
        BodyFault: The body is not MessagePack, or goes beyond what is read here.
    """
    try:
        return msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=False,
            timestamp=2,
            object_pairs_hook=_pairs,
            ext_hook=_extension,
        )
    except Exception as exc:  # the library raises exceptions of several unrelated types
        msg = f"the body is not MessagePack that can be read: {error_text(exc, named=True)}"
        raise BodyFault(msg) from exc


def _pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    return {key if type(key) is str else _key(key): value for key, value in pairs}


def _extension(code: int, _data: bytes) -> Any:
    msg = f"extension type {code} is not read"
    raise ValueError(msg)


def _key(key: Any) -> str:
    if type(key) in (int, bool, float) or key is None:
        return str(key)
    if type(key) is bytes:
        return key.decode("utf-8", "replace")
    msg = f"a key of type {type(key).__name__} is not read"
    raise ValueError(msg)

"""Packed numbers, raw or as text, as documents."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any, Final

from ingest.mapping.errors import BodyFault, ObjectFault
from ingest.mapping.paths import Path, parse_path
from ingest.mapping.schema import PackedTable
from ingest.mapping.texts import read_json
from ingest.payloads import MAX_READINGS
from ingest.secrettext import error_text

__all__ = ["PackedReader"]

_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
"""From the alphabet of URLs to the standard one."""


class PackedReader:
    """Reads packed numbers, as `[packed]` says.

    The document is `{"packed": {field: number}}`, or an array of such objects with `repeat`; with
    `path`, the JSON object around the text is in it, too, and a text that cannot be unpacked is an
    `ObjectFault` in its place. An array of JSON objects is an array of such documents, and `path`
    begins at each of its objects.
    """

    def __init__(self, table: PackedTable) -> None:
        self._struct = struct.Struct(table.format)
        self._format = table.format
        self._fields = tuple(table.fields)
        self._encoding = table.encoding
        self._repeats = table.repeat
        self._path: Path | None = None if table.path is None else parse_path(table.path)

    def __call__(self, payload: bytes) -> Any:
        """Return the document of a body.

        Raises:
            BodyFault: The body is not of the format.
        """
        if self._path is None:
            return {"packed": self._unpacked(self._decoded(payload))}
        outer = read_json(payload)
        if type(outer) is list and self._path.steps and type(self._path.steps[0]) is str:
            return [self._around(member, self._path) for member in outer]
        return self._around(outer, self._path)

    def _around(self, outer: Any, path: Path) -> Any:
        """Return a JSON object with the numbers of its text, or with the fault in their place."""
        text = path.find(outer)
        packed: Any
        if type(text) is not str:
            packed = ObjectFault(f"the message has no text at {path.text}")
        else:
            try:
                packed = self._unpacked(self._decoded(text.encode("utf-8", "replace")))
            except BodyFault as exc:
                packed = ObjectFault(str(exc))
        # A fault counts only if the object is for the mapping.
        return {**outer, "packed": packed} if type(outer) is dict else {"packed": packed}

    def _decoded(self, raw: bytes) -> bytes:
        if self._encoding == "raw":
            return raw
        text = raw.strip()
        try:
            if self._encoding == "hex":
                return binascii.unhexlify(text)
            text = text.rstrip(b"=").translate(_STANDARD)
            return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except ValueError as exc:
            msg = f"{text[:40]!r} is not {self._encoding}: {error_text(exc)}"
            raise BodyFault(msg) from exc

    def _unpacked(self, raw: bytes) -> Any:
        size = self._struct.size
        count, rest = divmod(len(raw), size)
        if rest or count == 0 or (count > 1 and not self._repeats):
            each = " each" if self._repeats else ""
            msg = f"{len(raw)} packed bytes; the format {self._format} takes {size}{each}"
            raise BodyFault(msg)
        if count > MAX_READINGS:
            msg = f"{count} packed records; a message has at most {MAX_READINGS} readings"
            raise BodyFault(msg)
        rows = [dict(zip(self._fields, row, strict=True)) for row in self._struct.iter_unpack(raw)]
        return rows if self._repeats else rows[0]

"""The body of a message as a document: objects, arrays, texts and numbers.

One function per format. Each accepts any bytes: it returns a document whose size is bounded by the
payload, or raises `BodyFault`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ingest.mapping.binary import read_cbor, read_msgpack
from ingest.mapping.lines import CsvReader, read_line_protocol
from ingest.mapping.packed import PackedReader
from ingest.mapping.schema import CsvTable, MappingTable
from ingest.mapping.texts import read_json, read_value

__all__ = ["BodyReader", "body_reader"]

BodyReader = Callable[[bytes], Any]
"""Returns the document of a body; raises `BodyFault`."""


def body_reader(table: MappingTable) -> BodyReader:
    """Return the function that reads bodies of the mapping's format."""
    if table.format == "csv":
        return CsvReader(table.csv or CsvTable())
    if table.packed is not None:
        return PackedReader(table.packed)
    return _READERS[table.format]


_READERS: Final[dict[str, BodyReader]] = {
    "json": read_json,
    "value": read_value,
    "line-protocol": read_line_protocol,
    "cbor": read_cbor,
    "msgpack": read_msgpack,
}

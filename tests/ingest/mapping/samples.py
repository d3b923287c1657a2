"""One mapping and one message of each format; all say the same two readings, or one."""

from __future__ import annotations

import base64
import json
import struct
from typing import NamedTuple

import cbor2
import msgpack

T0_MS = 1_700_000_000_000
ROW = {"x": 1.5, "y": -2.0}


class Sample(NamedTuple):
    """A mapping file, a topic and a body; `rows` readings come of it."""

    text: str
    body: bytes
    rows: int


def _file(format_: str, extra: str = "", time: str = "", channels: str = "") -> str:
    when = time or 'path = "t"\nform = "epoch-ms"'
    return (
        f'topic = "a/{{device}}"\nsite = "s"\nstream = "t"\nformat = "{format_}"\n{extra}\n'
        f"[time]\n{when}\n[channels]\n" + (channels or "x = {}\ny = {}\n")
    )


_OBJECTS = [{"t": T0_MS + n, **ROW} for n in range(2)]
_PACKED = struct.pack("<hd", 15, -2.0)
_FIELDS = '[packed]\nformat = "<hd"\nfields = ["x", "y"]\n'
_RECEIVED = 'from = "received"'
_SCALED = "x = { scale = 0.1 }\ny = {}\n"

SAMPLES = {
    "json": Sample(_file("json", 'each = "rows"'), json.dumps({"rows": _OBJECTS}).encode(), 2),
    "columns": Sample(
        _file("json"),
        json.dumps({"t": [T0_MS, T0_MS + 1], "x": [1.5] * 2, "y": [-2.0] * 2}).encode(),
        2,
    ),
    "value": Sample(
        _file("value", 'decimal = ","', _RECEIVED, "x = {}\ny = { scale = -2, offset = 1 }\n"),
        b" 1,5 ",
        1,
    ),
    "csv": Sample(
        _file("csv", '[csv]\ndelimiter = ";"\n'),
        f"\ufefft; x ;y\n{T0_MS};1.5;-2\n\n{T0_MS + 1};+1.5;-2e0\n".encode(),
        2,
    ),
    "csv without header": Sample(
        _file(
            "csv",
            '[csv]\ndelimiter = "whitespace"\nheader = false\n',
            'path = "[0]"\nform = "epoch-ms"',
            'x = "[1]"\ny = "[2]"\n',
        ),
        f"{T0_MS}  1.5 -2\n{T0_MS + 1} 1.5   -2.00".encode(),
        2,
    ),
    "line-protocol": Sample(
        _file("line-protocol", time='path = "time"\nform = "epoch-ns"'),
        b"".join(b'm,h=a x=1.5,y=-2i,s="a b" %d\n' % ((T0_MS + n) * 10**6) for n in range(2)),
        2,
    ),
    "cbor": Sample(
        _file("cbor", 'each = "rows"', channels='x = "1"\ny = {}\n'),
        cbor2.dumps({"rows": [{"t": T0_MS + n, 1: 1.5, "y": -2} for n in range(2)]}),
        2,
    ),
    "msgpack": Sample(
        _file("msgpack", 'each = "rows"', channels='x = "1"\ny = {}\n'),
        msgpack.packb({"rows": [{"t": T0_MS + n, 1: 1.5, "y": -2} for n in range(2)]}),
        2,
    ),
    "packed": Sample(_file("packed", _FIELDS, _RECEIVED, _SCALED), _PACKED, 1),
    "packed hex": Sample(
        _file("packed", _FIELDS + 'encoding = "hex"\n', _RECEIVED, _SCALED),
        _PACKED.hex().encode(),
        1,
    ),
    "packed in JSON": Sample(
        _file(
            "packed",
            _FIELDS + 'encoding = "base64"\npath = "up.payload"\n',
            'path = "up.at"\nform = "epoch-ms"',
            _SCALED,
        ),
        json.dumps({"up": {"at": T0_MS, "payload": base64.b64encode(_PACKED).decode()}}).encode(),
        1,
    ),
    "packed records": Sample(
        _file("packed", _FIELDS + "repeat = true\n", _RECEIVED + "\nstep_ms = 1", _SCALED),
        _PACKED * 2,
        2,
    ),
}

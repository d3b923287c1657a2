"""Records of the topic `readings`: in the form of earlier versions, and the same as columns."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from ingest.blocks import encode_record
from ingest.messages import Batch, Tick, decode_lines
from ingest.openrecords import OpenRecords, Sender
from ingest.topics import Address

__all__ = ["as_columns", "encode_bundle", "encode_tick"]


def encode_bundle(envelopes: Sequence[bytes]) -> bytes:
    """Encode the value of one record as earlier versions did, with one envelope per line."""
    return b"[" + b",\n".join(envelopes) + b"]"


def encode_tick(tick: Tick) -> bytes:
    """Encode one line of such a record that moves processing time."""
    return orjson.dumps({"tick": tick.now_ms, "since": tick.since_ms})


def as_columns(bundle: bytes) -> bytes:
    """Return a record with the same messages and ticks, in the same order, as the bridge writes."""
    magic = encode_record([])
    value = magic
    for item in decode_lines(bundle):
        if isinstance(item, Tick):
            part = encode_record([item])
        else:
            assert isinstance(item, Batch)
            records = OpenRecords(1, 10**9)
            sender = Sender(Address(item.site, item.device, item.stream), 0)
            records.add(sender, item.recv_ms, item.ts_ms.tolist(), item.values)
            ((_, part),) = records.encode()
        value += part.removeprefix(magic)
    return value

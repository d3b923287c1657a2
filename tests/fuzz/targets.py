"""Fuzz targets: the readers of untrusted bytes as functions; any exception is a fault."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from ingest.blocks import Block, decode_messages, decode_record, decode_ticks
from ingest.errors import MqttError, RefusedMessage
from ingest.mqtt.packets import PacketSocket
from ingest.payloads import decode_payload, event_times
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import Checkpoint
from models.errors import ModelError
from models.manifest import decode_manifest
from models.onnxfile import inspect_onnx

T0_MS = 1_750_000_000_000
MAPPING = SparkplugMapping.model_validate(
    {"stream": [{"name": "pair", "metrics": {"a": "A", "b": "B"}}]}
)
KINDS = ("NBIRTH/n", "NDATA/n", "NDEATH/n", "DBIRTH/n/d", "DDATA/n/d", "DDEATH/n/d")


class NoStore:
    """A store that keeps nothing."""

    remembered = 64

    def nodes(self) -> list[tuple[str, str, bytes]]:
        return []

    def devices(self) -> list[tuple[str, str, str, bytes, bytes | None]]:
        return []

    def seen(self) -> list[bytes]:
        return []

    def is_of_mapping(self, _digest: str) -> bool:
        return True

    def write(self, _checkpoint: Checkpoint) -> None:
        return None


def json_body(data: bytes) -> None:
    try:
        event_times(decode_payload(data))
    except RefusedMessage:
        return


def bundle(data: bytes) -> None:
    decode_messages(data)


def record(data: bytes) -> None:
    """The bytes as a record, and as its parts."""
    for value in (data, b"KPB1" + data):
        for item in decode_record(value):
            if isinstance(item, Block):
                assert np.isfinite(item.values).all()
                assert item.values.nbytes <= 2 * len(value)
                assert len(item.sender) == len(item.recv_ms) == len(item.counts) >= 1
                assert len(item.ts_ms) == len(item.values) == item.counts.sum()
        decode_messages(value)
        decode_ticks(value)


def sparkplug(data: bytes) -> None:
    """A script: each message is its kind, its length and its bytes."""
    decoder = Sparkplug(MAPPING, NoStore())  # type: ignore[arg-type]
    at = 0
    while at + 2 <= len(data):
        kind, size = KINDS[data[at] % len(KINDS)], data[at + 1]
        payload = data[at + 2 : at + 2 + size]
        at += 2 + size
        decoded = decoder.decode(f"spBv1.0/g/{kind}", payload, T0_MS, 1)
        for _, body in decoded.messages:
            decode_payload(body)
    decoder.checkpoint()


def packets(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        sock = PacketSocket(ours, has_properties=bool(data and data[0] & 1))
        theirs.sendall(data[:60_000])
        theirs.close()
        with suppress(MqttError):  # a length of five bytes ends the connection
            while sock.fill():
                while sock.next_packet() is not None:
                    pass


def manifest(data: bytes) -> None:
    try:
        decode_manifest(data)
    except ModelError:
        return


def onnx(data: bytes) -> None:
    try:
        inspect_onnx(data)
    except ModelError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json_body,
    "bundle": bundle,
    "record": record,
    "sparkplug": sparkplug,
    "packets": packets,
    "manifest": manifest,
    "onnx": onnx,
}

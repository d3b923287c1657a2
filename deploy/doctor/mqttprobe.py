"""A probe that connects to a broker with plain MQTT 3.1.1 and reads retained messages.

Every broker supports 3.1.1. The probe shares no code with the bridge's client, so that it can
distinguish a broken broker from a broken client. It does not disturb a running bridge, because it
has its own client id and a clean session, and publishes nothing.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ingest.mqtt.endpoint import Endpoint
from ingest.secrettext import error_text
from ingest.tls import TlsError, open_tls, tls_advice
from ingest.topics import topic_shape

__all__ = ["BrokerAnswer", "ProbeFailed", "probe_broker"]

_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _DISCONNECT = 0x10, 0x20, 0x30, 0x82, 0xE0
_MAX_BYTES = 1_000_000
_MOST_WATCHED = 20_000
_MOST_SHAPES = 50
_REFUSED = {
    1: "it does not support MQTT 3.1.1",
    2: "it refuses the client id",
    3: "it is not available",
    4: "user name or password is wrong",
    5: "not authorised",
}


class ProbeFailed(Exception):
    """No connection, no MQTT broker, or a refusal; the message says which."""


@dataclass(frozen=True, slots=True)
class BrokerAnswer:
    """Answer of a broker.

    Attributes:
        connect_ms: Milliseconds from the first packet to the broker's acceptance.
        retained: Topic to payload of the requested retained messages that exist.
        shapes: Messages of all topics by the shape of the topic (`ingest.topics.topic_shape`).
    """

    connect_ms: float
    retained: dict[str, str]
    shapes: Mapping[str, int] = field(default_factory=dict)


def probe_broker(
    endpoint: Endpoint,
    topics: Sequence[str] = (),
    *,
    timeout_s: float = 5.0,
    wait_s: float = 1.0,
    watch_s: float = 0.0,
) -> BrokerAnswer:
    """Connect, read retained messages, disconnect.

    Args:
        endpoint: Address and credentials; its client id and protocol are not used.
        topics: Topics without wildcards. Topics that the broker forbids are missing in the answer.
        timeout_s: Limit for connection and acceptance.
        wait_s: Limit for waiting for retained messages.
        watch_s: Time for which all topics are watched; 0: not at all.

    Raises:
        ProbeFailed: No connection, no MQTT broker, or a refusal.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        with _open(endpoint, timeout_s) as stream:
            began_s = time.perf_counter()
            with suppress(OSError):  # if already refused, the answer contains the reason
                stream.sendall(_connect_packet(endpoint))
            kind, body = _read_packet(stream)
            connect_ms = (time.perf_counter() - began_s) * 1000
            if kind != _CONNACK or len(body) < 2:
                msg = f"the program at {where} does not speak MQTT"
                raise ProbeFailed(msg)
            if body[1] != 0:
                reason = _REFUSED.get(body[1], f"code {body[1]}")
                msg = f"the broker at {where} refuses the connection: {reason}"
                raise ProbeFailed(msg)
            retained = _read_retained(stream, topics, wait_s) if topics else {}
            shapes = _watch(stream, watch_s) if watch_s else {}
            stream.sendall(bytes([_DISCONNECT, 0]))
    except TlsError as exc:
        raise ProbeFailed(str(exc)) from exc
    except (OSError, EOFError) as exc:
        advice = tls_advice(exc, where, endpoint.tls_files, shaking_hands=False)
        msg = advice or f"no MQTT broker at {where}: {error_text(exc)}"
        if isinstance(exc, (EOFError, ConnectionError)) and not endpoint.tls:
            msg += "; is it a port for TLS (KPSTREAM_INGEST_MQTT_TLS)?"
        raise ProbeFailed(msg) from exc
    return BrokerAnswer(connect_ms, retained, shapes)


def _open(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    if endpoint.tls:
        return open_tls(endpoint.host, endpoint.port, endpoint.tls_files, timeout_s=timeout_s)
    return socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)


def _connect_packet(endpoint: Endpoint) -> bytes:
    flags, payload = 0x02, _text(f"kpstream-doctor-{os.getpid()}")  # 0x02: clean session
    if endpoint.username is not None:
        flags |= 0x80
        payload += _text(endpoint.username)
        if endpoint.password is not None:
            flags |= 0x40
            payload += _text(endpoint.password)
    return _packet(_CONNECT, _text("MQTT") + bytes([4, flags]) + struct.pack("!H", 30) + payload)


def _read_retained(stream: socket.socket, topics: Sequence[str], wait_s: float) -> dict[str, str]:
    request = b"".join(_text(topic) + b"\x00" for topic in topics)
    stream.sendall(_packet(_SUBSCRIBE, struct.pack("!H", 1) + request))
    found: dict[str, str] = {}
    until_s = time.monotonic() + wait_s
    while set(topics) - set(found) and (left_s := until_s - time.monotonic()) > 0:
        stream.settimeout(left_s)
        try:
            kind, body = _read_packet(stream)
        except TimeoutError:
            break
        if kind & 0xF0 == _PUBLISH and len(body) >= 2:
            end = 2 + struct.unpack_from("!H", body)[0]
            found[body[2:end].decode(errors="replace")] = body[end:].decode(errors="replace")
    return found


def _watch(stream: socket.socket, watch_s: float) -> Counter[str]:
    """Count the messages of all topics for a while, at most so many; empty if it is forbidden."""
    stream.sendall(_packet(_SUBSCRIBE, struct.pack("!H", 2) + _text("#") + b"\x00"))
    found: Counter[str] = Counter()
    until_s = time.monotonic() + watch_s
    while found.total() < _MOST_WATCHED and (left_s := until_s - time.monotonic()) > 0:
        stream.settimeout(left_s)
        try:
            kind, body = _read_packet(stream)
        except (TimeoutError, EOFError):
            break
        if kind & 0xF0 == _PUBLISH and len(body) >= 2:
            end = 2 + struct.unpack_from("!H", body)[0]
            shape = topic_shape(body[2:end].decode(errors="replace"))
            found[shape if shape in found or len(found) < _MOST_SHAPES else "other"] += 1
    stream.settimeout(watch_s)
    return found


def _packet(kind: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(encoded) + body


def _read_packet(stream: socket.socket) -> tuple[int, bytes]:
    kind = _read_bytes(stream, 1)[0]
    length = 0
    for shift in (0, 7, 14, 21):
        digit = _read_bytes(stream, 1)[0]
        length |= (digit & 0x7F) << shift
        if digit < 0x80:
            break
    if length > _MAX_BYTES:
        msg = "the answer is not an MQTT packet"
        raise EOFError(msg)
    return kind, _read_bytes(stream, length)


def _read_bytes(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = stream.recv(count - len(data))
        if not chunk:
            msg = "the connection was closed without an answer"
            raise EOFError(msg)
        data += chunk
    return data


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data

"""Asks a broker whether it answers MQTT 5, on a connection of its own."""

from __future__ import annotations

import socket

from ingest.mqtt.endpoint import Endpoint
from ingest.patience import REACH_S
from ingest.tls import open_tls

__all__ = ["answers_version_5"]

_CONNACK = 0x20
_REFUSALS = (0x01, 0x84)  # of the version, in the form of MQTT 3.1.1 and 5


def answers_version_5(endpoint: Endpoint, *, timeout_s: float = REACH_S) -> bool | None:
    """Return whether the broker answers a CONNECT of MQTT 5; blocks for seconds.

    The probe has a client id of its own and no session, so it disturbs nobody.

    Args:
        endpoint: Address and credentials.
        timeout_s: Limit for every step.

    Returns:
        False: it ended the connection without an answer, or refused the version. None: not known,
        because it could not be reached or stayed silent.
    """
    try:
        with _open(endpoint, timeout_s) as sock:
            sock.settimeout(timeout_s)
            sock.sendall(_connect_packet(endpoint))
            try:
                answer = sock.recv(4)
            except ConnectionError:
                return False
    except OSError:
        return None
    if answer[:1] != bytes([_CONNACK]):
        return False
    return not (len(answer) == 4 and answer[1] < 0x80 and answer[3] in _REFUSALS)


def _open(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    if endpoint.tls:
        return open_tls(endpoint.host, endpoint.port, endpoint.tls_files, timeout_s=timeout_s)
    return socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)


def _connect_packet(endpoint: Endpoint) -> bytes:
    flags, payload = 0x02, _text(f"{endpoint.client_id}-version")  # 0x02: clean start
    if endpoint.username is not None:
        flags |= 0x80
        payload += _text(endpoint.username)
        if endpoint.password is not None:
            flags |= 0x40
            payload += _text(endpoint.password)
    body = _text("MQTT") + bytes([5, flags, 0, 30, 0]) + payload
    length, encoded = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        encoded.append(digit | 0x80 if length else digit)
        if not length:
            return b"\x10" + bytes(encoded) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data

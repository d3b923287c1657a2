#!/usr/bin/env bash
#
# amqtt: a CONNECT of MQTT 5 with properties gets no answer
#
# Expected: a broker that does not speak MQTT 5 answers such a CONNECT with a CONNACK that refuses the
# protocol version, or closes the connection (MQTT 3.1.1, 3.1.2.2), so that the client can try 3.1.1.
#
# What happens: amqtt refuses the version only if the CONNECT has no properties. With properties, which
# most clients of MQTT 5 send (a session expiry interval, a Receive Maximum), it neither answers nor
# closes the connection.
#
# Why it matters: to the client the broker looks slow, not old. One that waits for a minute before it
# tries 3.1.1 connects a minute late, and one that never takes silence for a refusal never connects.
# Set the version to 3.1.1 for amqtt.
#
# Source: own measurement on loopback.
#
# Output seen:
#   amqtt 0.12.1
#   MQTT 3.1.1: CONNACK 20 02 00 00 (accepted)
#   MQTT 5 without properties: CONNACK 20 02 00 01 (unacceptable protocol version)
#   MQTT 5 with a session expiry interval: no answer within 8 s, the connection stays open
#   MQTT 5 with a Receive Maximum: no answer within 8 s, the connection stays open

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check amqtt==0.12.1; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import asyncio
import logging
import socket
import struct
import sys
from importlib.metadata import version

from amqtt.broker import Broker

logging.disable(logging.CRITICAL)
WAIT_S = 8
MEANINGS = {b"\x20\x02\x00\x00": "accepted", b"\x20\x02\x00\x01": "unacceptable protocol version"}
CONNECTS = {
    "MQTT 3.1.1": (4, b""),
    "MQTT 5 without properties": (5, b"\x00"),
    "MQTT 5 with a session expiry interval": (5, b"\x05\x11\x00\x00\x0e\x10"),
    "MQTT 5 with a Receive Maximum": (5, b"\x03\x21\x00\x14"),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def text(value):
    return struct.pack("!H", len(value)) + value


def connect_packet(level, properties):
    body = text(b"MQTT") + bytes([level, 2]) + b"\x00\x3c" + properties + text(b"client")
    return bytes([0x10, len(body)]) + body


def answer(port, packet):
    """Return the broker's answer; None if there is none, empty if it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.settimeout(WAIT_S)
        stream.sendall(packet)
        try:
            return stream.recv(64)
        except TimeoutError:
            return None


async def main():
    port = free_port()
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    print(f"amqtt {version('amqtt')}")
    found = {}
    for name, (level, properties) in CONNECTS.items():
        said = await asyncio.to_thread(answer, port, connect_packet(level, properties))
        found[name] = said
        if said is None:
            print(f"{name}: no answer within {WAIT_S} s, the connection stays open")
        elif not said:
            print(f"{name}: the connection is closed")
        else:
            print(f"{name}: CONNACK {said.hex(' ')} ({MEANINGS.get(said, 'other')})")
    await broker.shutdown()
    return found


found = asyncio.run(main())
if found["MQTT 3.1.1"] != b"\x20\x02\x00\x00":
    sys.exit("a CONNECT of MQTT 3.1.1 is not accepted: the check itself is wrong")
if any(said is not None for name, said in found.items() if "with a" in name):
    sys.exit("CHANGED: a CONNECT of MQTT 5 with properties is answered, or the connection closed")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

"""A cheap load generator: raw MQTT 3.1.1 packets, QoS 1, bounded in flight.

Run as its own process (`python -m tests.bench.load`), pinned to another core than the measured
process.
Prints one JSON line: messages sent and confirmed, seconds, CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterator

CHANNELS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]


def main() -> None:
    args = _arguments()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    connection = connect(args.host, args.port)
    templates = [
        _noisy(device, args.readings) if args.noisy else [_template(device, args.readings)]
        for device in range(args.devices)
    ]
    started = time.perf_counter()
    sent, confirmed = _blast(connection, templates, args)
    print(
        json.dumps(
            {
                "sent": sent,
                "confirmed": confirmed,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time(),
            }
        )
    )


def _blast(
    connection: socket.socket, templates: list[list[tuple[bytes, bytes]]], args: argparse.Namespace
) -> tuple[int, int]:
    """Send `messages` at `rate` per second (0: as fast as the broker confirms)."""
    sent = confirmed = 0
    base_ms = time.time_ns() // 1_000_000 - args.past_s * 1000
    started = time.perf_counter()
    acks = b""
    while confirmed < args.messages:
        due = args.messages
        if args.rate:
            due = min(due, int((time.perf_counter() - started) * args.rate) + 1)
        chunk = []
        while sent < due and sent - confirmed < args.in_flight and len(chunk) < 64:
            round_, device = divmod(sent, args.devices)
            if args.live:
                ts_ms = time.time_ns() // 1_000_000 - (args.readings - 1) * args.dt_ms
            else:
                ts_ms = base_ms + round_ * args.readings * args.dt_ms
            template = templates[device][round_ % len(templates[device])]
            chunk.append(_publish(template, ts_ms, args.dt_ms, sent % 65_000 + 1))
            sent += 1
        if chunk:
            connection.sendall(b"".join(chunk))
        if args.rate:
            time.sleep(0.004)  # this process shares its core with others
        readable, _, _ = select.select([connection], [], [], 0 if chunk else 0.0005)
        if readable:
            acks += connection.recv(65536)
            confirmed_now = len(acks) // 4
            acks = acks[confirmed_now * 4 :]
            confirmed += confirmed_now
    return sent, confirmed


def _publish(template: tuple[bytes, bytes], ts_ms: int, dt_ms: int, packet_id: int) -> bytes:
    topic, values = template
    payload = b'{"t0":%d,"dt_ms":%d,"values":%s}' % (ts_ms, dt_ms, values)
    body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", packet_id) + payload
    return b"\x32" + bytes(length_field(len(body))) + body


def length_field(size: int) -> Iterator[int]:
    while True:
        size, digit = divmod(size, 128)
        yield digit | (0x80 if size else 0)
        if not size:
            return


def _template(device: int, readings: int) -> tuple[bytes, bytes]:
    columns = {
        name: [round(0.1 * ((device + i * j) % 17) - 0.8, 6) for i in range(readings)]
        for j, name in enumerate(CHANNELS)
    }
    topic = f"sensors/bench/device-{device:04d}/imu".encode()
    return topic, json.dumps(columns, separators=(",", ":")).encode()


def _noisy(device: int, readings: int) -> list[tuple[bytes, bytes]]:
    """Messages with four decimals of noise, as long and as hard to compress as those of a
    sensor."""
    chance = random.Random(device)
    topic, _ = _template(device, 1)
    bodies = [
        {name: [round(chance.gauss(0, 0.5), 4) for _ in range(readings)] for name in CHANNELS}
        for _ in range(min(400, max(8, 400 // readings)))
    ]
    return [(topic, json.dumps(body, separators=(",", ":")).encode()) for body in bodies]


def connect(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client_id = f"load-{os.getpid()}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(client_id)) + client_id
    connection.sendall(b"\x10" + bytes(length_field(len(body))) + body)
    answer = connection.recv(4)
    if answer[:2] != b"\x20\x02" or answer[3] != 0:
        raise SystemExit(f"broker refused: {answer!r}")
    return connection


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--readings", type=int, default=10)
    parser.add_argument("--dt-ms", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0, help="messages/s; 0: unbounded")
    parser.add_argument("--in-flight", type=int, default=2000)
    parser.add_argument("--past-s", type=int, default=3600)
    parser.add_argument("--live", action="store_true", help="last reading's event time is now")
    parser.add_argument("--noisy", action="store_true", help="no two messages alike, four decimals")
    parser.add_argument("--core", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()

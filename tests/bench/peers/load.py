"""Publish a workload over raw MQTT 3.1.1, QoS 1, bounded in flight.

`python -m tests.bench.peers.load` is a process of its own. It prints `ready` when it is connected,
waits for a line on standard input, publishes, and prints one JSON line once the broker has
confirmed everything.
"""

from __future__ import annotations

import argparse
import json
import select
import struct
import sys
import time

from tests.bench.load import connect, length_field
from tests.bench.peers.workloads import PREFIX, WORKLOADS, Workload, device_name


def main() -> None:
    args = _arguments()
    workload = WORKLOADS[args.workload]
    publisher = _Publisher(workload, args)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    publisher.run()
    print(json.dumps({"sent": args.messages, "seconds": time.perf_counter() - started}))


class _Publisher:
    """Sends round after round: one message of every device."""

    def __init__(self, workload: Workload, args: argparse.Namespace) -> None:
        self._workload = workload
        self._args = args
        self._bodies = [workload.values(device) for device in range(min(args.devices, 100))]
        names = [
            f"{args.prefix}/{device_name(n)}/{workload.stream}".encode()
            for n in range(args.devices)
        ]
        self._topics = [struct.pack("!H", len(name)) + name for name in names]
        self._connection = connect("127.0.0.1", args.port)

    def run(self) -> None:
        args, connection = self._args, self._connection
        sent = confirmed = 0
        rest = b""
        started = time.perf_counter()
        while confirmed < args.messages:
            due = args.messages
            if args.rate:
                due = min(due, int((time.perf_counter() - started) * args.rate) + 1)
            end = min(due, confirmed + args.in_flight, sent + 64)
            packets = [self._packet(number) for number in range(sent, end)]
            if packets:
                connection.sendall(b"".join(packets))
                sent = end
            if args.rate:
                time.sleep(0.004)  # a measured process may share this core
            if select.select([connection], [], [], 0 if packets else 0.0005)[0]:
                rest += connection.recv(65536)
                whole = len(rest) // 4
                rest, confirmed = rest[whole * 4 :], confirmed + whole

    def _packet(self, number: int) -> bytes:
        args, workload = self._args, self._workload
        round_, device = divmod(number, args.devices)
        span_ms = workload.per_message * workload.step_ms
        if args.live:
            ts_ms = time.time_ns() // 1_000_000 - span_ms + workload.step_ms
        else:
            ts_ms = args.base_ms + round_ * span_ms
        bodies = self._bodies[device % len(self._bodies)]
        body = workload.body(ts_ms, bodies[(args.first + round_) % len(bodies)])
        rest = self._topics[device] + struct.pack("!H", number % 65_000 + 1) + body
        return b"\x32" + bytes(length_field(len(rest))) + rest


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="messages sent by each device before")
    parser.add_argument("--rate", type=float, default=0, help="messages/s; 0: unbounded")
    parser.add_argument("--live", action="store_true", help="the last reading is of now")
    parser.add_argument("--base-ms", type=int, default=0, help="event time of the first reading")
    parser.add_argument("--in-flight", type=int, default=2000)
    parser.add_argument("--prefix", default=PREFIX)
    return parser.parse_args()


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
#
# NATS server: the 64th QoS 1 subscription of an MQTT session is refused with 0x80, and no log says why
#
# Expected: a larger mqtt.max_ack_pending, the limit of messages that wait for a PUBACK, lets a client
# have more messages on their way. A subscription that is refused leaves its reason in the log.
#
# What happens: the setting (default: 1024) counts for each subscription, and the sum over a session may
# be 65535 at most, because packet ids have 16 bits. So a session can have 63 subscriptions at QoS 1,
# two with max_ack_pending 30000, and only one with 65535. The next SUBACK says 0x80, which is also the
# answer to a forbidden topic, and the log has no warning.
#
# Why it matters: whoever raises max_ack_pending so that a fast reader is not slowed down takes the
# second subscription away from it, and looks for the cause in the access list. Use few filters with
# wildcards for each client, or leave the setting alone.
#
# Source: the comment on MaxAckPending in server/opts.go; the numbers are our own measurement.
#
# Output seen:
#   nats-server: v2.15.3
#   max_ack_pending default (1024): 63 subscriptions granted, then SUBACK 0x80; warnings in the log: 0
#   max_ack_pending 30000: 2 subscriptions granted, then SUBACK 0x80; warnings in the log: 0
#   max_ack_pending 65535: 1 subscriptions granted, then SUBACK 0x80; warnings in the log: 0

set -euo pipefail

server="${NATS_SERVER:-$(command -v nats-server || true)}"
if [ -z "$server" ] || ! command -v python3 >/dev/null; then
    echo "no verdict: python3 or nats-server is missing; set NATS_SERVER to its path" \
        "(GOBIN=DIR go install github.com/nats-io/nats-server/v2@v2.15.3)" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

cat >"$work/check.py" <<'PYTHON'
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

MOST = 80


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def text(value):
    return struct.pack("!H", len(value)) + value


def packet(kind, body):
    return bytes([kind, len(body)]) + body


def connected(port):
    """Return a socket of a persistent MQTT 3.1.1 session, once the server runs."""
    for _ in range(300):
        try:
            stream = socket.create_connection(("127.0.0.1", port), 5)
            break
        except OSError:
            time.sleep(0.1)
    stream.settimeout(20)
    stream.sendall(packet(0x10, text(b"MQTT") + bytes([4, 0]) + b"\x00\x3c" + text(b"reader")))
    assert stream.recv(4) == b"\x20\x02\x00\x00", "the server does not accept the client"
    return stream


def granted(program, folder, pending):
    """Subscribe at QoS 1 until a subscription is refused; return how many were granted."""
    port = free_port()
    setting = "" if pending is None else f", max_ack_pending: {pending}"
    config = folder / "nats.conf"
    config.write_text(
        f'server_name: check\nlisten: "127.0.0.1:{free_port()}"\n'
        f'jetstream {{store_dir: "{folder}"}}\nmqtt {{listen: "127.0.0.1:{port}"{setting}}}\n'
    )
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([program, "-c", str(config)], stdout=output, stderr=output)
    try:
        with connected(port) as stream:
            codes = []
            while len(codes) < MOST and 0x80 not in codes:
                body = struct.pack("!H", len(codes) + 1) + text(b"readings/%d" % len(codes))
                stream.sendall(packet(0x82, body + b"\x01"))
                codes.append(stream.recv(5)[-1])
    finally:
        server.kill()
        server.wait()
    count, is_refused = codes.count(1), codes[-1] == 0x80
    lines = log.read_text().splitlines()
    warnings = sum("[WRN]" in line or "[ERR]" in line for line in lines)
    name = "default (1024)" if pending is None else str(pending)
    end = "then SUBACK 0x80" if is_refused else "none refused"
    print(f"max_ack_pending {name}: {count} subscriptions granted, {end}; warnings in the log: {warnings}")
    return count, is_refused, warnings


program, work = sys.argv[1], Path(sys.argv[2])
print(subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip())
found = []
for number, pending in enumerate((None, 30000, 65535)):
    folder = work / str(number)
    folder.mkdir()
    found.append(granted(program, folder, pending))
if found != [(63, True, 0), (2, True, 0), (1, True, 0)]:
    sys.exit("CHANGED: other numbers of subscriptions, or the log says why one is refused")
PYTHON

code=0
timeout 60 python3 "$work/check.py" "$server" "$work" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

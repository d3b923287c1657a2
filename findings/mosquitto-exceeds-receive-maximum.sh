#!/usr/bin/env bash
#
# mosquitto: after the first PUBACK it sends more than the Receive Maximum of the subscriber allows
#
# Expected: in MQTT 5 a client says with Receive Maximum how many QoS 1 messages it will have
# unacknowledged at a time, and the server must not send more (MQTT 5.0, 3.1.2.11.3 and 3.3.4-9).
# max_inflight_messages of the broker's configuration limits the same number for every client, also in
# MQTT 3.1.1.
#
# What happens: mosquitto 2.0.11 keeps to the limit until the first acknowledgement. Then every PUBACK
# lets it send as many further messages as the limit allows in all, while the others are still
# unacknowledged. With a limit of 10 and 400 messages waiting, one acknowledgement at a time leaves 19
# messages unacknowledged, then 28, then 37, and so on; five acknowledgements at a time soon leave all.
#
# Why it matters: Receive Maximum is the back-pressure of MQTT 5. A subscriber that counts on it for
# bounded memory, or that takes the limit for the size of a batch, gets the whole queue of the broker.
# Bound what is held in another way too (stop reading from the socket), and do not take the number of
# messages that have come for the limit.
#
# Source: own measurement on loopback.
#
# Output seen:
#   mosquitto version 2.0.11, paho-mqtt 2.2.0
#   MQTT 5, Receive Maximum 10: first 10; after 1, 2, ... acknowledgements 19, 28, 37, 46, 55 unacknowledged
#   MQTT 5, max_inflight_messages 20: first 20; after 1, 2, ... acknowledgements 39, 58, 77, 96, 115 unacknowledged
#   MQTT 3.1.1, max_inflight_messages 20: first 20; after 1, 2, ... acknowledgements 39, 58, 77, 96, 115 unacknowledged

set -euo pipefail

PATH="$PATH:/usr/sbin"  # where some systems keep mosquitto
for program in python3 mosquitto; do
    if ! command -v "$program" >/dev/null; then
        echo "no verdict: the program $program is missing" >&2
        exit 2
    fi
done

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    paho-mqtt==2.2.0; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import getpass
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAITING, ACKS, QUIET_S = 400, 5, 0.5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, port):
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
        "max_inflight_messages 20\n"
    )
    broker = subprocess.Popen(
        ["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return broker
        except OSError:
            time.sleep(0.05)
    raise SystemExit("mosquitto does not listen")


def client(name, protocol, **options):
    return paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **options
    )


def measure(port, title, protocol, receive_maximum):
    """Messages that came first, and how many are unacknowledged after each acknowledgement."""
    topic, got, subscribed = title.replace(" ", "-").replace(",", ""), [], threading.Event()
    subscriber = client(f"subscriber of {title}", protocol, manual_ack=True)
    subscriber.on_message = lambda _client, _data, message: got.append(message.mid)
    subscriber.on_subscribe = lambda *_: subscribed.set()
    properties = None
    if receive_maximum is not None:
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = receive_maximum
    subscriber.connect("127.0.0.1", port, properties=properties)
    subscriber.subscribe(topic, 1)
    subscriber.loop_start()
    if not subscribed.wait(10):
        raise SystemExit("no SUBACK")
    publisher = client(f"publisher of {title}", protocol)
    publisher.connect("127.0.0.1", port)
    publisher.loop_start()
    for sent in [publisher.publish(topic, b"x", 1) for _ in range(WAITING)]:
        sent.wait_for_publish(30)
    time.sleep(QUIET_S)
    first, unacknowledged = len(got), []
    for acknowledged in range(1, ACKS + 1):
        subscriber.ack(got[acknowledged - 1], 1)
        time.sleep(QUIET_S)
        unacknowledged.append(len(got) - acknowledged)
    for each in (subscriber, publisher):
        each.disconnect()
        each.loop_stop()
    print(
        f"{title}: first {first}; after 1, 2, ... acknowledgements "
        f"{', '.join(map(str, unacknowledged))} unacknowledged"
    )
    return first, unacknowledged


folder = Path(sys.argv[1])
port = free_port()
broker = start(folder, port)
head = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True).stdout.splitlines()[0]
print(f"{head}, paho-mqtt {version('paho-mqtt')}")
try:
    seen = [
        measure(port, "MQTT 5, Receive Maximum 10", paho.MQTTv5, 10),
        measure(port, "MQTT 5, max_inflight_messages 20", paho.MQTTv5, None),
        measure(port, "MQTT 3.1.1, max_inflight_messages 20", paho.MQTTv311, None),
    ]
finally:
    broker.terminate()
    broker.wait()

usual = [
    (limit, [limit + (limit - 1) * acks for acks in range(1, ACKS + 1)]) for limit in (10, 20, 20)
]
if seen != usual:
    print(f"CHANGED: expected {usual}, saw {seen}")
    sys.exit(1)
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" "$work" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

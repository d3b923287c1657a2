#!/usr/bin/env bash
#
# mosquitto: with default settings it drops QoS 1 messages that it has confirmed to the publisher
#
# Expected: a PUBACK with reason code 0 (success) means that the broker has taken over the message
# for every subscription of a persistent session. If it can't keep more, it says so: MQTT 5 has
# reason code 0x97, "quota exceeded", for a publication that the broker refuses.
#
# What happens: the broker keeps max_queued_messages (1000 by default) messages for a session that is
# away, drops the rest, and confirms all of them with reason code 0. The publisher can't tell the kept
# messages from the dropped ones. A slow subscriber that is connected loses messages the same way.
#
# Why it matters: "the device has its PUBACK" is the usual proof that nothing is lost. With this
# default a restart of the reader that takes a minute loses data at 20 messages per second. Set
# max_queued_messages 0 (or a byte limit with an alarm), and watch
# $SYS/broker/publish/messages/dropped.
#
# Source: own measurement on loopback.
#
# Output seen:
#   mosquitto version 2.0.11, paho-mqtt 2.2.0
#   published with QoS 1: 3000
#   confirmed with reason code 0: 3000
#   session present when the reader came back: True
#   delivered to the reader: 1000

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

COUNT = 3000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, port):
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
        f"persistence true\npersistence_location {folder}/\n"
    )
    broker = subprocess.Popen(
        ["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    return broker


def stop(broker):
    broker.terminate()
    broker.wait(10)


def connect(port, client_id, *, clean_start, topics=()):
    """An MQTT 5 client whose session outlives its connection by an hour."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5
    )
    client.messages, client.codes, client.session_present = [], [], None
    client.on_message = lambda _c, _u, message: client.messages.append(message.payload)
    client.on_publish = lambda _c, _u, _mid, code, _p: client.codes.append(code.value)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    connected = threading.Event()

    def on_connect(_client, _userdata, flags, _code, _properties):
        client.session_present = flags.session_present
        connected.set()

    client.on_connect = on_connect
    wanted = Properties(PacketTypes.CONNECT)
    wanted.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", port, clean_start=clean_start, properties=wanted)
    client.loop_start()
    connected.wait(10)
    if topics:
        client.subscribe([(topic, 1) for topic in topics])
        subscribed.wait(10)
    return client


def disconnect(client):
    client.disconnect()
    client.loop_stop()


def program_version():
    text = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True).stdout
    return text.splitlines()[0]


folder, port = Path(__file__).parent, free_port()
broker = start(folder, port)
try:
    disconnect(connect(port, "reader", clean_start=False, topics=["readings"]))
    device = connect(port, "device", clean_start=True)
    sent = [device.publish("readings", str(number), 1) for number in range(COUNT)]
    for info in sent:
        info.wait_for_publish(60)
    time.sleep(0.5)
    successes = device.codes.count(0)
    disconnect(device)

    reader = connect(port, "reader", clean_start=False)
    before = -1
    while len(reader.messages) != before:
        before = len(reader.messages)
        time.sleep(1)
    disconnect(reader)
finally:
    broker.kill()

print(program_version(), f"paho-mqtt {version('paho-mqtt')}", sep=", ")
print(f"published with QoS 1: {COUNT}")
print(f"confirmed with reason code 0: {successes}")
print(f"session present when the reader came back: {reader.session_present}")
print(f"delivered to the reader: {len(reader.messages)}")
if not (successes == COUNT and reader.session_present and len(reader.messages) < COUNT):
    sys.exit("CHANGED: the broker kept every confirmed message, or refused some")
PYTHON

code=0
timeout 90 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

#!/usr/bin/env bash
#
# mosquitto: a restart keeps a persistent session but forgets its shared subscriptions
#
# Expected: a session that survives a restart of the broker (persistence true, CONNACK with "session
# present") has all its subscriptions. MQTT 5 makes no difference between "readings/#" and
# "$share/group/readings/#" here, so a client that sees "session present" need not subscribe again.
#
# What happens: mosquitto 2.0.11 restores the session and its plain subscriptions and tells the client
# that its session is present, but the shared subscriptions are gone. Until some member of the group
# subscribes again, the broker confirms what devices publish with reason code 0x10, "no matching
# subscribers", and drops it. Reason code 0x10 counts as a success; MQTT 3.1.1 has no reason code at
# all. A client with both kinds of subscription keeps one half of them.
#
# Why it matters: shared subscriptions are the way to run several bridges side by side. After a power
# cut everything starts at the same time, and what devices send between the start of the broker and
# the first SUBSCRIBE is lost although it was confirmed. Subscribe after every CONNACK, whatever
# "session present" says, and let devices treat 0x10 as a refusal.
#
# Source: own measurement on loopback.
#
# Output seen:
#   mosquitto version 2.0.11, paho-mqtt 2.2.0
#   before the restart, the bridge is away:
#     plain subscription: reason codes of the PUBACKs ['0x00']
#     shared subscription: reason codes of the PUBACKs ['0x00']
#     session present: True, messages delivered: 10 of 10
#   after the restart, the bridge is away:
#     plain subscription: reason codes of the PUBACKs ['0x00']
#     shared subscription: reason codes of the PUBACKs ['0x10']
#     session present: True, messages delivered: 5 of 10

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

PLAIN, SHARED = "plain/#", "$share/bridges/shared/#"


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


def publish(port, topic):
    device = connect(port, f"device-{topic[:5]}", clean_start=True)
    for number in range(5):
        device.publish(topic, str(number), 1).wait_for_publish(10)
    time.sleep(0.5)
    disconnect(device)
    return sorted(set(device.codes))


def read(port):
    reader = connect(port, "bridge", clean_start=False)
    time.sleep(1)
    disconnect(reader)
    return reader


def round_trip(port):
    codes = {topic: publish(port, f"{topic}/1") for topic in ("plain", "shared")}
    reader = read(port)
    for topic in ("plain", "shared"):
        kind = f"  {topic} subscription:"
        count = sum(message.isdigit() for message in reader.messages)
        print(kind, "reason codes of the PUBACKs", [f"0x{code:02x}" for code in codes[topic]])
    print(f"  session present: {reader.session_present}, messages delivered: {count} of 10")
    return codes, reader.session_present, count


folder, port = Path(__file__).parent, free_port()
print(program_version(), f"paho-mqtt {version('paho-mqtt')}", sep=", ")
broker = start(folder, port)
try:
    disconnect(connect(port, "bridge", clean_start=False, topics=[PLAIN, SHARED]))
    print("before the restart, the bridge is away:")
    codes, present, count = round_trip(port)
    if (codes, present, count) != ({"plain": [0], "shared": [0]}, True, 10):
        sys.exit("CHANGED: not every message reaches the session even before the restart")
    stop(broker)
    broker = start(folder, port)
    print("after the restart, the bridge is away:")
    codes, present, count = round_trip(port)
finally:
    broker.kill()
if not (codes == {"plain": [0], "shared": [0x10]} and present and count == 5):
    sys.exit("CHANGED: the shared subscription is there after the restart")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

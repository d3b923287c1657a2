#!/usr/bin/env bash
#
# mosquitto: a session begun with Clean Start does not survive a restart, whatever its expiry
#
# Expected: in MQTT 5, Clean Start only says whether an older session is thrown away first; how long
# the new one lives is up to the Session Expiry Interval. A session with an expiry of an hour is
# therefore persistent, and a broker with persistence true restores it after a restart, whether or not
# its first CONNECT had Clean Start set.
#
# What happens: while mosquitto 2.0.11 runs, both kinds of session behave alike. It restores only the
# one whose first CONNECT had Clean Start = 0, as for the clean session flag of MQTT 3.1.1. After a
# restart the other session is gone: "session present" is False, and what arrived for it meanwhile has
# been dropped, although the publisher has its PUBACK.
#
# Why it matters: paho-mqtt sets Clean Start on the first connect of a process unless told otherwise
# (MQTT_CLEAN_START_FIRST_ONLY is its default), so an application that only sets SessionExpiryInterval
# looks persistent in every test that does not restart the broker. Connect with clean_start=False.
#
# Source: own measurement on loopback.
#
# Output seen:
#   mosquitto version 2.0.11, paho-mqtt 2.2.0
#   first CONNECT with Clean Start = 0, broker restarted: False; PUBACK codes [0], session present True, delivered 5 of 5
#   first CONNECT with Clean Start = 0, broker restarted: True; PUBACK codes [0], session present True, delivered 5 of 5
#   first CONNECT with Clean Start = 1, broker restarted: False; PUBACK codes [0], session present True, delivered 5 of 5
#   first CONNECT with Clean Start = 1, broker restarted: True; PUBACK codes [0], session present False, delivered 0 of 5

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


def check(clean_start, restart):
    """Whether a session of a client that is away is there again, and what it has received."""
    name = f"clean-{clean_start}-restart-{restart}"
    folder, port = Path(__file__).parent / name, free_port()
    folder.mkdir()
    broker = start(folder, port)
    try:
        disconnect(connect(port, "bridge", clean_start=clean_start, topics=["readings"]))
        device = connect(port, "device", clean_start=True)
        for number in range(5):
            device.publish("readings", str(number), 1).wait_for_publish(10)
        time.sleep(0.3)
        disconnect(device)
        if restart:
            stop(broker)
            broker = start(folder, port)
        reader = connect(port, "bridge", clean_start=False)
        time.sleep(0.7)
        disconnect(reader)
    finally:
        broker.kill()
    print(
        f"first CONNECT with Clean Start = {clean_start:d}, broker restarted: {restart}; "
        f"PUBACK codes {sorted(set(device.codes))}, session present {reader.session_present}, "
        f"delivered {len(reader.messages)} of 5"
    )
    return reader.session_present, len(reader.messages)


print(program_version(), f"paho-mqtt {version('paho-mqtt')}", sep=", ")
seen = [check(clean, restart) for clean in (False, True) for restart in (False, True)]
if seen != [(True, 5), (True, 5), (True, 5), (False, 0)]:
    sys.exit("CHANGED: both kinds of session behave alike after a restart, or neither is kept")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

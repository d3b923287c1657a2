#!/usr/bin/env bash
#
# amqtt: a reader that comes back does not get its unacknowledged QoS 1 messages again
#
# Expected: MQTT 3.1.1 asks both sides to send unacknowledged QoS 1 messages again when a client
# reconnects with clean_session=False. A reader that acknowledges a message only when it has stored it
# therefore loses nothing by a disconnect.
#
# What happens: the embedded broker amqtt delivers messages to a reader that holds its PUBACKs back and
# then disconnects. When the reader connects again with the same client id and clean_session=False, it
# gets none of them. The publisher has a PUBACK for each. Where mosquitto is installed, the script
# runs the same exchange against it, and there every message comes again with the DUP flag.
#
# Why it matters: amqtt is a handy broker for tests of a bridge that acknowledges late. Such a test can't
# show that redelivery works, and a gateway with amqtt loses what was under way at every reconnect.
# Test promises of delivery with another broker.
#
# Source: own measurement on loopback.
#
# Output seen:
#   amqtt 0.12.1, paho-mqtt 2.2.0
#   amqtt: published and confirmed 10, delivered 10, acknowledged 0; after the reconnect 0 came again, 0 with DUP
#   mosquitto: published and confirmed 10, delivered 10, acknowledged 0; after the reconnect 10 came again, 10 with DUP

set -euo pipefail

PATH="$PATH:/usr/sbin"  # where some systems keep mosquitto
if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    amqtt==0.12.1 \
    paho-mqtt==2.2.0; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import asyncio
import getpass
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import paho.mqtt.client as paho
from amqtt.broker import Broker

logging.disable(logging.CRITICAL)
COUNT = 10


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reader(port, *, acknowledge):
    """A persistent reader that acknowledges by hand, or not at all."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "bridge", clean_session=False, manual_ack=True
    )
    client.messages, subscribed = [], threading.Event()

    def on_message(_client, _userdata, message):
        client.messages.append((message.payload, message.dup))
        if acknowledge:
            client.ack(message.mid, message.qos)

    client.on_connect = lambda *_: client.subscribe("readings", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    subscribed.wait(10)
    return client


def exchange(name, port):
    first = reader(port, acknowledge=False)
    device = paho.Client(paho.CallbackAPIVersion.VERSION2, "device")
    device.connect("127.0.0.1", port)
    device.loop_start()
    confirmed = 0
    for number in range(COUNT):
        info = device.publish("readings", str(number), 1)
        info.wait_for_publish(10)
        confirmed += info.is_published()
    time.sleep(1)
    first.disconnect()
    first.loop_stop()
    time.sleep(0.5)
    second = reader(port, acknowledge=True)
    time.sleep(2)
    again = {payload for payload, _ in second.messages}
    flagged = sum(dup for _, dup in second.messages)
    print(
        f"{name}: published and confirmed {confirmed}, delivered {len(first.messages)}, "
        f"acknowledged 0; after the reconnect {len(again)} came again, {flagged} with DUP"
    )
    for client in (second, device):
        client.disconnect()
        client.loop_stop()
    return len(first.messages), len(again)


async def with_amqtt():
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
    try:
        return await asyncio.to_thread(exchange, "amqtt", port)
    finally:
        await broker.shutdown()


def with_mosquitto():
    port = free_port()
    config = Path(__file__).parent / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
    )
    broker = subprocess.Popen(
        ["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(1)
        exchange("mosquitto", port)
    finally:
        broker.terminate()
        broker.wait(10)


print(f"amqtt {version('amqtt')}, paho-mqtt {version('paho-mqtt')}")
seen = asyncio.run(with_amqtt())
if shutil.which("mosquitto"):
    with_mosquitto()
if seen != (COUNT, 0):
    sys.exit("CHANGED: unacknowledged messages came again")
PYTHON

code=0
timeout 90 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

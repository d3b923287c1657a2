#!/usr/bin/env bash
#
# paho-mqtt: an exception in a callback ends the network thread; is_connected() stays True
#
# Expected: after an exception in on_message, the client either goes on with the next message, or
# reports that the connection is gone: is_connected() returns False, on_disconnect runs, and the
# automatic reconnect starts.
#
# What happens: the exception ends the thread that loop_start() made. Python prints a traceback, and
# that is all. on_disconnect does not run, nothing reconnects, and is_connected() stays True, even
# after the broker has thrown the client out because it sends no more keepalive packets. publish()
# goes on taking messages with return code 0; none of them leaves the process.
#
# Why it matters: a bridge that reports its health by is_connected() looks healthy for ever while it
# receives nothing. One bad message is enough. Guard the body of every callback, and derive health
# from the time of the last packet, not from is_connected().
#
# Source: own measurement; broker: mosquitto on loopback.
#
# Output seen:
#   network thread ended by: ValueError('one bad message')
#   paho-mqtt 2.2.0
#   messages published: 6
#   messages received: 3
#   network thread alive: False
#   on_disconnect called: 0
#   broker ended the connection for lack of keepalive: True
#   is_connected(): True
#   publish() return code, broker stopped: 0

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

threading.excepthook = lambda args: print(f"network thread ended by: {args.exc_value!r}")
folder = Path(__file__).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


port = free_port()
config = folder / "mosquitto.conf"
config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n")
broker = subprocess.Popen(
    ["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
)
messages, disconnects = [], []


def on_message(client, userdata, message):
    messages.append(message.payload)
    if message.payload == b"2":
        raise ValueError("one bad message")


def connect(**callbacks):
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    ready = threading.Event()
    client.on_connect = lambda *_: client.subscribe("readings", 1)
    client.on_subscribe = lambda *_: ready.set()
    for name, callback in callbacks.items():
        setattr(client, name, callback)
    for _ in range(100):
        try:
            client.connect("127.0.0.1", port, keepalive=2)
            break
        except OSError:
            time.sleep(0.05)
    before = set(threading.enumerate())
    client.loop_start()
    ready.wait(10)
    return client, (set(threading.enumerate()) - before).pop()


try:
    line = connect(on_message=on_message, on_disconnect=lambda *_: disconnects.append(1))
    device, _ = connect()
    bridge, thread = line
    for number in range(6):
        device.publish("readings", str(number), 1).wait_for_publish(10)
    time.sleep(6)  # three times the keepalive: the broker has ended the connection by now
    broker.terminate()
    log = broker.communicate(timeout=10)[1]
    time.sleep(0.5)
    state = {
        "messages published": 6,
        "messages received": len(messages),
        "network thread alive": thread.is_alive(),
        "on_disconnect called": len(disconnects),
        "broker ended the connection for lack of keepalive": "exceeded timeout" in log,
        "is_connected()": bridge.is_connected(),
        "publish() return code, broker stopped": bridge.publish("out", "x", 1).rc,
    }
finally:
    broker.kill()

print(f"paho-mqtt {version('paho-mqtt')}")
for name, value in state.items():
    print(f"{name}: {value}")
as_described = (
    state["messages received"] == 3
    and not state["network thread alive"]
    and not disconnects
    and state["is_connected()"]
)
if not as_described:
    sys.exit("CHANGED: the client noticed the exception, or went on after it")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

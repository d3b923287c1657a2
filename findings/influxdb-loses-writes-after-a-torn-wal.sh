#!/usr/bin/env bash
#
# InfluxDB 2: after a kill in the middle of a write, what it confirms until the next kill is lost
#
# Expected: influxd discards an incomplete last entry of its write-ahead log, which was never confirmed,
# and everything that it confirms after its start survives the next kill.
#
# What happens: a kill between two system calls of a write leaves the last entry of a segment
# incomplete. At the next start influxd opens this segment for appending at its end, and afterwards
# cuts the incomplete entry off. The position for appending stays where it was, so the file gets a hole
# of zeros, and each write that is confirmed with 204 goes behind it. They can be queried. After the
# next kill, influxd stops reading at the hole: all of them are gone.
#
# Why it matters: a writer that was told 204 has forgotten those points. Cut incomplete entries off
# before influxd starts (type: one byte, length: four bytes, big-endian, then the entry), or start and
# stop it once before anything is written.
#
# Source: own measurement with influxd 2.7.12, first met by chance in a test that kills influxd at
# random moments. The script stands in for such a kill: SIGKILL, then it takes the last 100 bytes off
# the segment. It needs the program influxd: on the PATH, or its path in the variable INFLUXD.
#
# Output seen:
#   influxd v2.7.12, influxdb-client 1.50.0
#   two batches of 1000 written, killed, the last entry incomplete, started: 1000 stored
#   a third batch of 1000 written and confirmed: 2000 stored
#   killed and started: 1000 stored

set -euo pipefail

influxd="${INFLUXD:-influxd}"
for program in python3 "$influxd"; do
    if ! command -v "$program" >/dev/null; then
        echo "no verdict: the program $program is missing" >&2
        exit 2
    fi
done

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    influxdb-client==1.50.0; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

TOKEN = "only-for-this-run"
folder = Path(__file__).parent
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{probe.getsockname()[1]}"


def start():
    server = subprocess.Popen(
        [
            sys.argv[1],
            "--reporting-disabled",
            f"--http-bind-address={url.removeprefix('http://')}",
            f"--bolt-path={folder}/bolt",
            f"--sqlite-path={folder}/sqlite",
            f"--engine-path={folder}/engine",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return server
        except OSError:
            time.sleep(0.1)
    server.kill()
    sys.exit("influxd does not start")


def kill(server):
    server.kill()
    server.wait()


def batch(first):
    return [f"m value={n}i {1_700_000_000 + n}" for n in range(first, first + 1000)]


def stored(client):
    tables = client.query_api().query('from(bucket: "b") |> range(start: 0) |> count()')
    return sum(record.get_value() for table in tables for record in table.records)


server = start()
try:
    body = {"username": "operator", "password": TOKEN, "org": "any", "bucket": "b", "token": TOKEN}
    request = urllib.request.Request(f"{url}/api/v2/setup", json.dumps(body).encode())
    urllib.request.urlopen(request, timeout=10).close()
    with InfluxDBClient(url=url, token=TOKEN, org="any") as client:
        print(f"influxd {client.version()}, influxdb-client {version('influxdb-client')}")
        writer = client.write_api(write_options=SYNCHRONOUS)
        for first in (0, 1000):
            writer.write("b", record=batch(first), write_precision="s")
        kill(server)
        segments = list((folder / "engine" / "wal").rglob("*.wal"))
        segment = max(segments, key=lambda path: path.stat().st_size)
        os.truncate(segment, segment.stat().st_size - 100)
        server = start()
        seen = [stored(client)]
        print(f"two batches of 1000 written, killed, the last entry incomplete, started: {seen[0]} stored")
        writer.write("b", record=batch(5000), write_precision="s")
        seen.append(stored(client))
        print(f"a third batch of 1000 written and confirmed: {seen[1]} stored")
        kill(server)
        server = start()
        seen.append(stored(client))
        print(f"killed and started: {seen[2]} stored")
finally:
    kill(server)
if seen != [1000, 2000, 1000]:
    sys.exit(f"CHANGED: expected 1000, 2000 and 1000 stored points, saw {seen}")
PYTHON

code=0
timeout 120 "$work/venv/bin/python" "$work/check.py" "$influxd" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

#!/usr/bin/env bash
#
# InfluxDB 2: a refused write has stored its good lines or none of them; only the status tells which
#
# Expected: a write request that is answered with a 4xx status has changed nothing (all or nothing), or
# every refusal leaves the good lines of the batch in the database. influxdb-client raises the same
# ApiException for both.
#
# What happens: a line that can't be parsed makes the server answer 400, and no line of the batch is
# stored. A line whose field has another type than the stored one, or whose time lies before the
# retention of the bucket, makes it answer 422: all other lines of the batch are stored. The message
# of the type conflict names one line and a count ("dropped=1").
#
# Why it matters: a writer that passes a refused batch to a dead-letter topic as a whole has half of it
# in the database as well; one that takes every refusal for a partial write loses the good lines of a
# batch with one line that can't be parsed. After a 422 find the bad lines; after a 400 send the good
# ones again. Points have the same identity when they are written twice, so sending again does no harm.
#
# Source: own measurement with influxd 2.7.12. The script needs the program influxd: on the PATH, or its
# path in the variable INFLUXD.
#
# Output seen:
#   influxd v2.7.12, influxdb-client 1.50.0
#   three good lines: status 204, stored 3
#   two good lines and one that can't be parsed: status 400, stored 0
#       unable to parse 'parse value=x 1795883332': invalid boolean
#   two good lines and one of another type: status 422, stored 2
#       failure writing points to database: partial write: field type conflict: input field "value" on measurement "type" is type integer, already exists as type float dropped=1
#   two good lines and one older than the retention: status 422, stored 2
#       failure writing points to database: partial write: dropped 1 points outside retention policy of duration 1h0m0s

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
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


folder, port = Path(__file__).parent, free_port()
url = f"http://127.0.0.1:{port}"
server = subprocess.Popen(
    [
        sys.argv[1],
        "--reporting-disabled",
        f"--http-bind-address=127.0.0.1:{port}",
        f"--bolt-path={folder}/bolt",
        f"--sqlite-path={folder}/sqlite",
        f"--engine-path={folder}/engine",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
NOW = int(time.time())


def set_up():
    body = {
        "username": "operator",
        "password": "only-for-this-run",
        "org": "any",
        "bucket": "readings",
        "token": "only-for-this-run",
        "retentionPeriodSeconds": 3600,
    }
    request = urllib.request.Request(f"{url}/api/v2/setup", json.dumps(body).encode())
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except OSError:
            time.sleep(0.1)


def write(client, title, lines):
    """Write one batch: the status, and how many points of its measurement are stored."""
    writer = client.write_api(write_options=SYNCHRONOUS)
    status, message = 204, ""
    try:
        writer.write("readings", record=lines, write_precision="s")
    except ApiException as exc:
        status, message = exc.status, json.loads(exc.body)["message"]
    name = lines[0].split()[0]
    flux = (
        'from(bucket: "readings") |> range(start: -1h, stop: 1h) '
        f'|> filter(fn: (r) => r._measurement == "{name}")'
    )
    stored = sum(len(table.records) for table in client.query_api().query(flux))
    print(f"{title}: status {status}, stored {stored}")
    if message:
        print(f"    {message.split(' - ')[0]}")
    return status, stored


try:
    set_up()
    with InfluxDBClient(url=url, token="only-for-this-run", org="any") as client:
        print(f"influxd {client.version()}, influxdb-client {version('influxdb-client')}")
        good = [f"good value=1.0 {NOW - 3}", f"good value=2.0 {NOW - 2}", f"good value=3.0 {NOW}"]
        seen = [
            write(client, "three good lines", good),
            write(
                client,
                "two good lines and one that can't be parsed",
                [f"parse value=1.0 {NOW - 3}", f"parse value=x {NOW}", f"parse value=2.0 {NOW}"],
            ),
            write(
                client,
                "two good lines and one of another type",
                [f"type value=1.0 {NOW - 3}", f"type value=2i {NOW - 2}", f"type value=3.0 {NOW}"],
            ),
            write(
                client,
                "two good lines and one older than the retention",
                [f"old value=1.0 {NOW - 3}", f"old value=2.0 {NOW - 9000}", f"old value=3.0 {NOW}"],
            ),
        ]
finally:
    server.send_signal(signal.SIGINT)
    server.wait(20)
if seen != [(204, 3), (400, 0), (422, 2), (422, 2)]:
    sys.exit("CHANGED: expected status and stored points (204, 3), (400, 0), (422, 2), (422, 2)")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" "$influxd" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

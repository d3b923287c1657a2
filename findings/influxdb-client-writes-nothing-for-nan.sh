#!/usr/bin/env bash
#
# influxdb-client: a NaN field disappears, and a point of NaN fields only is "written" as an empty body
#
# Expected: a value that line protocol can't express (NaN, infinity) raises an error when the point is
# made or written, or the client reports how many points it has written.
#
# What happens: Point.field() accepts the value, and the serializer leaves the field out. The other
# fields of the point arrive, so a record has fewer fields than the caller gave. If no field is left,
# the point becomes an empty line: a synchronous write() sends a request with an empty body, the
# server answers 204 (the stand-in of this script does; InfluxDB 2.7.12 does as well), and write()
# returns as after a success. Neither side has stored anything, and neither says so.
#
# Why it matters: NaN is what a broken sensor or a model without enough data gives. A pipeline that moves
# its offsets forward "after the 204" counts such points as stored, and its accounts never add up with
# the database. Look for values that are not finite before making the point.
#
# Source: own measurement; the HTTP server is a stand-in on loopback that accepts every write with 204.
#
# Output seen:
#   influxdb-client 1.50.0
#   value=1.5, spread=NaN: write() returned None, the server got b'score,device=pump-1 value=1.5 1700000000000000000'
#   value=NaN: write() returned None, the server got b''
#   value=infinity: write() returned None, the server got b''

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    influxdb-client==1.50.0; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import math
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

bodies = []


class Accepting(BaseHTTPRequestHandler):
    def do_POST(self):
        bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def point(**fields):
    made = Point("score").tag("device", "pump-1").time(1_700_000_000_000_000_000)
    for name, value in fields.items():
        made = made.field(name, value)
    return made


server = HTTPServer(("127.0.0.1", 0), Accepting)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"influxdb-client {version('influxdb-client')}")
url = f"http://127.0.0.1:{server.server_port}"
with InfluxDBClient(url=url, token="any", org="any") as client:
    writer = client.write_api(write_options=SYNCHRONOUS)
    for title, record in {
        "value=1.5, spread=NaN": point(value=1.5, spread=math.nan),
        "value=NaN": point(value=math.nan),
        "value=infinity": point(value=math.inf),
    }.items():
        result = writer.write("bucket", record=record)
        print(f"{title}: write() returned {result!r}, the server got {bodies[-1]!r}")
server.shutdown()
line = b"score,device=pump-1 value=1.5 1700000000000000000"
if bodies != [line, b"", b""]:
    sys.exit("CHANGED: values that are not finite are sent or refused")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"

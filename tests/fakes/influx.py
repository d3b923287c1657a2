"""A local HTTP server that answers writes like InfluxDB: enough of the write API for a sink."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from pydantic import SecretStr

from pipeline.stores.influx import InfluxSink
from pipeline.stores.influxclient import InfluxConnection

Answer = tuple[int, dict[str, str], str]

TOKEN = "secret-token-that-must-not-leak"


def sink_at(
    url: str, token: str | None, org: str, bucket: str, *, timeout_ms: int = 10_000
) -> InfluxSink:
    """A sink that writes there."""
    connection = InfluxConnection(url, SecretStr(token or ""), org, timeout_ms=timeout_ms)
    return InfluxSink(connection, bucket)


class FakeInflux:
    """Keeps lines by identity (series and time), as the real one; set `script` for other answers.

    A line with `bad` in it is rejected according to `dialect`: "v2" quotes the first line that
    cannot be parsed and stores nothing, "v3" names all by number and stores the others, "silent"
    stores the others and names none, "mute" stores nothing and names none.
    """

    def __init__(self) -> None:
        self.points: dict[str, str] = {}
        self.script: list[Answer] = []
        self.requests: list[dict[str, str]] = []
        self.dialect = "v2"
        self.delay_seconds = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeInflux:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, lines: list[str]) -> Answer:
        """The answer to these lines."""
        if self.script:
            return self.script.pop(0)
        bad = [i for i, line in enumerate(lines) if "bad" in line]
        good = [line for line in lines if "bad" not in line]
        if not bad:
            self._store(good)
            return 204, {}, ""
        if self.dialect == "v2":
            message = f"unable to parse '{lines[bad[0]]}': invalid field format"
            return 400, {}, json.dumps({"code": "invalid", "message": message})
        if self.dialect == "mute":
            return 400, {}, json.dumps({"code": "invalid", "message": "no"})
        self._store(good)
        if self.dialect == "v3":
            data = [
                {"original_line": lines[i][:20], "line_number": i + 1, "error_message": "no good"}
                for i in bad
            ]
            return 400, {}, json.dumps({"error": "partial write of line protocol", "data": data})
        message = f"partial write: field type conflict: dropped={len(bad)}"
        return 422, {}, json.dumps({"code": "unprocessable entity", "message": message})

    def _store(self, lines: list[str]) -> None:
        for line in lines:
            series, fields, time_ns = line.rsplit(" ", 2)
            self.points[f"{series} {time_ns}"] = fields

    def _handler(fake) -> Callable[..., BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                fake.requests.append({"path": self.path, **dict(self.headers.items())})
                time.sleep(fake.delay_seconds)
                if self.headers.get("Authorization") == f"Token {TOKEN}":
                    status, headers, text = fake.answer(body.decode().split("\n"))
                else:
                    status, headers = 401, {}
                    text = json.dumps({"code": "unauthorized", "message": "unauthorized access"})
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass  # the client gave up waiting

            def log_message(self, *_: object) -> None:
                pass

        return Handler

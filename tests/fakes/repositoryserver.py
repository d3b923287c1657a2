"""A web server for a repository, of which a test decides what it answers to each path."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[["RepositoryHandler", bytes], None]


class RepositoryServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        folder: What it serves.
        spoiled: By the beginning of a path, what answers instead; it gets the content of the file.
        requests: Path and `Range` of each request.
        date_s: Time in the header `Date`.
        released: Set at the end; an answer that stalls waits for it.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), RepositoryHandler)
        self.folder = folder
        self.spoiled: dict[str, Answer] = {}
        self.requests: list[tuple[str, str]] = []
        self.date_s: int | None = None
        self.released = threading.Event()

    @property
    def url(self) -> str:
        if isinstance(self.socket, ssl.SSLSocket):
            return f"https://localhost:{self.server_port}"
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class RepositoryHandler(BaseHTTPRequestHandler):
    server: RepositoryServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.requests.append((path, self.headers.get("Range", "")))
        file = self.server.folder / path
        data = file.read_bytes() if file.is_file() else b""
        for start, answer in self.server.spoiled.items():
            if path.startswith(start):
                answer(self, data)
                return
        if file.is_file():
            self.give(data)
        else:
            self.head(404, {"Content-Length": "0"})

    def give(self, data: bytes) -> None:
        start = self.asked_from()
        if start and start < len(data):
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.head(206, {"Content-Length": str(len(data) - start), "Content-Range": span})
        else:
            start = 0
            self.head(200, {"Content-Length": str(len(data))})
        self.wfile.write(data[start:])

    def asked_from(self) -> int:
        text = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        return int(text or 0)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.date_s is not None:
            self.send_header("Date", formatdate(self.server.date_s, usegmt=True))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[RepositoryServer]:
    """Serve a folder until the end of the block; over TLS with a context."""
    with RepositoryServer(folder) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def stall(handler: RepositoryHandler, data: bytes) -> None:
    """Announce everything, send the first byte, and then nothing until the end of the test."""
    handler.head(200, {"Content-Length": str(max(len(data), 2))})
    handler.wfile.write(data[:1] or b"{")
    handler.wfile.flush()
    handler.server.released.wait(60)
    handler.close_connection = True


def endless(handler: RepositoryHandler, data: bytes) -> None:
    """Send without end, until the client hangs up."""
    handler.head(200, {"Connection": "close"})
    handler.close_connection = True
    while not handler.server.released.is_set():
        handler.wfile.write(bytes(65_536))


def cut_after(count: int) -> Answer:
    """Announce the whole rest, send `count` bytes of it, and hang up."""

    def answer(handler: RepositoryHandler, data: bytes) -> None:
        start = handler.asked_from()
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        handler.head(206 if start else 200, {"Content-Length": str(len(data) - start), **span})
        handler.wfile.write(data[start : start + count])
        handler.close_connection = True

    return answer

"""A small HTTP server of static files: the repository of a centre, for trials.

It answers GET and HEAD for regular files below one folder, also for a part of one (`Range`), lists
nothing, and bounds connections and time. For good, use any web server or object store.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from models.artifact import open_plain_file
from models.errors import ArtifactError

__all__ = ["StaticServer"]

MAX_CONNECTIONS = 64
_TIMEOUT_S = 30
_CHUNK_BYTES = 65_536
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
_RANGE = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")


class StaticServer(ThreadingHTTPServer):
    """Serves a folder.

    Args:
        folder: The folder.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder.resolve()
        self._room = BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        """Answer in a thread; a connection beyond the limit is closed at once."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer the requests of one connection."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: StaticServer
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def version_string(self) -> str:
        return "kpstream"

    def do_GET(self) -> None:
        self._answer(self._send)

    def do_HEAD(self) -> None:
        self._answer(lambda _file, _count: None)

    def log_message(self, format: str, *args: object) -> None:
        """Write no line per request."""

    def _answer(self, send: Callable[[BinaryIO, int], None]) -> None:
        file = self._open()
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            first, end = self._range(size)
            if first >= end and size:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            is_part = (first, end) != (0, size)
            self.send_response(HTTPStatus.PARTIAL_CONTENT if is_part else HTTPStatus.OK)
            if is_part:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(end - first))
            is_last = self.path.endswith("/timestamp.json")
            cache = "no-cache" if is_last else "public, max-age=31536000, immutable"
            self.send_header("Cache-Control", cache)
            self.end_headers()
            file.seek(first)
            send(file, end - first)

    def _open(self) -> BinaryIO | None:
        parts = unquote(urlsplit(self.path).path).split("/")[1:]
        if not all(_PART.fullmatch(part) for part in parts):
            return None
        path = self.server.folder.joinpath(*parts)
        try:
            if path.parent.resolve() != path.parent:
                return None  # a link
            return os.fdopen(open_plain_file(path, os.O_RDONLY), "rb")
        except (ArtifactError, OSError):
            return None

    def _range(self, size: int) -> tuple[int, int]:
        """First byte, and the byte after the last; the whole file without a usable `Range`."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return 0, size
        last = int(match[2]) if match[2] else size - 1
        return int(match[1]), min(last + 1, size)

    def _send(self, file: BinaryIO, count: int) -> None:
        while count:
            chunk = file.read(min(count, _CHUNK_BYTES))
            if not chunk:
                self.close_connection = True  # cut off in between; the client notices
                return
            self.wfile.write(chunk)
            count -= len(chunk)

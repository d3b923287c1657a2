"""The listener of a process: one address, allowed hosts, security headers, bounded connections.

It answers only to known host names, so that a page of another site cannot read it through DNS
rebinding. Nearly everything is read-only (GET); `pipeline.console.acting` decides about the rest.
`pipeline.console.gate` bounds number and time of the connections.
The only file that imports aiohttp.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from pipeline.console.gate import Gate, GateLimits, RareLog, RareRecords
from pipeline.console.pages import encode
from pipeline.errors import ConsoleError

__all__ = [
    "Answer",
    "Listener",
    "Request",
    "Response",
    "bytes_answer",
    "empty_answer",
    "file_answer",
    "json_answer",
    "peer_of",
    "tagged",
    "text_answer",
    "whole_number",
]

_log = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_BACKLOG = 128
_SWEEP_S = 1.0
_MOST_BODY = 16 * 1024
_LINGER_S = 2.0  # for the body of a request that was refused
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Request = web.Request
Response = web.StreamResponse
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers one request."""


class Listener:
    """Serves routes on one address, and answers only requests with an allowed host name."""

    def __init__(
        self,
        host: str,
        port: int,
        allowed: Sequence[str],
        settings: str,
        limits: GateLimits | None = None,
    ) -> None:
        """Prepare; `start` binds the port.

        Args:
            host: Address to listen on.
            port: TCP port; 0 takes a free one.
            allowed: Host names (without port) of requests, beside loopback.
            settings: Prefix of the settings that errors name.
            limits: Bounds on connections; None: the defaults.
        """
        self.host = host
        self.port = port
        self._allowed = {name.lower() for name in (*_LOOPBACK, *allowed)}
        self._settings = settings
        self._limits = limits
        self._rare = RareLog(_log.warning)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.gate: Gate | None = None

    @property
    def url(self) -> str:
        """Address for a browser; the port is the real one after `start`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    async def start(
        self, routes: Mapping[str, Answer], acting: Mapping[str, Answer] | None = None
    ) -> None:
        """Bind and serve.

        Args:
            routes: Answers to GET, by path.
            acting: Answers to POST, by path; they decide themselves who may act.

        Raises:
            ConsoleError: The address cannot be bound; the message says what to change.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BODY)
        for path, answer in routes.items():
            app.router.add_get(path, answer)
        for path, answer in (acting or {}).items():
            app.router.add_post(path, answer)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            lingering_time=_LINGER_S,
            logger=_quiet_logger(self._rare),
        )
        self._runner = runner  # from here on, `stop` ends whatever a cancelled start has begun
        await runner.setup()
        make_protocol = cast("Callable[[], asyncio.Protocol]", runner.server)
        self.gate = gate = Gate(make_protocol, self._rare, self._limits)
        try:
            loop = asyncio.get_running_loop()
            self._server = server = await loop.create_server(
                gate, self.host, self.port, backlog=_BACKLOG, start_serving=False
            )
            await server.start_serving()
        except OSError as exc:
            await self.stop()
            message = (
                f"cannot listen on {self.host}:{self.port} ({exc.strerror or exc}): "
                f"choose another port with {self._settings}_PORT, or stop the program that uses it"
            )
            raise ConsoleError(message) from exc
        self._sweeper = asyncio.create_task(self._sweep(gate), name="http-sweeper")
        self.port = int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop serving; open requests have a second to end. Idempotent."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _sweep(self, gate: Gate) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                gate.sweep()
            except Exception:
                _log.exception("could not check the HTTP connections")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        """Refuse unknown host names, add the security headers, and turn errors into JSON."""
        gate = self.gate
        if gate is not None:
            gate.begin(request.transport)
        try:
            name = _host_name(request.headers.get("Host", ""))
            if name in self._allowed:
                response = await handler(request)
            else:
                message = f"host {name!r} is not allowed; add it to {self._settings}_HOSTS"
                response = json_answer({"error": message}, 403)
        except web.HTTPException as exc:
            response = json_answer({"error": exc.reason}, exc.status)
            if "Allow" in exc.headers:
                response.headers["Allow"] = exc.headers["Allow"]
        except Exception:
            if self._rare.note("HTTP: an answer failed"):
                _log.exception("could not answer %s", request.path)
            response = json_answer(
                {"error": "internal error; see the log of the process for details"}, 500
            )
        finally:
            if gate is not None:
                gate.end(request.transport)
        response.headers.update(_HEADERS)
        return response


def _quiet_logger(rare: RareLog) -> logging.Logger:
    """A logger for aiohttp that logs a malformed request as one of its kind, without traceback."""
    logger = logging.Logger("aiohttp.server")  # a logger of its own, which others do not share
    logger.addFilter(RareRecords(rare))
    return logger


def json_answer(page: dict[str, Any], status: int) -> web.Response:
    """Answer with a page as JSON."""
    return web.Response(body=encode(page), status=status, content_type="application/json")


def tagged(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Answer with a body and its ETag, or with 304 if the client has it."""
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    if any(etag.value == tag for etag in request.if_none_match or ()):
        response = web.Response(status=304)
    else:
        charset = None if content_type == "application/json" else "utf-8"
        response = web.Response(body=body, content_type=content_type, charset=charset)
    response.etag = tag
    return response


def bytes_answer(
    body: bytes, status: int, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON that is encoded already."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def text_answer(body: bytes | None, content_type: str) -> web.Response:
    """Answer with text of a type that names its charset."""
    return web.Response(body=body, headers={"Content-Type": content_type})


def empty_answer() -> web.Response:
    """Answer without content."""
    return web.Response(status=204)


def whole_number(request: web.Request, name: str) -> int | None:
    """A parameter that is a positive whole number; None if it is absent.

    Raises:
        aiohttp.web.HTTPBadRequest: It is anything else; the client gets status 400.
    """
    text = request.query.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 13 and int(text) > 0):
        raise web.HTTPBadRequest(reason=f"{name} must be a positive whole number, not {text!r:.80}")
    return int(text) if text else None


def peer_of(request: web.Request) -> str:
    """The address that a connection comes from; "" if it has ended."""
    found = None if request.transport is None else request.transport.get_extra_info("peername")
    return str(found[0]) if found else ""


def file_answer(request: web.Request, folder: Path) -> web.Response:
    """Answer with the file of `folder` that the path names, or with 404."""
    path = folder / request.match_info.get("name", "index.html")
    if path.parent != folder or path.suffix not in _TYPES or not path.is_file():
        raise web.HTTPNotFound
    return tagged(request, path.read_bytes(), _TYPES[path.suffix])


def _host_name(host: str) -> str:
    """The host name in a Host header, without port, in lower case."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()

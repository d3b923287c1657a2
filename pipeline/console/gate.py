"""Bounds on the connections of the HTTP server: their number, their time, and their log lines.

aiohttp bounds the size of a request, but not the time that it takes, nor the number of connections.
A `Gate` stands before it, as an asyncio protocol around aiohttp's own. A connection is in one of
three states:

| state | from | until | at most |
|---|---|---|---|
| READING | connect, or the first byte after an answer | a request has come whole | `request_s` |
| ANSWERING | that | the handler returned, and the peer has read the answer | `answer_s` |
| IDLE | that | the first byte of the next request | `idle_s` |

When `connections` are open, a new one takes the place of another: of the one that has been READING
longest, first among those that never sent a whole request, or else of the one that has been IDLE
longest. So half-open connections push out each other, and never one that is being answered. A new
connection is refused only while all are ANSWERING.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

__all__ = ["Gate", "GateLimits", "RareLog", "RareRecords"]

_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Bounds of a gate.

    Attributes:
        connections: Most connections at a time.
        request_s: Seconds within which a request must come whole, body included.
        answer_s: Seconds for the handler, and as many again for the peer to read the answer.
        idle_s: Seconds for which an idle connection is kept.
    """

    connections: int = 128
    request_s: float = 10.0
    answer_s: float = 60.0
    idle_s: float = 30.0


class RareLog:
    """Logs the first event of a kind at once, and those of a minute after it as one line.

    >>> now, lines = 0.0, []
    >>> rare = RareLog(lines.append, clock=lambda: now)
    >>> [rare.note("a request came too slowly") for _ in range(5)]
    [True, False, False, False, False]
    >>> now = 61.0
    >>> rare.flush()
    >>> lines
    ['a request came too slowly', 'a request came too slowly (4 times within 61 s)']
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            write: Writes one line.
            clock: Monotonic seconds.
        """
        self._write = write
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}  # last line, events since

    def note(self, kind: str) -> bool:
        """Count an event; `kind` is one of few texts. Returns whether it was logged at once."""
        if kind not in self._kinds:
            self._write(kind)
            self._kinds[kind] = (self._clock(), 0)
            return True
        last_s, count = self._kinds[kind]
        self._kinds[kind] = (last_s, count + 1)
        return False

    def flush(self) -> None:
        """Write the lines that are due; call it every second or so."""
        now_s = self._clock()
        for kind, (last_s, count) in list(self._kinds.items()):
            passed_s = now_s - last_s
            if passed_s < _EVERY_S:
                continue
            if count:
                self._write(f"{kind} ({count} times within {passed_s:.0f} s)")
                self._kinds[kind] = (now_s, 0)
            else:
                del self._kinds[kind]


class RareRecords(logging.Filter):
    """Replaces the records of a logger by lines of a `RareLog`, without tracebacks."""

    def __init__(self, rare: RareLog) -> None:
        """Prepare.

        Args:
            rare: Where the messages go; each format string is a kind.
        """
        super().__init__()
        self._rare = rare

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the record; never passes it."""
        cause = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        if record.levelno > logging.DEBUG:
            message = str(record.msg).removesuffix(" from %s")
            self._rare.note(f"HTTP: {message}: {cause}".rstrip(": "))
        return False


class _State(Enum):
    READING = "reading"
    ANSWERING = "answering"
    IDLE = "idle"


class Gate:
    """Makes one protocol for each connection, and watches them all.

    Attributes:
        limits: The bounds.
        closed: Connections that were closed early, by reason.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        log: RareLog,
        limits: GateLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            make_protocol: Makes the protocol of the HTTP server for one connection.
            log: Gets a line for each connection that is closed early.
            limits: The bounds; None: the defaults.
            clock: Monotonic seconds.
        """
        self.limits = limits or GateLimits()
        self.closed: dict[str, int] = {}
        self._make_protocol = make_protocol
        self._log = log
        self._clock = clock
        self._open: dict[asyncio.BaseTransport, _Connection] = {}

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, for `loop.create_server`."""
        return _Connection(self, self._make_protocol())

    def __len__(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def begin(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a request has come whole."""
        self._move(transport, _State.ANSWERING)

    def end(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that its handler has returned."""
        self._move(transport, _State.IDLE)

    def sweep(self) -> None:
        """Close the connections whose time is over, and write the log lines that are due."""
        now_s, limits = self._clock(), self.limits
        for each in list(self._open.values()):
            passed_s = now_s - each.since_s
            if each.state is _State.READING and passed_s > limits.request_s:
                self._close(each, f"a request did not come whole within {limits.request_s:.0f} s")
            elif each.unread and passed_s > limits.answer_s:
                self._close(each, f"an answer was not read within {limits.answer_s:.0f} s")
            elif each.state is _State.ANSWERING and passed_s > limits.answer_s:
                self._close(each, f"an answer was not ready within {limits.answer_s:.0f} s")
            elif each.state is _State.IDLE and not each.unread and passed_s > limits.idle_s:
                each.transport.abort()  # nothing to report
        self._log.flush()

    # -- for the connections ----------------------------------------------------------------

    def admit(self, connection: _Connection) -> bool:
        """Make room for a connection; False if it has to be refused."""
        if len(self._open) >= self.limits.connections:
            other = self._least_worthy()
            if other is None:
                self._note("a connection was refused, because all were being answered")
                connection.transport.abort()
                return False
            self._close(other, "a connection was closed to make room for another")
        connection.since_s = self._clock()
        self._open[connection.transport] = connection
        return True

    def drop(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection.transport, None)

    def woken(self, connection: _Connection) -> None:
        """Note the first byte after an answer."""
        connection.state, connection.since_s = _State.READING, self._clock()

    # -- private ----------------------------------------------------------------------------

    def _move(self, transport: asyncio.BaseTransport | None, state: _State) -> None:
        connection = None if transport is None else self._open.get(transport)
        if connection is not None:
            connection.state, connection.since_s = state, self._clock()
            connection.finished += state is _State.IDLE

    def _least_worthy(self) -> _Connection | None:
        """The connection to close for a new one; None: all are being answered."""
        reading = [c for c in self._open.values() if c.state is _State.READING]
        never = [c for c in reading if not c.finished]
        idle = [c for c in self._open.values() if c.state is _State.IDLE and not c.unread]
        worst = never or reading or idle
        return min(worst, key=lambda c: c.since_s, default=None)

    def _close(self, connection: _Connection, reason: str) -> None:
        self._note(reason)
        self.drop(connection)
        connection.transport.abort()

    def _note(self, reason: str) -> None:
        self.closed[reason] = self.closed.get(reason, 0) + 1
        self._log.note(f"HTTP: {reason}")


@dataclass(slots=True, eq=False)
class _Connection(asyncio.Protocol):
    """One connection: passes everything on to the protocol of the server."""

    gate: Gate
    inner: asyncio.Protocol
    transport: asyncio.Transport = field(init=False)
    state: _State = _State.READING
    since_s: float = 0.0
    finished: int = 0
    _admitted: bool = False

    @property
    def unread(self) -> bool:
        """Whether the peer has yet to read some of an answer."""
        return self.state is _State.IDLE and self.transport.get_write_buffer_size() > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self._admitted = self.gate.admit(self)
        if self._admitted:
            self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gate.drop(self)
        if self._admitted:
            self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.state is _State.IDLE:
            self.gate.woken(self)
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.inner.resume_writing()

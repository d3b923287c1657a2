"""A gate closes what takes too long, makes room for the living, and says so once a minute."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pipeline.console.gate import Gate, GateLimits, RareLog, RareRecords


class Inner(asyncio.Protocol):
    """The server's protocol: notes what reaches it."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")

    def pause_writing(self) -> None:
        self.events.append("paused")

    def resume_writing(self) -> None:
        self.events.append("resumed")


class Wire(asyncio.Transport):
    """A transport that knows only whether it was aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.unread = 0

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread


class Bench:
    """A gate with a clock and its log."""

    def __init__(self, connections: int = 3) -> None:
        self.now_s = 1000.0
        self.lines: list[str] = []
        self.inners: list[Inner] = []
        limits = GateLimits(connections, request_s=10, answer_s=60, idle_s=30)
        log = RareLog(self.lines.append, clock=lambda: self.now_s)
        self.gate = Gate(self._inner, log, limits, clock=lambda: self.now_s)

    def _inner(self) -> asyncio.Protocol:
        self.inners.append(Inner())
        return self.inners[-1]

    def connect(self) -> tuple[Any, Wire]:
        self.now_s += 0.01
        protocol: Any = self.gate()
        wire = Wire()
        protocol.connection_made(wire)
        return protocol, wire

    def answer(self, wire: Wire) -> None:
        self.gate.begin(wire)
        self.gate.end(wire)

    def after(self, seconds: float) -> None:
        self.now_s += seconds
        self.gate.sweep()


def test_everything_passes_to_the_server() -> None:
    bench = Bench()
    protocol, _ = bench.connect()
    protocol.data_received(b"GET")
    protocol.pause_writing()
    protocol.resume_writing()
    assert protocol.eof_received() is True
    protocol.connection_lost(None)
    assert bench.inners[0].events == ["made", b"GET", "paused", "resumed", "eof", "lost"]
    assert len(bench.gate) == 0


def test_a_request_that_does_not_come_whole_is_closed_however_much_trickles_in() -> None:
    bench = Bench()
    protocol, wire = bench.connect()
    for _ in range(10):
        protocol.data_received(b"x")
        bench.after(1)
        assert not wire.aborted
    bench.after(0.5)
    assert wire.aborted
    assert bench.lines == ["HTTP: a request did not come whole within 10 s"]


def test_the_next_request_has_its_own_time() -> None:
    bench = Bench()
    protocol, wire = bench.connect()
    for _ in range(5):
        bench.after(9)
        bench.answer(wire)
        bench.after(29)
        protocol.data_received(b"G")
    bench.after(10.5)
    assert wire.aborted


def test_an_idle_connection_ends_without_a_word() -> None:
    bench = Bench()
    _, wire = bench.connect()
    bench.answer(wire)
    bench.after(30.5)
    assert wire.aborted
    assert bench.lines == []


def test_an_answer_has_its_time_to_be_made_and_to_be_read() -> None:
    bench = Bench()
    _, slow = bench.connect()
    _, unread = bench.connect()
    bench.gate.begin(slow)
    bench.answer(unread)
    unread.unread = 70_000
    bench.after(59)
    assert not slow.aborted
    assert not unread.aborted
    bench.after(2)
    assert slow.aborted
    assert unread.aborted
    assert len(bench.lines) == 2


def test_half_open_connections_push_out_each_other_only() -> None:
    bench = Bench(connections=3)
    _, answering = bench.connect()
    bench.gate.begin(answering)
    _, idle = bench.connect()
    bench.answer(idle)
    half_open = [bench.connect()[1] for _ in range(100)]
    assert [wire.aborted for wire in half_open] == [True] * 99 + [False]
    assert not answering.aborted
    assert not idle.aborted
    assert len(bench.gate) == 3
    line = "HTTP: a connection was closed to make room for another"
    assert bench.lines == [line]
    bench.after(61)
    assert f"{line} (98 times within 62 s)" in bench.lines


def test_who_has_sent_a_whole_request_before_is_favoured() -> None:
    bench = Bench(connections=2)
    known, wire = bench.connect()
    bench.answer(wire)
    known.data_received(b"G")
    _, stranger = bench.connect()
    _, third = bench.connect()
    assert stranger.aborted
    bench.answer(third)
    _, fourth = bench.connect()
    assert wire.aborted  # reading again, and longest
    assert not third.aborted
    bench.gate.begin(fourth)
    _, fifth = bench.connect()
    assert third.aborted  # the only one that waits for nothing
    bench.gate.begin(fifth)
    _, sixth = bench.connect()
    assert sixth.aborted
    assert not fourth.aborted
    assert bench.inners[-1].events == []
    assert len(bench.gate) == 2


def test_records_of_the_server_become_one_line_a_minute_without_traceback() -> None:
    lines: list[str] = []
    now_s = 0.0
    rare = RareLog(lines.append, clock=lambda: now_s)
    logger = logging.Logger("aiohttp.server")
    logger.addFilter(RareRecords(rare))
    for number in range(50):
        try:
            raise ValueError(f"bad request {number}")
        except ValueError:
            logger.exception("Error handling request from %s", "127.0.0.1")
    logger.debug("noise")
    now_s = 61.0
    rare.flush()
    assert lines == [
        "HTTP: Error handling request: ValueError",
        "HTTP: Error handling request: ValueError (49 times within 61 s)",
    ]
    now_s = 130.0
    rare.flush()
    rare.flush()
    assert len(lines) == 2


@pytest.mark.parametrize("transport", [None, Wire()])
def test_a_request_of_a_connection_that_has_ended_changes_nothing(transport: Wire | None) -> None:
    bench = Bench()
    bench.gate.begin(transport)
    bench.gate.end(transport)
    assert len(bench.gate) == 0

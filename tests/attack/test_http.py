"""The HTTP server under attack: half-open requests, unread answers, floods."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from pipeline.console.gate import GateLimits
from pipeline.console.listener import Listener
from pipeline.console.server import create_console
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack
from tests.fakes.log import until
from tests.fakes.view import FakeView

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opens = Callable[["Listener", int, bytes], Awaitable[list[Peer]]]
NOW_MS = 1_800_000_000_000
QUICK = GateLimits(connections=64, request_s=0.5, answer_s=1.0, idle_s=1.0)


@asynccontextmanager
async def serving(limits: GateLimits | None = None) -> AsyncIterator[Listener]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    async def much(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(8_000_000))

    listener = Listener("127.0.0.1", 0, (), "KPSTREAM_TEST", limits)
    await listener.start({"/": answer, "/much": much})
    try:
        yield listener
    finally:
        await listener.stop()


@pytest.fixture
async def peers() -> AsyncIterator[Opens]:
    """Opens connections and sends the first bytes of a request on each; closes them all."""
    opened: list[Peer] = []

    async def open_some(listener: Listener, count: int, first: bytes) -> list[Peer]:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            opened.append((reader, writer))
            writer.write(first)
        return opened[-count:]

    yield open_some
    for _, writer in opened:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def is_closed(peer: Peer, within_s: float) -> bool:
    """Whether the server closes the connection in time; what it says before is dropped."""
    reader, _ = peer

    async def read_all() -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass

    try:
        await asyncio.wait_for(read_all(), within_s)
    except asyncio.TimeoutError:
        return False
    return True


async def get(listener: Listener) -> float:
    """Seconds for one good request."""
    begun_s = time.monotonic()
    async with aiohttp.ClientSession() as session, session.get(listener.url) as answer:
        assert (answer.status, await answer.text()) == (200, "here")
    return time.monotonic() - begun_s


async def test_half_open_requests_keep_nobody_out(
    attack: Attack, peers: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    """As many half-open requests as a flood brings, with good ones between them."""
    rounds = attack.size(8, 200)
    answered, slowest_s = 0, 0.0
    flood: list[Peer] = []
    async with serving() as listener:
        for _ in range(rounds):
            flood += await peers(listener, 50, b"GET / HTTP/1.1\r\nHost: 127")
            slowest_s = max(slowest_s, await get(listener))
            answered += 1
            assert listener.gate is not None
            assert len(listener.gate) <= 128
        open_now = sum([not await is_closed(peer, 0.001) for peer in flood[-200:]])
    attack.note(f"slowest good request {slowest_s * 1000:.0f} ms, {len(caplog.records)} log lines")
    attack.report(count=rounds * 50, lost=rounds - answered, unit="half-open requests")
    assert open_now <= 128
    assert len(caplog.records) <= 2


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST / HTTP/1.1\r\nContent-Length: 9",
    ],
)
async def test_a_request_that_never_ends_is_closed(
    attack: Attack, peers: Opens, first: bytes
) -> None:
    async with serving(QUICK) as listener:
        found = await peers(listener, 5, first)
        closed = [await is_closed(peer, 10) for peer in found]
        attack.report(count=len(closed), lost=closed.count(False), unit="connections")
        assert await get(listener) < 10


async def test_a_body_without_end_is_closed(attack: Attack, peers: Opens) -> None:
    async with serving(QUICK) as listener:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        ((reader, writer),) = await peers(listener, 1, head)
        sent, deadline_s = 0, time.monotonic() + 15
        with suppress(ConnectionError):
            while not reader.at_eof():
                assert time.monotonic() < deadline_s
                writer.write(bytes(10_000))
                sent += 10_000
                await writer.drain()
                await reader.read(1)
                await asyncio.sleep(0.01)
        attack.report(count=sent // 1000, unit="kB of one body")
        assert await get(listener) < 10


async def test_an_answer_that_nobody_reads_is_dropped(attack: Attack, peers: Opens) -> None:
    async with serving(QUICK) as listener:
        assert listener.gate is not None
        found = await peers(listener, 5, b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gate = listener.gate
        await until(lambda: gate.closed and len(gate) == 0)
        attack.report(count=len(found), unit="answers of 8 MB")
        assert list(listener.gate.closed) == ["an answer was not read within 1 s"]


async def test_nonsense_does_not_flood_the_log(
    attack: Attack, peers: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    count = attack.size(150, 5000)
    async with serving() as listener:
        for number in range(count):
            first = (b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
            (peer,) = await peers(listener, 1, first[number % 3] + b"\r\n\r\n")
            await is_closed(peer, 5)
        await get(listener)
    attack.note(f"{len(caplog.records)} log lines")
    attack.report(count=count, unit="requests without sense")
    assert len(caplog.records) <= 4
    assert "Traceback" not in caplog.text


async def test_twenty_thousand_devices_are_pages_of_bounded_size(
    attack: Attack, tmp_path: Path
) -> None:
    """Every answer stays small, and a scrape does not wait for pages."""
    results = ResultsFile(tmp_path / "results.db")
    view = FakeView.fleet(NOW_MS)
    one = view.accounts[0]
    view.accounts = [
        replace(one, site=f"plant-{i % 40}", device=f"pump-{i:05d}") for i in range(20_000)
    ]
    console = create_console(view, results, port=0, now_ms=lambda: NOW_MS)
    await console.start()
    sizes: dict[str, int] = {}
    seen: set[str] = set()
    try:
        async with aiohttp.ClientSession() as session:

            async def fetch(path: str) -> bytes:
                async with session.get(f"{console.url}{path}") as answer:
                    assert answer.status == 200
                    body = await answer.read()
                sizes[path.partition("?")[0]] = len(body)
                return body

            pages = ("metrics", "api/v1/fleet", "api/v1/pipeline", "ready", "api/v1/fleet?search=7")
            await asyncio.gather(*map(fetch, pages))
            cursor = ""
            for _ in range(attack.size(5, 200)):
                page = orjson.loads(await fetch(f"api/v1/fleet?limit=100&cursor={cursor}"))
                seen |= {device["device"] for device in page["devices"]}
                cursor = page["next"] or ""
    finally:
        await console.stop()
        results.close()
    count = attack.size(500, 20_000)
    attack.note(", ".join(f"{path} {size // 1000} kB" for path, size in sorted(sizes.items())))
    attack.report(count=count, lost=count - len(seen), unit="devices listed, of 20,000")
    assert sizes["metrics"] < 1_500_000
    assert all(size < 300_000 for path, size in sizes.items() if path != "metrics")

"""A connection is opened to the first address that answers, and can be given up meanwhile."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.tcp import open_tcp
from tests.fakes.log import until


@pytest.fixture
def unanswered() -> object:
    """A port whose server takes no further connection: the kernel drops every request."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_name_with_several_addresses_is_tried_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        closed = socket.create_server(("127.0.0.1", 0))
        closed_port = closed.getsockname()[1]
        closed.close()
        kinds = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        found = [(*kinds, ("127.0.0.1", each)) for each in (closed_port, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        seen: list[socket.socket] = []
        with open_tcp("twice", port, 10.0, seen.append) as sock:
            assert sock.getpeername()[1] == port
            assert sock.gettimeout() == 10.0
        assert [each.fileno() for each in seen] == [-1, -1]  # both are closed again


def test_a_refused_connection_is_an_error_of_the_system() -> None:
    with pytest.raises(ConnectionRefusedError):
        open_tcp("127.0.0.1", 1, 10.0)
    with pytest.raises(socket.gaierror):
        open_tcp("no such host", 1, 10.0)


async def test_a_connection_that_nobody_answers_ends_at_once_when_it_is_stopped(
    unanswered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.mqtt.client.REACH_S", 600.0)
    connection = Connection(Endpoint("127.0.0.1", unanswered, "device"))
    connection.start()
    await until(lambda: "opening a connection" in str(connection.waiting))
    await asyncio.sleep(0.5)  # the thread has begun to connect
    await asyncio.wait_for(connection.stop(), 60)

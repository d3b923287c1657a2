"""One line for each gateway and server: a port that leads to the server until it is cut."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

__all__ = ["Lines"]


class Lines:
    """Ports on this machine that lead to servers; runs in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._cut: set[str] = set()
        self._open: dict[str, set[asyncio.StreamWriter]] = {}
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def add(self, name: str, port: int) -> int:
        """Open a line of a gateway to the server on `port`; return its own port."""
        adding = asyncio.run_coroutine_threadsafe(self._add(name, port), self._loop)
        return adding.result(30)

    def cut(self, name: str) -> None:
        """Cut all lines of a gateway."""
        self._cut.add(name)
        self._loop.call_soon_threadsafe(self._close, name)

    def mend(self, name: str) -> None:
        """Let a gateway through again."""
        self._cut.discard(name)

    def stop(self) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for name in list(self._open):
            self._cut.add(name)
            self._close(name)
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _add(self, name: str, port: int) -> int:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(name, port, reader, writer)

        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def _carry(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if name in self._cut:
            writer.close()
            return
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            ends = {writer, far_writer}
            self._open.setdefault(name, set()).update(ends)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            self._open[name] -= ends
        writer.close()

    def _close(self, name: str) -> None:
        for writer in self._open.pop(name, set()):
            writer.transport.abort()
        self._open[name] = set()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()

"""A socket that reads ahead and writes behind, so that small packets cost no system call each."""

from __future__ import annotations

import socket
import ssl

__all__ = ["BufferedSocket"]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BufferedSocket:
    """Wraps a connected TCP or TLS socket for an owner that knows when it is readable.

    An MQTT client reads a packet by three or more tiny `recv` calls and writes every PUBACK by a
    `send` of four bytes. Here `recv` serves from what `fill` has read, and `send` only collects
    what `flush` writes: one system call each for some hundred packets.
    """

    def __init__(self, sock: socket.socket, chunk_bytes: int = 65_536) -> None:
        self._sock = sock
        self._chunk_bytes = chunk_bytes
        self._ahead = b""
        self._at = 0
        self._behind = bytearray()
        self._ended = False

    def fill(self) -> None:
        """Read once from the network; end of stream and errors surface in the next `recv`.

        Raises:
            OSError: The connection broke.
        """
        if self._at < len(self._ahead):
            return
        try:
            self._ahead = self._sock.recv(self._chunk_bytes)
        except _WOULD_BLOCK:
            self._ahead = b""
        else:
            self._ended = not self._ahead
        self._at = 0

    def pending(self) -> int:
        """Bytes that `recv` can give without the network; 1 at the end of the stream."""
        return len(self._ahead) - self._at or int(self._ended)

    def hides_more(self) -> bool:
        """Whether TLS holds decrypted bytes: then the socket need not become readable again."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes of what was read ahead; empty at the end of the stream.

        Raises:
            BlockingIOError: Nothing is there now.
        """
        start = self._at
        data = self._ahead[start : start + size]
        if not data and not self._ended:
            raise BlockingIOError
        self._at = start + len(data)
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take all of `data`; `flush` writes it."""
        self._behind += data
        return len(data)

    def flush(self) -> bool:
        """Write what was collected; True when nothing is left, False to call again when writable.

        Raises:
            OSError: The connection broke.
        """
        while self._behind:
            try:
                sent = self._sock.send(self._behind)
            except _WOULD_BLOCK:
                return False
            del self._behind[:sent]
        return True

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Write what can be written without waiting (an MQTT DISCONNECT), and close."""
        try:
            self.flush()
        except OSError:
            self._behind.clear()
        self._sock.close()

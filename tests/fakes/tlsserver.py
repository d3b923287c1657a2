"""A small TLS server for faults that real servers cannot produce."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def server(context: ssl.SSLContext | None, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve one connection after the other with a greeting; yields the port.

    Args:
        context: TLS context; None hangs up at the first bytes, as a server without TLS does.
        host: Address to listen on.
    """
    with socket.create_server((host, 0)) as door:

        def serve() -> None:
            while True:
                try:
                    line, _ = door.accept()
                except OSError:
                    return
                with suppress(OSError), line:
                    if context is None:
                        line.recv(1)
                    else:
                        with context.wrap_socket(line, server_side=True) as talk:
                            talk.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(door.getsockname()[1])
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()


def speaking(certs: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "servers/mosquitto.pem", certs / "servers/mosquitto.key")
    return context

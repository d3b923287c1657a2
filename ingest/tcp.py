"""Open a TCP connection that another thread can give up."""

from __future__ import annotations

import socket
from collections.abc import Callable

__all__ = ["open_tcp"]


def open_tcp(
    host: str,
    port: int,
    timeout_s: float,
    on_socket: Callable[[socket.socket], None] | None = None,
) -> socket.socket:
    """Connect to the first address of a host that answers; blocks for `timeout_s` per address.

    Args:
        host: Host of the server.
        port: Port of the server.
        timeout_s: Limit for each address of the host, seconds; it stays that of the socket.
        on_socket: Called with each socket before it connects; `shutdown` ends the attempt.

    Raises:
        OSError: The name is unknown, or no server listens there.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            if on_socket is not None:
                on_socket(sock)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            sock.close()
            failure = exc
        else:
            return sock
    raise failure or OSError("the name has no address")

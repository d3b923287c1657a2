"""Open a TCP connection that another thread can give up; which hosts are this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address

__all__ = ["is_loopback", "open_tcp"]


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine; does not resolve names.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "10.0.0.1", "broker")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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

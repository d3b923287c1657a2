"""TCP ports that no other test uses, in any worker.

The ports lie below the range from which the system serves outgoing connections, so a server that a
test kills finds its port free when it starts again. A lock on one byte of a file per port claims
it until the process ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

_FIRST, _LAST = 10_000, 29_999


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens."""
    return free_ports(1, host)


def free_ports(count: int, host: str = "127.0.0.1", *, multiple_of: int = 1) -> int:
    """The first of `count` consecutive ports on which nothing listens."""
    for _ in range(1000):
        first = random.randrange(_FIRST, _LAST + 2 - count, multiple_of)
        if all(_claim(port, host) for port in range(first, first + count)):
            return first
    message = f"no {count} consecutive ports are free between {_FIRST} and {_LAST}"
    raise OSError(message)


_claimed: set[int] = set()


def _claim(port: int, host: str) -> bool:
    if port in _claimed:
        return False
    with suppress(OSError):
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        _claimed.add(port)
        with socket.socket() as probe:
            probe.bind((host, port))
        return True
    return False


@cache
def _claims() -> int:
    path = Path(tempfile.gettempdir()) / f"kpstream-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

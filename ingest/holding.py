"""Messages held back while this machine's clock is behind: kept as they came, not acknowledged.

The bridge holds every message from the first one that `ingest.clockjudge` does not attribute to its
device's clock, in the order of arrival. Nothing is checked, decoded or acknowledged then, so the
broker keeps the messages too, and sends no more than it may (back-pressure, as when the log is
full). Once the clock is right, the bridge takes the held messages in their order, received now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["HeldMessage", "Holding"]


class HeldMessage(NamedTuple):
    """A message as it came, with what its acknowledgement needs.

    `oversized` is what is left of a message above the limit (`ingest.mqtt.packets.Oversized`);
    `is_dup` is MQTT's DUP flag.
    """

    epoch: int
    packet_id: int
    qos: int
    topic: str
    payload: bytes
    oversized: Any = None
    is_dup: bool = False


class Holding:
    """The line of held messages.

    Attributes:
        since_ms: Start of the present hold, epoch milliseconds; None while messages pass.
        is_alarm: Whether this machine's clock is known to be wrong, and not just suspected.
        held_total: Messages that had to wait so far.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self.is_alarm = False
        self.held_total = 0
        self._line: deque[HeldMessage] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def add(self, message: HeldMessage, now_ms: int) -> None:
        """Hold a message back."""
        if self.since_ms is None:
            self.since_ms = now_ms
        self.held_total += 1
        self._line.append(message)

    def release(self, take: Callable[[HeldMessage], bool]) -> None:
        """Take messages in their order, up to the first one that has to wait further."""
        while self._line and take(self._line[0]):
            self._line.popleft()
        if not self._line:
            self.since_ms, self.is_alarm = None, False

    def drop(self, which: Callable[[HeldMessage], bool]) -> list[HeldMessage]:
        """Give up and return messages that the broker delivers again."""
        dropped = [message for message in self._line if which(message)]
        self._line = deque(message for message in self._line if not which(message))
        if not self._line:
            self.since_ms, self.is_alarm = None, False
        return dropped

"""The seam for message formats beside JSON: a decoder turns their messages into canonical ones.

A format has its own MQTT topics, recognised by a prefix. The bridge gives every message on them to
the format's `Decoder` and treats the result - addresses and JSON bodies - as if devices had sent
it. Everything after that (checks, log, acknowledgement, agents) handles only one format.

A decoder may have a memory (names announced earlier, values carried forward), and the delivery
promise covers the memory too. The bridge calls, in this order:

1. `decode` for each message, in the order of arrival, and `due` between them; the memory changes
   at once.
2. `checkpoint` when a load of messages is closed: the changes since the last checkpoint.
3. `keep` with that checkpoint after the log has confirmed the load; returns when it is durable.
4. Then the bridge acknowledges the messages.

So after a crash the durable memory is never ahead of the log and never behind an acknowledgement. A
message that the broker delivers again is either decoded from the same memory as the first time, or
the durable memory already includes it, and the decoder must recognise that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ingest.errors import RefusedMessage
from ingest.topics import Address

__all__ = ["Decoded", "Decoder", "Outgoing"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The content of one message.

    Attributes:
        messages: Address and JSON body of each canonical message; the bridge checks the bodies like
            those of devices.
        refused: Refusal of a part of the message or of all of it. The whole original message then
            becomes a dead letter, in addition to `messages`.
    """

    messages: Sequence[tuple[Address, bytes]] = ()
    refused: RefusedMessage | None = None


class Outgoing(NamedTuple):
    """A message to publish: a command to a device, or the presence of the host."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Decoder(Protocol):
    """One message format; used by one bridge, on its event loop."""

    prefix: str
    """Prefix of the format's topics."""
    filters: Sequence[str]
    """MQTT filters to subscribe to."""

    def decode(
        self, topic: str, payload: bytes, recv_ms: int, qos: int, *, is_dup: bool = False
    ) -> Decoded:
        """Decode one message; faults are refused in the result, never raised.

        `is_dup` is MQTT's DUP flag: the broker may have sent the message before. Only such a
        message can be a redelivery; equal bytes alone prove nothing.
        """
        ...

    def sent_at(self, topic: str, payload: bytes) -> tuple[str, int] | None:
        """Return the sender with a clock and the time of a data message by it, epoch ms.

        Pure, fast and before `decode`; None if the message claims no time or brings no readings.
        """
        ...

    def due(self, now_ms: int | None) -> Sequence[tuple[Address, bytes]]:
        """Return canonical messages that were held back and are due; the memory changes at once.

        Called a few times a second, and with None before the bridge ends: everything is due.
        """
        ...

    def checkpoint(self) -> Any:
        """Return the changes of the memory since the last checkpoint; None: no change."""
        ...

    async def keep(self, checkpoint: Any) -> None:
        """Make a checkpoint durable; called in order, and again after a failure.

        Raises:
            LogUnavailable: The checkpoint is not durable; try again.
        """
        ...

    def connected(self, now_ms: int) -> None:
        """Note that the bridge has connected; earlier QoS 0 messages may be missing."""
        ...

    def outgoing(self, now_ms: int) -> Sequence[Outgoing]:
        """Return the messages to publish now; called a few times a second while connected."""
        ...

    def farewell(self, now_ms: int) -> Outgoing | None:
        """Return the last-will message, also sent on clean shutdown; called on each connect."""
        ...

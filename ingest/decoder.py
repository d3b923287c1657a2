"""The seam for message formats beside JSON: what turns their messages into canonical ones.

A format has its own MQTT topics, told by their first characters. The bridge hands every message on
them to the format's `Decoder` and takes what it makes of it - addresses and JSON bodies - exactly
as if devices had sent those. What follows (checks, log, acknowledgement, agents) knows one format.

A decoder may have a memory (names announced earlier, values carried forward), and the delivery
promise reaches that too. The bridge calls, in this order:

1. `decode` for each message, in the order of arrival; the memory moves on at once.
2. `checkpoint` when a load of messages is closed: what the memory learnt since the last one.
3. after the log has confirmed the load, `keep` with that checkpoint; returns when it is durable.
4. only then the messages are acknowledged.

So after a crash the kept memory is never ahead of the log and never behind an acknowledgement: what
the broker delivers again is either decoded from the very memory it met the first time, or it lies
in the kept memory already, and the decoder must recognise that.
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
    """What one message says.

    Attributes:
        messages: Address and JSON body of each canonical message; the bridge checks the bodies as
            it checks those of devices.
        refused: What could not be taken: the whole message as it came becomes a dead letter for
            it, beside `messages`.
    """

    messages: Sequence[tuple[Address, bytes]] = ()
    refused: RefusedMessage | None = None


class Outgoing(NamedTuple):
    """A message that the format wants published: a command to a device, a sign of presence."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Decoder(Protocol):
    """One message format; used by one bridge, on its event loop."""

    prefix: str
    """First characters of the format's topics."""
    filters: Sequence[str]
    """MQTT filters to subscribe to."""

    def decode(self, topic: str, payload: bytes, recv_ms: int, qos: int) -> Decoded:
        """Take one message; what cannot be understood is refused in the answer, never raised."""
        ...

    def checkpoint(self) -> Any:
        """What the memory has learnt since the last checkpoint; None: nothing."""
        ...

    async def keep(self, checkpoint: Any) -> None:
        """Make a checkpoint durable; called for one after the other, again after a failure.

        Raises:
            LogUnavailable: Not durable. Worth another try.
        """
        ...

    def connected(self, now_ms: int) -> None:
        """The bridge is connected (again): what was sent without a promise may be missing."""
        ...

    def outgoing(self, now_ms: int) -> Sequence[Outgoing]:
        """What is to be published now; asked a few times a second while connected."""
        ...

    def farewell(self, now_ms: int) -> Outgoing | None:
        """What the broker shall publish when we vanish, and we when we leave; asked per connect."""
        ...

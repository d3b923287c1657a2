"""The seam for message formats beside JSON: a decoder turns their messages into canonical ones.

A format has its own MQTT topics; several formats may be in force (`ingest.decoders`), and no topic
belongs to two of them. The bridge gives every message to the `Decoder` that takes its topic, and
treats the result - addresses and JSON bodies - as if devices had sent it. Everything after that
(checks, log, acknowledgement, agents) handles only one format.

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

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ingest.errors import RefusedMessage
from ingest.topics import Address

__all__ = ["Canonical", "Checked", "Decoded", "Decoder", "Outgoing", "Sent"]


class Checked(NamedTuple):
    """A canonical message whose decoder vouches that `ingest.payloads` accepts the body.

    The bridge checks only the event time, and the body becomes JSON in the record of the log only,
    so that a format pays for one check and one encoding and not for two.

    Attributes:
        address: Sender.
        body: The body, not encoded.
        earliest_ms: Earliest event time in it.
        readings: Number of its readings.
    """

    address: Address
    body: Mapping[str, Any]
    earliest_ms: int
    readings: int


Canonical: TypeAlias = "tuple[Address, bytes] | Checked"
"""A canonical message: address and JSON body, or those with the word of the decoder."""


class Sent(NamedTuple):
    """What a data message says about the clock of its sender.

    Attributes:
        sender: Whoever owns the clock.
        earliest_ms: Earliest event time in the message, epoch ms.
        newest_ms: Newest event time in it.
    """

    sender: str
    earliest_ms: int
    newest_ms: int


class Decoded(NamedTuple):
    """The content of one message.

    Attributes:
        messages: The canonical messages in it. The bridge checks the bodies of all but `Checked`
            ones like those of devices.
        refused: Refusal of a part of the message or of all of it. The whole original message then
            becomes a dead letter, in addition to `messages`.
    """

    messages: Sequence[Canonical] = ()
    refused: RefusedMessage | None = None


class Outgoing(NamedTuple):
    """A message to publish: a command to a device, or the presence of the host."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Decoder(Protocol):
    """One message format; used by one bridge, on its event loop."""

    @property
    def filters(self) -> Sequence[str]:
        """MQTT filters to subscribe to."""
        ...

    def takes(self, topic: str) -> bool:
        """Whether a topic belongs to the format; fast, because it is asked for every message."""
        ...

    def decode(
        self,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        *,
        is_dup: bool = False,
        is_retained: bool = False,
    ) -> Decoded:
        """Decode one message; faults are refused in the result, never raised.

        `is_dup` is MQTT's DUP flag: the broker may have sent the message before. Only such a
        message can be a redelivery; equal bytes alone prove nothing. `is_retained`: the broker has
        kept the message from before the subscription, so it came now, but is not of now.
        """
        ...

    def sent_at(self, topic: str, payload: bytes, recv_ms: int) -> Sent | None:
        """Return the sender of a data message and the event times in it.

        Fast, before `decode`, and without effect on the memory; None if the message claims no time
        or brings no readings.
        """
        ...

    def due(self, now_ms: int | None, quiet_since_ms: int | None) -> Sequence[Canonical]:
        """Return canonical messages that were held back and are due; the memory changes at once.

        Called a few times a second, and with None before the bridge ends: everything is due that
        would otherwise be lost.

        Args:
            now_ms: The time, epoch ms, or None.
            quiet_since_ms: Since when silence means that nothing was sent; None: it means nothing
                now, because messages may be waiting at the broker.
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

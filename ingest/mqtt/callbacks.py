"""What a socket loop reports to its connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest.mqtt.announced import Announced
from ingest.mqtt.packets import Oversized
from ingest.mqtt.reasons import Ending
from ingest.mqtt.subscriptions import Reason

__all__ = ["Callbacks"]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks of a socket loop, all called on the event loop.

    None may raise. If one does, the connection is reported as broken.

    Attributes:
        on_message: A message: the fields of a `Publish`.
        on_oversized: A message above the limit, of which only the head is left.
        after_read: A handful of messages has been read.
        on_connack: The broker answered CONNECT: reason, and what it announced.
        on_suback: The broker answered a subscription: one reason per filter.
        on_unsuback: The broker answered an unsubscription.
        on_puback: The broker answered a publication: packet id and reason.
        on_ended: The connection ended; called once or more, and the first time counts.
        on_broken: Reading or writing failed, or a callback raised.
    """

    on_message: Callable[[int, int, str, bytes, bool, bool], None] | None
    on_oversized: Callable[[Oversized], None] | None
    after_read: Callable[[], None] | None
    on_connack: Callable[[Reason, Announced], None]
    on_suback: Callable[[Sequence[Reason]], None]
    on_unsuback: Callable[[Sequence[Reason]], None]
    on_puback: Callable[[int, Reason], None]
    on_ended: Callable[[Ending], None]
    on_broken: Callable[[Exception], None]

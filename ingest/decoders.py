"""The message formats of one bridge beside our own JSON form: several decoders, used as one.

Each topic belongs to one format at most. The formats claim topics by their filters, and
`check_claims` refuses a configuration in which two of them share a topic, because nobody could say
which of them a message is for. Our own topics (`KPSTREAM_INGEST_MQTT_PREFIX`) and those of
Sparkplug, where it is in force, are **reserved**: as `+` at the first level does not take `$SYS`, a
filter that reaches them only by a wildcard leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ingest.decoder import Canonical, Decoder, Outgoing
from ingest.errors import IngestError
from ingest.topicfilters import TopicSet, covers, shared_topics

__all__ = ["Claim", "ClaimConflict", "Decoders", "check_claims", "claim_faults"]


class Claim(NamedTuple):
    """The topics that a format claims.

    Attributes:
        name: What claims them, for messages: a file or a setting.
        topics: Sets of topics.
    """

    name: str
    topics: Sequence[TopicSet]


class ClaimConflict(IngestError):
    """Two formats claim the same topic; the message names both and the topic."""


def claim_faults(claims: Sequence[Claim], reserved: Sequence[Claim] = ()) -> list[str]:
    """Return one sentence for every two claims that share a topic.

    >>> sensors, press = [TopicSet("tele/+/SENSOR")], [TopicSet("tele/press-2/#")]
    >>> claim_faults([Claim("a.toml", sensors), Claim("b.toml", press)])
    ["a.toml and b.toml both claim 'tele/press-2/SENSOR': change the topic of one of them"]
    >>> ours = Claim("our own topics", [TopicSet("sensors/#")])
    >>> claim_faults([Claim("a.toml", [TopicSet("+/+/x/data")])], [ours])
    []

    Args:
        claims: Claims of formats that may not share a topic.
        reserved: Claims that come first: others may reach their topics by wildcards only, and then
            leave them out.
    """
    faults = []
    for one, other in combinations(claims, 2):
        shared = [
            both
            for a in one.topics
            for b in other.topics
            if (both := shared_topics(a, b)) is not None and not _is_reserved(both, reserved)
        ]
        if shared:
            faults.append(_fault(one, other, shared[0]))
    for claim in claims:
        for first in reserved:
            inside = [t.filter for t in claim.topics if _is_reserved(t.filter, [first])]
            if inside:
                faults.append(_fault(claim, first, inside[0]))
    return faults


def check_claims(claims: Sequence[Claim], reserved: Sequence[Claim] = ()) -> None:
    """Refuse claims that share a topic; see `claim_faults`.

    Raises:
        ClaimConflict: With every fault.
    """
    if faults := claim_faults(claims, reserved):
        raise ClaimConflict("\n".join(faults))


class Decoders:
    """The decoders of one bridge; the calls of `ingest.decoder.Decoder` go to all of them.

    >>> Decoders(()).find("sensors/plant-7/press-2/engine") is None
    True
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = tuple(decoders)

    @property
    def is_empty(self) -> bool:
        """Whether there is no format but our own."""
        return not self._decoders

    @property
    def filters(self) -> list[str]:
        """The MQTT filters of all formats."""
        return [each for decoder in self._decoders for each in decoder.filters]

    def find(self, topic: str) -> Decoder | None:
        """Return the decoder that takes a topic, or None: it is one of our own, or of nobody."""
        for decoder in self._decoders:
            if decoder.takes(topic):
                return decoder
        return None

    def due(self, now_ms: int | None, quiet_since_ms: int | None) -> list[Canonical]:
        """Return what any decoder has held back and is due."""
        return [each for decoder in self._decoders for each in decoder.due(now_ms, quiet_since_ms)]

    def checkpoint(self) -> list[Any] | None:
        """Return the changes of each memory since the last checkpoint; None: no change."""
        found = [decoder.checkpoint() for decoder in self._decoders]
        return found if any(each is not None for each in found) else None

    async def keep(self, checkpoint: list[Any]) -> None:
        """Make a checkpoint durable; after a failure, what is durable already is not kept again.

        Raises:
            LogUnavailable: A part of it is not durable; try again.
        """
        for at, decoder in enumerate(self._decoders):
            if checkpoint[at] is not None:
                await decoder.keep(checkpoint[at])
                checkpoint[at] = None

    def connected(self, now_ms: int) -> None:
        """Note that the bridge has connected."""
        for decoder in self._decoders:
            decoder.connected(now_ms)

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the messages to publish now."""
        return [each for decoder in self._decoders for each in decoder.outgoing(now_ms)]

    def farewell(self, now_ms: int) -> Outgoing | None:
        """Return the last-will message; MQTT has one for each connection, so the first counts."""
        found = (decoder.farewell(now_ms) for decoder in self._decoders)
        return next((each for each in found if each is not None), None)


def _is_reserved(mqtt_filter: str, reserved: Sequence[Claim]) -> bool:
    """Whether every topic of a filter is reserved."""
    return any(covers(t.filter, mqtt_filter) for claim in reserved for t in claim.topics)


def _fault(one: Claim, other: Claim, shared: str) -> str:
    return f"{one.name} and {other.name} both claim {shared!r}: change the topic of one of them"

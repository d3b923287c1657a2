"""What a broker announced in CONNACK and SUBACK: one value that all of us read. Pure.

A broker of MQTT 5 states its limits when it accepts a connection, and grants a QoS to every
filter. Nothing here decides what follows from them; `ingest.mqtt.promise` does. Sections are those
of the OASIS standard MQTT 5.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

__all__ = ["MOST_IN_FLIGHT", "Announced", "duration_text", "read_announced"]

MOST_IN_FLIGHT = 65_535
"""Receive Maximum of a broker that announces none (3.2.2.3.3)."""

_NEVER_S = 0xFFFF_FFFF
"""A Session Expiry Interval that never ends (3.1.2.11.2)."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the broker announced for one connection.

    A property that was absent has the value that the standard gives it. MQTT 3.1.1 announces
    nothing but `session_present` and the granted QoS, so its other values are those of a broker
    without limits; that says nothing about the limits that such a broker has.

    Attributes:
        version: MQTT version of the connection.
        session_present: The broker had a session for our client id (3.2.2.1.1).
        session_expiry_s: Seconds for which the broker keeps our session after a disconnect, where
            it differs from what CONNECT asked for (3.2.2.3.2); None: as asked.
        receive_maximum: Most unconfirmed publications of QoS 1 and 2 that the broker takes from us
            at a time (3.2.2.3.3).
        maximum_qos: Highest QoS that the broker takes and grants: 0, 1 or 2 (3.2.2.3.4).
        retain_available: The broker takes retained messages (3.2.2.3.5).
        maximum_packet_bytes: Largest packet that the broker takes, header included (3.2.2.3.6);
            None: no limit beyond that of the protocol.
        assigned_client_id: Client id that the broker gave us (3.2.2.3.7); None: ours.
        topic_alias_maximum: Most topic aliases that we may use (3.2.2.3.8). We use none.
        wildcard_available: Filters with `+` and `#` work (3.2.2.3.11).
        subscription_ids_available: Subscription identifiers work (3.2.2.3.12). We use none.
        shared_available: Filters that begin with `$share` work (3.2.2.3.13).
        keep_alive_s: Seconds of silence after which the broker ends the connection, where it
            overrules ours (3.2.2.3.14); None: ours.
        granted: Code of SUBACK by filter: the QoS granted, or a refusal from 0x80 on (3.9.3);
            empty before SUBACK.
    """

    version: Literal["5", "3.1.1"]
    session_present: bool = False
    session_expiry_s: int | None = None
    receive_maximum: int = MOST_IN_FLIGHT
    maximum_qos: int = 2
    retain_available: bool = True
    maximum_packet_bytes: int | None = None
    assigned_client_id: str | None = None
    topic_alias_maximum: int = 0
    wildcard_available: bool = True
    subscription_ids_available: bool = True
    shared_available: bool = True
    keep_alive_s: int | None = None
    granted: tuple[tuple[str, int], ...] = ()

    def with_granted(self, filters: Sequence[str], codes: Sequence[int]) -> Announced:
        """Return this with the answer to a subscription: one code per filter, in order."""
        plain = map(str, filters)  # keys of JSON, also of a filter that is optional
        return replace(self, granted=tuple(zip(plain, codes, strict=False)))

    def keeps_session_s(self, asked_s: int) -> int:
        """Return the seconds for which the broker keeps a session after a disconnect.

        Args:
            asked_s: Seconds that CONNECT asked for.
        """
        return asked_s if self.session_expiry_s is None else self.session_expiry_s

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `/health`; `granted` maps each filter to its code."""
        return asdict(self) | {"granted": dict(self.granted)}


_PROPERTIES: dict[str, tuple[str, type]] = {
    "session_expiry_s": ("SessionExpiryInterval", int),
    "receive_maximum": ("ReceiveMaximum", int),
    "maximum_qos": ("MaximumQoS", int),
    "retain_available": ("RetainAvailable", bool),
    "maximum_packet_bytes": ("MaximumPacketSize", int),
    "assigned_client_id": ("AssignedClientIdentifier", str),
    "topic_alias_maximum": ("TopicAliasMaximum", int),
    "wildcard_available": ("WildcardSubscriptionAvailable", bool),
    "subscription_ids_available": ("SubscriptionIdentifierAvailable", bool),
    "shared_available": ("SharedSubscriptionAvailable", bool),
    "keep_alive_s": ("ServerKeepAlive", int),
}
"""Our field to the name of the property in the standard, without spaces, and its type."""


def read_announced(
    version: Literal["5", "3.1.1"], session_present: bool, properties: Mapping[str, Any]
) -> Announced:
    """Read a CONNACK.

    Args:
        version: MQTT version of the connection.
        session_present: Flag of CONNACK.
        properties: Value by name of the property, without spaces (`ReceiveMaximum`); others are
            ignored. The client library has checked their ranges.
    """
    found: dict[str, Any] = {
        field: of_type(properties[name])
        for field, (name, of_type) in _PROPERTIES.items()
        if properties.get(name) is not None
    }
    return Announced(version, session_present, **found)


def duration_text(seconds: int) -> str:
    """Return a duration in the largest unit that leaves a whole number.

    >>> [duration_text(s) for s in (0, 4, 90, 120, 7200, 86_400, 604_800)]
    ['0 s', '4 s', '90 s', '2 minutes', '2 hours', '1 day', '7 days']
    >>> duration_text(0xFFFFFFFF)
    'for ever'
    """
    if seconds >= _NEVER_S:
        return "for ever"
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = seconds // unit
            return f"{count} {name}" + ("s" if count > 1 else "")
    return f"{seconds} s"

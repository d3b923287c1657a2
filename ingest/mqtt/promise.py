"""What follows from a broker's announcements for the delivery promise: every rule, once. Pure.

| announced | a client that subscribes | a client that publishes |
|---|---|---|
| QoS 0 granted in SUBACK | void | |
| an optional filter refused in SUBACK | weaker | |
| Maximum QoS 0 | void | every publication of QoS 1 refused |
| session kept for less than `SHORTEST_SESSION_S` | void | |
| session kept for less than asked | weaker | |
| another client id assigned | void | |
| no wildcards, no shared subscriptions | the filter is not requested: refused | |
| Retain Available 0 | | retained publications refused |
| Maximum Packet Size | a larger SUBSCRIBE is not sent: refused | larger publications refused |
| Receive Maximum | | at most as many in flight, those sent again included |
| Server Keep Alive | pings at the smaller of both intervals | the same |
| Topic Alias Maximum, subscription identifiers | not used | not used |

*Void* means not ready: messages can be lost without anybody being to blame, although readings still
flow. *Weaker* is a notice: the promise holds, but for a shorter absence than the settings ask for,
or without the messages of a filter that we can do without.
*Refused* is an error with what to change; the broker would answer by ending the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.mqtt.announced import Announced, duration_text

__all__ = [
    "SHORTEST_SESSION_S",
    "Wanted",
    "keep_alive_s",
    "largest_payload_bytes",
    "lost_session_text",
    "refused_publication",
    "unusable_filter",
    "void_promises",
    "weaker_promises",
]

SHORTEST_SESSION_S = 60
"""A session that ends sooner does not outlast a restart; the setting has the same minimum."""

_FIRST_FAILURE = 0x80
_QOS = 1
_FIRST_FAILURE = 0x80
_HEADER = 5  # bytes of the longest fixed header
_SUBSCRIBE_HEAD = _HEADER + 2 + 1  # with packet id and length of no properties


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks of its broker.

    Attributes:
        client_id: Client id sent in CONNECT.
        filters: Filters that it holds with QoS 1; empty for a publisher.
        session_expiry_s: Seconds for which its session is to be kept; 0: it wants no session.
    """

    client_id: str
    filters: tuple[str, ...] = ()
    session_expiry_s: int = 0


def void_promises(announced: Announced, wanted: Wanted) -> tuple[str, ...]:
    """Return why messages may be lost although all of us work; empty: the promise holds.

    Only a client that subscribes has a promise that the broker can void.
    """
    if not wanted.filters:
        return ()
    found = []
    zero = [name for name, code in announced.granted if code == 0 and name in wanted.filters]
    if announced.maximum_qos < _QOS:
        found.append(
            "the broker grants QoS 0 at most (Maximum QoS in CONNACK), so it keeps no message that "
            "we have not confirmed, and a restart loses some: allow QoS 1 at the broker"
        )
    elif zero:
        found.append(
            f"the broker granted {zero[0]!r} with QoS 0 instead of 1, so it keeps no message that "
            "we have not confirmed, and a restart loses some: allow QoS 1 at the broker"
        )
    if announced.assigned_client_id not in (None, wanted.client_id):
        found.append(
            f"the broker calls us {announced.assigned_client_id!r} instead of "
            f"{wanted.client_id!r}, so it keeps nothing under our name while we are away: let it "
            "accept our client id (KPSTREAM_INGEST_MQTT_CLIENT_ID)"
        )
    if wanted.session_expiry_s:
        kept_s = announced.keeps_session_s(wanted.session_expiry_s)
        if kept_s < min(SHORTEST_SESSION_S, wanted.session_expiry_s):
            found.append(_session_text(kept_s, wanted.session_expiry_s, "a restart loses messages"))
    return tuple(found)


def weaker_promises(announced: Announced, wanted: Wanted) -> tuple[str, ...]:
    """Return how the broker gives less than asked for, where the promise still holds."""
    refused = tuple(
        f"the broker refuses the subscription {name!r}, so nothing comes from there: allow it in "
        "the broker's access list, or take it out of our settings"
        for name, code in announced.granted
        if code >= _FIRST_FAILURE and name in wanted.filters
    )
    if not wanted.filters or not wanted.session_expiry_s:
        return refused
    kept_s = announced.keeps_session_s(wanted.session_expiry_s)
    if not min(SHORTEST_SESSION_S, wanted.session_expiry_s) <= kept_s < wanted.session_expiry_s:
        return refused
    text = _session_text(kept_s, wanted.session_expiry_s, "a longer absence loses messages")
    return (*refused, text)


def unusable_filter(announced: Announced, filters: Sequence[str]) -> str | None:
    """Return why the filters cannot be requested from this broker; None: they can.

    A broker answers such a SUBSCRIBE by ending the connection (3.2.2.3.11, 3.2.2.3.13, 3.2.2.3.6).
    """
    for each in filters:
        if not announced.shared_available and each.startswith("$share/"):
            return (
                f"the broker has no shared subscriptions (CONNACK), so {each!r} cannot work: unset "
                "KPSTREAM_INGEST_MQTT_SHARED_GROUP and give each bridge its own sites "
                "(KPSTREAM_INGEST_MQTT_SITES), or allow them at the broker"
            )
        if not announced.wildcard_available and ("#" in each or "+" in each):
            return (
                f"the broker has no wildcard subscriptions (CONNACK), so {each!r} cannot work: "
                "allow them at the broker"
            )
    size = _SUBSCRIBE_HEAD + sum(3 + len(each.encode()) for each in filters)
    most = announced.maximum_packet_bytes
    if filters and most is not None and size > most:
        return (
            f"the broker takes packets of at most {most} bytes (CONNACK), and our subscription "
            f"needs up to {size}: raise its limit, or name fewer sites or Sparkplug groups"
        )
    return None


def refused_publication(
    announced: Announced, topic: str, payload_bytes: int, qos: int, *, retain: bool
) -> str | None:
    """Return why a publication must not be sent to this broker; None: it may.

    Args:
        announced: What the broker announced.
        topic: Topic of the publication.
        payload_bytes: Size of its payload.
        qos: QoS of the publication.
        retain: Whether it is to be retained.
    """
    most, largest = announced.maximum_packet_bytes, largest_payload_bytes(announced, topic, qos)
    if qos > announced.maximum_qos:
        return (
            f"cannot publish on {topic!r} with QoS {qos}: the broker takes QoS "
            f"{announced.maximum_qos} at most (CONNACK), so it confirms nothing; allow QoS 1 at "
            "the broker"
        )
    if retain and not announced.retain_available:
        return (
            f"cannot publish the retained message {topic!r}: the broker takes none (Retain "
            "Available 0 in CONNACK); allow retained messages at the broker"
        )
    if largest is not None and payload_bytes > largest:
        return (
            f"cannot publish {payload_bytes} bytes on {topic!r}: the broker takes packets of at "
            f"most {most} bytes; send smaller messages, or raise its limit (mosquitto: "
            "max_packet_size)"
        )
    return None


def largest_payload_bytes(announced: Announced, topic: str, qos: int = _QOS) -> int | None:
    """Return the largest payload that the broker takes on a topic; None: it has no limit.

    Packets may be some bytes smaller than the limit, because the fixed header counts as its longest
    form.
    """
    most = announced.maximum_packet_bytes
    head_bytes = _HEADER + 2 + len(topic.encode()) + 2 * (qos > 0) + (announced.version == "5")
    return None if most is None else most - head_bytes


def keep_alive_s(announced: Announced, ours_s: int) -> int:
    """Return the seconds of silence after which we ping.

    The smaller of both intervals keeps the broker content (3.2.2.3.14) and notices a dead
    connection as soon as the settings ask for. A Server Keep Alive of 0 asks for no pings; ours
    remain, because nothing else notices a broker that has vanished.
    """
    return min(ours_s, announced.keep_alive_s or ours_s)


def lost_session_text(announced: Announced, asked_s: int) -> str:
    """Return the text of a session that the broker should have had (Session Present 0).

    Args:
        announced: What it announces for the new session.
        asked_s: Seconds for which sessions are to be kept.
    """
    if announced.version == "5":
        kept = (
            f"it announces to keep sessions for {duration_text(announced.keeps_session_s(asked_s))}"
        )
    else:
        kept = "MQTT 3.1.1 does not say for how long it keeps one"
    return (
        "the broker has forgotten our session, so anything it took for us while we were away is "
        f"lost: {kept}; see its session expiry and whether it keeps sessions over its own restart"
    )


def _session_text(kept_s: int, asked_s: int, consequence: str) -> str:
    return (
        f"the broker keeps our session for {duration_text(kept_s)}, asked for "
        f"{duration_text(asked_s)} (KPSTREAM_INGEST_SESSION_EXPIRY_S): {consequence}; raise the "
        "session expiry of the broker"
    )

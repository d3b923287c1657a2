"""What CONNACK announced as a table: each limit, and what it means for us. Pure.

The rules are those of `ingest.mqtt.promise`; this says them for one broker. A property that has the
value of a broker without limits has no row.
"""

from __future__ import annotations

from deploy.doctor.findings import Row
from ingest.mqtt.announced import MOST_IN_FLIGHT, Announced, duration_text
from ingest.mqtt.promise import keep_alive_s

__all__ = ["announced_rows"]


def announced_rows(
    announced: Announced, *, session_asked_s: int, keepalive_s: int, is_shared: bool = False
) -> tuple[Row, ...]:
    """Return a row for each limit of the broker, and always one for the session (MQTT 5).

    Args:
        announced: What the broker announced; MQTT 3.1.1 announces no limits.
        session_asked_s: Seconds for which it was asked to keep the session.
        keepalive_s: Our keep alive.
        is_shared: Whether the gateway needs shared subscriptions.
    """
    if announced.version != "5":
        return ()
    rows = [_session(announced.keeps_session_s(session_asked_s), session_asked_s)]
    if announced.receive_maximum < MOST_IN_FLIGHT:
        most = announced.receive_maximum
        meaning = "most messages of ours that wait for their confirmation"
        rows.append(Row("Receive Maximum", str(most), meaning))
    if announced.maximum_qos < 2:
        meaning = "enough: QoS 1 is used" if announced.maximum_qos else "nothing is confirmed"
        rows.append(Row("Maximum QoS", str(announced.maximum_qos), meaning))
    if announced.maximum_packet_bytes is not None:
        meaning = "neither devices nor we can publish larger messages"
        rows.append(Row("Maximum Packet Size", f"{announced.maximum_packet_bytes:,} B", meaning))
    if not announced.retain_available:
        meaning = "no retained messages: Sparkplug's host_id cannot work"
        rows.append(Row("Retain Available", "0", meaning))
    if not announced.wildcard_available:
        rows.append(Row("Wildcard Subscription", "0", "the gateway cannot subscribe"))
    if not announced.shared_available:
        need = "cannot work, but is set" if is_shared else "must stay unset"
        rows.append(Row("Shared Subscription", "0", f"KPSTREAM_INGEST_MQTT_SHARED_GROUP {need}"))
    if announced.keep_alive_s is not None:
        meaning = f"we ping after {keep_alive_s(announced, keepalive_s)} s of silence"
        rows.append(Row("Server Keep Alive", f"{announced.keep_alive_s} s", meaning))
    if announced.assigned_client_id is not None:
        meaning = "no session is kept under our own client id"
        rows.append(Row("Assigned Client Id", repr(announced.assigned_client_id), meaning))
    if announced.topic_alias_maximum:
        rows.append(Row("Topic Alias Maximum", str(announced.topic_alias_maximum), "not used"))
    if not announced.subscription_ids_available:
        rows.append(Row("Subscription Identifier", "0", "not used"))
    return tuple(rows)


def _session(kept_s: int, asked_s: int) -> Row:
    if kept_s >= asked_s:
        meaning = "as asked (KPSTREAM_INGEST_SESSION_EXPIRY_S)"
    else:
        meaning = f"asked for {duration_text(asked_s)}: a longer absence loses messages"
    return Row("Session Expiry", duration_text(kept_s), meaning)

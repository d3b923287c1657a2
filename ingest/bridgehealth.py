"""Counters and health of a bridge, and the start of its unbroken connection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ingest.errors import RefusalReason
from ingest.topics import topic_shape

__all__ = ["BridgeCounters", "BridgeHealth", "ConnectedSince", "clock_problem", "lost_sessions"]

_SESSION_GRACE_MS = 2000
_STALL_MS = 1000
_SHAPES = 50
_OTHER_SHAPES = "other"


@dataclass(slots=True)
class BridgeCounters:
    """Counters of the bridge since its start; every number only grows.

    Attributes:
        received_total: Messages taken from the broker, redeliveries included.
        received_bytes_total: Bytes of their bodies.
        logged_total: Accepted messages that are durable in the log, including messages of another
            format (`ingest.decoder`) that carry no readings, and probes.
        probes_total: Probes of `kpstream doctor`, of which nothing is kept
            (`ingest.topics.probe_address`).
        dead_lettered_total: Refused messages that are durable in the log, by reason.
        ticks_total: Ticks in the log.
        records_total: Records in the log (of readings, labels and dead letters).
        appends_total: Confirmed appends.
        append_failures_total: Appends that the log did not confirm.
        stale_acks_total: Acknowledgements dropped because their connection had ended.
        connects_total: Connections made, including the first one.
        sessions_lost_total: Connects at which the broker had forgotten our session.
        oversized_total: Messages above `max_packet_bytes`, of which a dead letter keeps the head.
        oversized_bytes_total: Bytes of their packets, read and discarded.
        faults_total: Messages refused because checking them raised an unexpected exception.
        stray_topics_total: Messages refused because of their topic, by its shape
            (`ingest.topics.topic_shape`); shapes beyond the first fifty count as `other`.
    """

    received_total: int = 0
    received_bytes_total: int = 0
    logged_total: int = 0
    probes_total: int = 0
    dead_lettered_total: Counter[RefusalReason] = field(default_factory=Counter)
    ticks_total: int = 0
    records_total: int = 0
    appends_total: int = 0
    append_failures_total: int = 0
    stale_acks_total: int = 0
    connects_total: int = 0
    sessions_lost_total: int = 0
    oversized_total: int = 0
    oversized_bytes_total: int = 0
    faults_total: int = 0
    stray_topics_total: Counter[str] = field(default_factory=Counter)

    def count_stray(self, topic: str) -> None:
        """Count a message on a topic that is not one of ours."""
        shape = topic_shape(topic)
        if shape not in self.stray_topics_total and len(self.stray_topics_total) >= _SHAPES:
            shape = _OTHER_SHAPES
        self.stray_topics_total[shape] += 1


@dataclass(frozen=True, slots=True)
class BridgeHealth:
    """State of the bridge at one moment.

    Attributes:
        running: The tasks that drive it are alive.
        connected: Connected to the broker, with all subscriptions in place.
        protocol: MQTT version spoken.
        connected_since_ms: Start of the unbroken connection (`Bridge.connected_since_ms`), or None.
        last_packet_ms: Time of the last message, or None.
        unconfirmed: Messages received and not yet acknowledged.
        saturated: The broker holds messages back because too many are unconfirmed, or because this
            machine's clock may be wrong.
        log_unavailable_since_ms: Start of the log's current outage, or None.
        log_unavailable_s: Its duration in whole seconds, or None.
        held: Messages that wait because this machine's clock may be wrong (`ingest.holding`).
        held_total: Messages that had to wait for this reason since the start.
        clock_problem: What is wrong with this machine's clock, human-readable, or None.
        error: Current problem, human-readable, or None.
        stray_topics: Messages refused because of their topic, by its shape (`BridgeCounters`).
        idle_ms: Time since the task that drives the connection last ran.
        connection_faults: Connections that an unforeseen exception ended.
        oversized: Messages above `max_packet_bytes`.
        announced: What the broker announced at the last connect (`ingest.mqtt.announced`), or None.
        session_expiry_asked_s: Seconds for which the broker is to keep our session.
        sessions_lost: Connects at which the broker had forgotten our session, since the start.
        session_lost_ms: When the last of them was noticed, epoch milliseconds, or None.
        promise_void: Why the broker cannot do what we need although we are connected: it may lose
            messages, or it does not take ours. Empty: it keeps what we have not confirmed.
        notices: What limits the delivery promise without making the bridge unready: a session that
            is kept for less than asked, and sessions that were lost since the start.
    """

    running: bool
    connected: bool
    protocol: str
    connected_since_ms: int | None
    last_packet_ms: int | None
    unconfirmed: int
    saturated: bool
    log_unavailable_since_ms: int | None
    log_unavailable_s: int | None
    held: int
    held_total: int
    clock_problem: str | None
    error: str | None
    stray_topics: dict[str, int] = field(default_factory=dict)
    idle_ms: int = 0
    connection_faults: int = 0
    oversized: int = 0
    announced: dict[str, Any] | None = None
    session_expiry_asked_s: int = 0
    sessions_lost: int = 0
    session_lost_ms: int | None = None
    promise_void: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class ConnectedSince:
    """The time since which silence on the connection means that a device is silent. Pure.

    Silence means nothing while messages may still wait at the broker: for two seconds after a
    connect that found an old session, while the bridge is saturated, and after the process stalled.
    Then `ms` moves forward to the present. It moves back when the clock was set back.

    Attributes:
        ms: Epoch ms; None while disconnected.
    """

    def __init__(self, now_ms: int) -> None:
        """Start disconnected."""
        self.ms: int | None = None
        self._last_ms = now_ms

    def on_connected(self, now_ms: int, *, session_present: bool) -> None:
        """Note a connect."""
        self.ms = now_ms + (_SESSION_GRACE_MS if session_present else 0)

    def on_disconnected(self) -> None:
        """Note the end of the connection."""
        self.ms = None

    def on_tick(self, now_ms: int, *, saturated: bool) -> None:
        """Note the time; call it several times a second."""
        if self.ms is not None:
            if now_ms < self._last_ms:  # the clock was set back: the earlier time means nothing
                self.ms = now_ms
            elif saturated or now_ms - self._last_ms > _STALL_MS:
                self.ms = max(self.ms, now_ms)
        self._last_ms = now_ms


def clock_problem(now_ms: int, behind_ms: int) -> str:
    """Return the text of a machine's clock that is behind, with what to do.

    >>> clock_problem(1_780_000_000_000, 5_400_000)[:70]
    "this machine's clock is wrong: it says 2026-05-28 20:26:40 UTC, about "

    Args:
        now_ms: The time of this machine, epoch milliseconds.
        behind_ms: By how much the devices are ahead of it; 0 if unknown.
    """
    behind = f", about {_span(behind_ms)} behind the devices" if behind_ms else ""
    return (
        f"this machine's clock is wrong: it says {_utc(now_ms)}{behind}. Messages "
        "wait in the broker until it is right, and none is lost: set the clock "
        "(timedatectl set-ntp true)"
    )


def lost_sessions(count: int, last_ms: int | None) -> tuple[str, ...]:
    """Return the notice about sessions that the broker had forgotten; empty: none was lost.

    Args:
        count: Sessions lost since the start.
        last_ms: When the last loss was noticed, epoch milliseconds.
    """
    if last_ms is None:
        return ()
    often = "once" if count == 1 else f"{count} times"
    return (
        f"the broker has forgotten our session {often} since the start, last noticed at "
        f"{_utc(last_ms)}: anything it took for us while we were away is lost; see its session "
        "expiry, and whether it keeps sessions over its own restart",
    )


def _utc(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _span(ms: int) -> str:
    for unit, name in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if ms >= 2 * unit:
            return f"{ms / unit:.0f} {name}"
    return f"{ms / 1000:.0f} seconds"

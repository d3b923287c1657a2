"""The rules of one MQTT connection: states, protocol version, back-off, error texts.

Pure: no socket, no clock (`now_s` is a parameter), no task. `ingest.mqtt.connection` reports what
happened and asks what to do next.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ingest.backoff import Backoff
from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.secrettext import hide_secrets

__all__ = ["TRANSITIONS", "ConnectionPolicy", "Event", "State", "Timing"]

log = logging.getLogger(__name__)

_UNSUPPORTED_VERSION = (1, 132)  # CONNACK: 1 in MQTT 3.1.1, 0x84 in MQTT 5
_TAKEN_OVER = 0x8E  # DISCONNECT of MQTT 5
_TAKEN_OVER_ERROR = "another client uses this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID)"
_CUT_SHORT_ERROR = (
    "the broker ends our connections within seconds: "
    "does another client use this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID)?"
)
"""Symptom of a session takeover with brokers that do not report it (3.1.1, old mosquitto)."""
_FAULT = "the MQTT connection was ended by an unforeseen error (see the log) and is made again"
_BACKOFF = Backoff(first_ms=200, max_ms=5_000, jitter=(0.75, 1.25), reset_after_ms=10_000)
_MOST_CUT_SHORT = 3  # connections in a row
_MOST_HANG_UPS = 2  # in a row, before the version is suspected


class State(Enum):
    """State of a connection; see `ConnectionPolicy`."""

    IDLE = "idle"
    OPENING = "opening"
    AWAITING_CONNACK = "awaiting CONNACK"
    CONNECTED = "connected"
    CLOSING = "closing"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


class Event(Enum):
    """Event that changes the state of a connection; see `ConnectionPolicy`."""

    START = "start"
    OPENED = "opened"
    UNREACHABLE = "unreachable"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    SILENT = "silent"
    ENDED = "ended"
    CLOSED = "closed"
    RETRY = "retry"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.START): State.OPENING,
    (State.OPENING, Event.OPENED): State.AWAITING_CONNACK,
    (State.OPENING, Event.UNREACHABLE): State.BACKING_OFF,
    (State.AWAITING_CONNACK, Event.ACCEPTED): State.CONNECTED,
    (State.AWAITING_CONNACK, Event.REFUSED): State.CLOSING,
    (State.AWAITING_CONNACK, Event.SILENT): State.CLOSING,
    (State.AWAITING_CONNACK, Event.ENDED): State.CLOSING,
    (State.CONNECTED, Event.REFUSED): State.CLOSING,
    (State.CONNECTED, Event.ENDED): State.CLOSING,
    (State.CLOSING, Event.REFUSED): State.CLOSING,
    (State.CLOSING, Event.ENDED): State.CLOSING,
    (State.CLOSING, Event.CLOSED): State.BACKING_OFF,
    (State.BACKING_OFF, Event.RETRY): State.OPENING,
}
"""Next state by state and event. `STOP` leads from every state to `STOPPED`, which is final."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a connection.

    Attributes:
        backoff: Pauses between attempts. Two clients with one client id are each connected for as
            long as the other one waits, so only a connection that lasts longer than two of the
            longest pauses (`reset_after_ms`) clears earlier failures.
        connack_s: Seconds that the broker has to answer CONNECT.
        sound_s: Seconds after which a connection clears the suspicion of a second client with the
            same client id.
    """

    backoff: Backoff = _BACKOFF
    connack_s: float = 2.0
    sound_s: float = 30.0


@dataclass(slots=True)
class _Attempt:
    """Facts about one attempt, from the name lookup to the closed socket."""

    began_s: float
    opened_s: float = 0.0
    accepted: bool = False
    refused_code: int | None = None  # of CONNACK
    silent: bool = False
    tls_refused: bool = False
    lost: bool = False
    publication_refused: bool = False


class ConnectionPolicy:
    """State machine of a connection, with the decisions that need its history.

    | state | event | next state |
    |---|---|---|
    | IDLE | START | OPENING |
    | OPENING (name lookup, TCP, TLS) | OPENED | AWAITING_CONNACK |
    | | UNREACHABLE | BACKING_OFF |
    | AWAITING_CONNACK | ACCEPTED | CONNECTED |
    | | REFUSED, SILENT, ENDED | CLOSING |
    | CONNECTED | REFUSED (a subscription), ENDED | CLOSING |
    | CLOSING (the socket is to be closed) | REFUSED, ENDED | CLOSING |
    | | CLOSED | BACKING_OFF |
    | BACKING_OFF | RETRY | OPENING |
    | any | STOP | STOPPED |
    | any, when the task fails (`crashed`) | | BACKING_OFF |
    | STOPPED | any | STOPPED |

    Decisions, taken when the socket has been closed:

    - **Protocol version.** With `protocol="auto"`, the other version is tried after a CONNACK that
      refuses the version, after silence, and after two hang-ups in a row without a CONNACK. A TLS
      refusal says nothing about the version. A publisher keeps its version after its first
      connection, because paho stores unconfirmed publications per client.
    - **Back-off.** Failures in a row lengthen the pause. A connection that lasted
      `backoff.reset_after_ms` clears them, and so does a refused publication, because mosquitto
      with TLS hangs up after one.
    - **Second client with our client id.** Reported by the broker (MQTT 5), or suspected after
      three lost connections in a row. `error` reports it, also while connected, until a connection
      has lasted `sound_s`.

    Attributes:
        state: Current state.
        version: MQTT version to speak.
        error: Current problem, human-readable; None: none.
        connects_total: Connections that the broker has accepted.
    """

    def __init__(
        self, endpoint: Endpoint, *, publishes: bool = False, timing: Timing | None = None
    ) -> None:
        """Start in `IDLE`.

        Args:
            endpoint: The broker, and the versions allowed.
            publishes: The connection carries publications that must survive a reconnect.
            timing: Pauses and limits; None: the defaults.
        """
        self.state = State.IDLE
        self.version: Literal["5", "3.1.1"] = "3.1.1" if endpoint.protocol == "3.1.1" else "5"
        self.error: str | None = None
        self.connects_total = 0
        self._endpoint = endpoint
        self._publishes = publishes
        self._timing = timing or Timing()
        self._attempt = _Attempt(0.0)
        self._suspicion: str | None = None  # of a second client with our client id
        self._failures = 0
        self._hang_ups = 0
        self._cut_short = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a socket to drive."""
        return self.state in (State.AWAITING_CONNACK, State.CONNECTED)

    # -- before the broker answers ----------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """Begin an attempt: the first one, or the next one after a pause."""
        self._move(Event.START if self.state is State.IDLE else Event.RETRY)
        self._attempt = _Attempt(now_s)

    def unreachable(self, reason: object) -> None:
        """Note that no socket could be opened."""
        self._move(Event.UNREACHABLE)
        self.error = hide_secrets(f"cannot reach {self._where}: {reason}")
        self._failures += 1

    def opened(self, now_s: float) -> None:
        """Note that the socket is open and CONNECT is on its way."""
        self._move(Event.OPENED)
        self._attempt.opened_s = now_s

    # -- while the socket is open -----------------------------------------------------------

    def accepted(self) -> None:
        """Note a CONNACK that accepts the connection."""
        self._move(Event.ACCEPTED)
        self._attempt.accepted = True
        self.error = self._suspicion
        self.connects_total += 1

    def refused(self, code: int, reason: str) -> None:
        """Note a CONNACK that refuses the connection."""
        self._move(Event.REFUSED)
        self._attempt.refused_code = code
        self.error = hide_secrets(f"the broker refuses us: {reason}")
        log.warning("%s: %s", self._where, self.error)

    def subscription_refused(self, error: str) -> None:
        """Note a refused subscription: without it the connection is of no use."""
        self._move(Event.REFUSED)
        self.error = error
        log.error("%s", error)

    def publication_refused(self) -> None:
        """Note that the broker refused a publication."""
        self._attempt.publication_refused = True

    def tick(self, now_s: float) -> None:
        """Apply the time limits; call it several times a second while the socket is open."""
        open_s = now_s - self._attempt.opened_s
        if self.state is State.CONNECTED:
            if self._suspicion and open_s > self._timing.sound_s:
                self._suspicion = self.error = None
        elif self.state is State.AWAITING_CONNACK and open_s > self._timing.connack_s:
            self._move(Event.SILENT)
            self._attempt.silent = True
            self.error = f"the broker does not answer our CONNECT (MQTT {self.version})"

    def ended(self, code: int | None = None, reason: str = "") -> None:
        """Note the end of the connection.

        Args:
            code: Reason code of the broker's DISCONNECT, or of the client library; None: unknown.
            reason: The same as text.
        """
        if self.state is State.STOPPED:
            return
        self._move(Event.ENDED)
        if code == _TAKEN_OVER:
            self._suspect(_TAKEN_OVER_ERROR)
        elif code is not None and self.error is None:
            self._lose(reason)

    def broken(self, reason: object, tls_advice: str | None) -> None:
        """Note that reading or writing failed.

        Args:
            reason: The error.
            tls_advice: Advice, if TLS is the cause. With TLS 1.3 a broker refuses our
                certificate by ending a connection that is already open.
        """
        if self.state is State.STOPPED:
            return
        self._move(Event.ENDED)
        self._attempt.tls_refused = tls_advice is not None
        if tls_advice is None:
            self._lose(reason)
        else:
            self.error = tls_advice

    def faulted(self, error: Exception) -> None:
        """Note an exception in a callback: the connection ends and is made again."""
        if self.state is not State.STOPPED:
            self._move(Event.ENDED)
            is_known = isinstance(error, MqttError)
            self.error = str(error) if is_known else f"{_FAULT}: {type(error).__name__}: {error}"

    def crashed(self, error: Exception) -> None:
        """Note an unforeseen exception of the task itself, in any state."""
        if self.state is not State.STOPPED:
            self.state = State.BACKING_OFF
            self.error = f"{_FAULT}: {type(error).__name__}: {error}"
            self._failures += 1

    # -- after the socket is closed ---------------------------------------------------------

    def closed(self, now_s: float) -> None:
        """Note that the socket has been closed, and decide about version and back-off."""
        if self.state is State.STOPPED:
            return
        self._move(Event.CLOSED)
        attempt = self._attempt
        if attempt.accepted:
            self._hang_ups = 0
            self._judge_connection((now_s - attempt.began_s) * 1000)
        elif not attempt.tls_refused and self._may_change_version:
            self._judge_version()
        self._failures += 1

    def pause_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        return self._timing.backoff.delay_ms(self._failures) / 1000

    def stop(self) -> None:
        """Enter `STOPPED`."""
        self.state = State.STOPPED

    # -- decisions --------------------------------------------------------------------------

    def _judge_connection(self, held_ms: float) -> None:
        attempt = self._attempt
        if held_ms > self._timing.backoff.reset_after_ms and self._suspicion is None:
            self._failures = self._cut_short = 0
        elif attempt.publication_refused:
            self._failures = 0
        elif attempt.lost:
            self._cut_short += 1
            if self._cut_short >= _MOST_CUT_SHORT and self._suspicion is None:
                self._suspect(_CUT_SHORT_ERROR)

    @property
    def _may_change_version(self) -> bool:
        return self._endpoint.protocol == "auto" and not (self._publishes and self.connects_total)

    def _judge_version(self) -> None:
        attempt = self._attempt
        self._hang_ups += attempt.refused_code is None
        unsupported = attempt.refused_code in _UNSUPPORTED_VERSION
        if unsupported or attempt.silent or self._hang_ups >= _MOST_HANG_UPS:
            self.version = "3.1.1" if self.version == "5" else "5"
            self._hang_ups = 0
            log.info("the broker does not accept our MQTT version, trying %s", self.version)

    def _suspect(self, error: str) -> None:
        if self._suspicion != error:
            log.error("%s: %s", self._where, error)
        self._suspicion = self.error = error

    def _lose(self, reason: object) -> None:
        hint = ""
        if not self._attempt.accepted and not self._endpoint.tls:
            hint = "; is it a port for TLS (KPSTREAM_INGEST_MQTT_TLS)?"
        self.error = hide_secrets(f"connection lost: {reason}{hint}")
        self._attempt.lost = True

    @property
    def _where(self) -> str:
        return f"{self._endpoint.host}:{self._endpoint.port}"

    def _move(self, event: Event) -> None:
        if self.state is State.STOPPED:
            return
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            msg = f"connection to {self._where}: {event.name} is impossible in {self.state.name}"
            raise MqttError(msg)
        self.state = after

"""The rules of one MQTT connection: states, protocol version, back-off, error texts.

Pure: no socket, no clock (`now_s` is a parameter), no task. `ingest.mqtt.connection` reports what
happened and asks what to do next.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ingest.backoff import Backoff
from ingest.errors import MqttError
from ingest.mqtt.attempt import Attempt
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.problem import Kind, Problem, Until
from ingest.mqtt.reasons import (
    TAKEN_OVER,
    UNSUPPORTED_VERSION,
    Ending,
    cut_text,
    end_text,
    refusal_text,
    silence_text,
    speaks_tls_text,
    unreachable_text,
    version_text,
)
from ingest.mqtt.versions import Version, VersionChoice, VersionMemory
from ingest.patience import REACH_S, Patience
from ingest.tls import TlsSilent

__all__ = ["TRANSITIONS", "ConnectionPolicy", "Event", "State", "Timing"]

log = logging.getLogger(__name__)

_FAULT = "the MQTT connection was ended by an unforeseen error (see the log) and is made again"
_BACKOFF = Backoff(first_ms=200, max_ms=5_000, jitter=(0.75, 1.25), reset_after_ms=10_000)
_PATIENCE = Patience()
_MOST_CUT_SHORT = 3  # connections in a row
_QUICK_SHARE = 0.25  # of the limit, see `VersionChoice.accepted`
_TLS_CHECK_EVERY = 16  # hang-ups in a row


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
    (State.CONNECTED, Event.SILENT): State.CLOSING,
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
        patience: Seconds that the broker has to answer CONNECT, and SUBSCRIBE.
        sound_s: Seconds after which a connection clears the reason that ended several before it.
    """

    backoff: Backoff = _BACKOFF
    patience: Patience = _PATIENCE
    sound_s: float = 30.0


class ConnectionPolicy:
    """State machine of a connection, with the decisions that need its history.

    | state | event | next state |
    |---|---|---|
    | IDLE | START | OPENING |
    | OPENING (name lookup, TCP, TLS) | OPENED | AWAITING_CONNACK |
    | | UNREACHABLE | BACKING_OFF |
    | AWAITING_CONNACK | ACCEPTED | CONNECTED |
    | | REFUSED, SILENT, ENDED | CLOSING |
    | CONNECTED | REFUSED (a subscription), SILENT (no SUBACK), ENDED | CLOSING |
    | CLOSING (the socket is to be closed) | REFUSED, ENDED | CLOSING |
    | | CLOSED | BACKING_OFF |
    | BACKING_OFF | RETRY | OPENING |
    | any | STOP | STOPPED |
    | any, when the task fails (`crashed`) | | BACKING_OFF |
    | STOPPED | any | STOPPED |

    Decisions, taken when the socket has been closed:

    - **Protocol version**: `ingest.mqtt.versions`. A publisher keeps its version after its first
      connection, because paho stores unconfirmed publications per client. A TLS refusal says
      nothing about the version.
    - **Patience**: every silence lengthens the limit of CONNACK and SUBACK (`ingest.patience`). A
      trial of the other version has the limit at which the usual one was silent, no more.
    - **Back-off.** Failures in a row lengthen the pause. A connection that lasted
      `backoff.reset_after_ms` clears them, and so does a refused publication, because mosquitto
      with TLS hangs up after one.
    - **What to say**: `ingest.mqtt.reasons`. The text stays until the step that failed has
      succeeded; that of three connections in a row, until a connection has lasted `sound_s`.

    Attributes:
        state: Current state.
        connects_total: Connections that the broker has accepted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        publishes: bool = False,
        timing: Timing | None = None,
        versions: VersionMemory | None = None,
    ) -> None:
        """Start in `IDLE`.

        Args:
            endpoint: The broker, and the versions allowed.
            publishes: The connection carries publications that must survive a reconnect.
            timing: Pauses and limits; None: the defaults.
            versions: Memory of the version that this broker has accepted; None: there is none.
        """
        self.state = State.IDLE
        self.connects_total = 0
        self._endpoint = endpoint
        self._publishes = publishes
        self._timing = timing or Timing()
        self._attempt = Attempt(0.0)
        self._memory = versions
        known = None if versions is None else versions.read()
        self._versions = VersionChoice(endpoint.protocol, known)
        self._problem = Problem(self._where)
        self._silences = 0
        self._failures = 0
        self._hang_ups = 0
        self._cut_short = 0
        self._ends_at_publish = 0

    @property
    def version(self) -> Version:
        """MQTT version to speak."""
        return self._versions.version

    @property
    def error(self) -> str | None:
        """Current problem, human-readable; None: there is none."""
        return self._problem.text

    @property
    def is_open(self) -> bool:
        """Whether there is a socket to drive."""
        return self.state in (State.AWAITING_CONNACK, State.CONNECTED)

    @property
    def limit_s(self) -> float:
        """Seconds that the broker has to answer now."""
        return self._timing.patience.limit_s(self._silences)

    @property
    def is_promising(self) -> bool:
        """Whether an attempt is under way, or the next one is more patient than the last one."""
        if self.state is not State.BACKING_OFF:
            return self.state is not State.STOPPED
        before_s = self._timing.patience.limit_s(max(0, self._silences - 1))
        is_longer = self._versions.is_trial or self.limit_s > before_s
        return self._attempt.is_silent and is_longer

    def waiting(self, now_s: float) -> str | None:
        """Return what the connection waits for, as text; None: for nothing."""
        if self.state is State.OPENING:
            return f"opening a connection to {self._where}"
        if self.is_open and self._is_waiting:
            for_s = max(0.0, now_s - self._attempt.waiting_s)
            return f"waiting for {for_s:.0f} s for the answer of {self._where} to {self._step}"
        return None

    # -- before the broker answers ----------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """Begin an attempt: the first one, or the next one after a pause."""
        self._move(Event.START if self.state is State.IDLE else Event.RETRY)
        # Publications that no PUBACK answered are sent again.
        topic = self._attempt.topic if self._publishes else None
        self._attempt = Attempt(now_s, topic=topic)

    def unreachable(self, reason: object) -> None:
        """Note that no socket could be opened."""
        self._move(Event.UNREACHABLE)
        self._silences += isinstance(reason, TlsSilent)
        text = unreachable_text(self._where, reason, REACH_S)
        self._problem.show(text, Until.ACCEPTED, Kind.FACT)
        self._failures += 1

    def opened(self, now_s: float) -> None:
        """Note that the socket is open and CONNECT is on its way."""
        self._move(Event.OPENED)
        self._attempt.opened_s = self._attempt.waiting_s = now_s

    # -- while the socket is open -----------------------------------------------------------

    def accepted(self, now_s: float, *, is_kept: bool = False) -> None:
        """Note a CONNACK that accepts the connection.

        Args:
            now_s: Monotonic time, seconds.
            is_kept: Whether the broker had kept our session.
        """
        self._move(Event.ACCEPTED)
        self._attempt.accepted, self._attempt.is_kept = True, is_kept
        is_quick = now_s - self._attempt.waiting_s < _QUICK_SHARE * self.limit_s
        self.connects_total += 1
        self._hang_ups = 0
        if self._versions.accepted(is_quick=is_quick) and self._memory is not None:
            self._memory.write(self.version)
        self._problem.clear(Until.ACCEPTED)

    @property
    def wants_version_check(self) -> bool:
        """Whether the accepted version is in doubt; see `ingest.mqtt.versionprobe`."""
        is_connected = self.state is State.CONNECTED
        return is_connected and self._versions.is_in_doubt and self._may_change_version

    def version_checked(self, answers_5: bool | None) -> None:
        """Note whether the broker answers MQTT 5 while it accepts 3.1.1; None: not known."""
        if answers_5 is False and self.wants_version_check:
            self._versions.proved()
            if self._memory is not None:
                self._memory.write(self.version)

    def subscribing(self, filters: Sequence[str], now_s: float) -> None:
        """Note that SUBSCRIBE is on its way."""
        self._attempt.filters = filters
        self._attempt.waiting_s = now_s

    def ready(self) -> None:
        """Note that the broker has accepted all subscriptions, or that there are none."""
        self._attempt.filters, self._attempt.is_ready = (), True
        self._problem.clear(Until.READY)

    def refused(self, code: int, reason: str) -> None:
        """Note a CONNACK that refuses the connection."""
        self._move(Event.REFUSED)
        self._attempt.is_judged = True
        if code != UNSUPPORTED_VERSION:
            self._versions.answered()
            self._problem.show(refusal_text(code, reason), Until.ACCEPTED, Kind.GIVEN)
            return
        version, may_change = self.version, self._may_change_version
        if may_change:
            self._versions.refused()
        both = self._versions.both_refused
        text = version_text(version, is_fixed=self._versions.is_fixed, both_refused=both)
        if may_change and not both:
            log.info("%s: %s, trying %s", self._where, text, self.version)
        else:
            self._problem.show(text, Until.ACCEPTED, Kind.GIVEN)

    def subscription_refused(self, error: str) -> None:
        """Note a refused subscription: without it the connection is of no use."""
        self._move(Event.REFUSED)
        self._attempt.filters = ()
        self._attempt.is_judged = True
        self._problem.show(error, Until.READY, Kind.GIVEN, logging.ERROR)

    def published(self, topic: str) -> None:
        """Note a publication of ours that the broker has to answer."""
        if self._attempt.topic is None and not self._attempt.has_puback:
            self._attempt.topic = topic

    def publication_answered(self, *, is_refused: bool = False) -> None:
        """Note the answer to a publication."""
        self._attempt.topic, self._attempt.has_puback = None, True
        self._ends_at_publish = 0
        self._attempt.publication_refused |= is_refused

    def tick(self, now_s: float, *, is_heard: bool = False) -> None:
        """Apply the time limits; call it several times a second while the socket is open.

        Args:
            now_s: Monotonic time, seconds.
            is_heard: Whether bytes have come since the last call, or were not read. Messages of a
                kept session can come before SUBACK.
        """
        attempt = self._attempt
        if is_heard:
            attempt.waiting_s = now_s
        if not self.is_open:
            return
        if not self._is_waiting and now_s - attempt.opened_s > self._timing.sound_s:
            self._problem.clear(Until.SOUND)
        elif self._is_waiting and now_s - attempt.waiting_s > self.limit_s:
            self._give_up_waiting()

    def ended(self, ending: Ending) -> None:
        """Note the end of the connection; the first end of an attempt counts."""
        if self.state is State.STOPPED:
            return
        self._move(Event.ENDED)
        attempt = self._attempt
        if attempt.is_judged:
            return
        attempt.is_judged = True
        is_given = ending.kind == "given"
        attempt.is_hang_up = not attempt.accepted and not is_given
        self._ends_at_publish += attempt.accepted and attempt.topic is not None
        text = end_text(
            ending,
            connect=None if attempt.accepted else self.version,
            is_fixed=self._versions.is_fixed,
            filters=attempt.filters,
            topic=attempt.topic,
            is_repeated=self._ends_at_publish > 1,
            is_kept=attempt.is_kept,
        )
        if attempt.publication_refused and not is_given:
            text += "; it had refused a publication of ours"
        if ending.code == TAKEN_OVER:
            self._problem.show(text, Until.SOUND, Kind.GIVEN, logging.ERROR)
            return
        attempt.is_quiet = attempt.accepted and not (is_given or attempt.filters or attempt.topic)
        kinds = {"given": Kind.GIVEN, "closed": Kind.BARE, "no_ping": Kind.FACT}
        self._problem.show(text, self._until, kinds[ending.kind])

    def broken(self, reason: object, tls_advice: str | None) -> None:
        """Note that reading or writing failed.

        Args:
            reason: The error.
            tls_advice: Advice, if TLS is the cause. With TLS 1.3 a broker refuses our
                certificate by ending a connection that is already open.
        """
        if tls_advice is None:
            text = getattr(reason, "strerror", None) or str(reason)
            self.ended(Ending("closed", 0, text))
        elif self.state is not State.STOPPED:
            self._move(Event.ENDED)
            self._attempt.is_judged = True
            self._problem.show(tls_advice, Until.READY, Kind.FACT)

    def faulted(self, error: Exception) -> None:
        """Note an exception in a callback: the connection ends and is made again."""
        if self.state is not State.STOPPED:
            self._move(Event.ENDED)
            self._attempt.is_judged = True
            is_known = isinstance(error, MqttError)
            text = str(error) if is_known else f"{_FAULT}: {type(error).__name__}: {error}"
            self._problem.show(text, self._until, Kind.FACT)

    def crashed(self, error: Exception) -> None:
        """Note an unforeseen exception of the task itself, in any state."""
        if self.state is not State.STOPPED:
            self.state = State.BACKING_OFF
            text = f"{_FAULT}: {type(error).__name__}: {error}"
            self._problem.show(text, Until.ACCEPTED, Kind.FACT)
            self._failures += 1

    # -- after the socket is closed ---------------------------------------------------------

    def closed(self, now_s: float) -> None:
        """Note that the socket has been closed, and decide about version and back-off."""
        if self.state is State.STOPPED:
            return
        self._move(Event.CLOSED)
        attempt = self._attempt
        if attempt.accepted:
            if self._may_change_version:
                self._versions.ended()
            self._judge_connection((now_s - attempt.began_s) * 1000)
        elif attempt.is_hang_up:
            self._hang_ups += 1
            if self._may_change_version:
                self._versions.unanswered(is_silence=False)
        self._failures += 1

    @property
    def wants_tls_check(self) -> bool:
        """Whether to find out if the port speaks TLS, which it did not say; see `speaks_tls`."""
        is_due = self._attempt.is_hang_up and self._hang_ups % _TLS_CHECK_EVERY == 1
        return is_due and not self._endpoint.tls and self.state is State.BACKING_OFF

    def speaks_tls(self) -> None:
        """Note that a TLS handshake with the port worked, although we are to speak without TLS."""
        self._problem.show(speaks_tls_text(self._where), Until.ACCEPTED, Kind.GIVEN)

    def pause_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        return self._timing.backoff.delay_ms(self._failures) / 1000

    def stop(self) -> None:
        """Enter `STOPPED`."""
        self.state = State.STOPPED

    # -- decisions --------------------------------------------------------------------------

    def _judge_connection(self, held_ms: float) -> None:
        attempt = self._attempt
        if held_ms > self._timing.backoff.reset_after_ms and not self._problem.is_lasting:
            self._failures = self._cut_short = 0
        elif attempt.publication_refused:
            self._failures = 0
        elif attempt.is_ready:
            self._cut_short += 1
            if self._cut_short < _MOST_CUT_SHORT:
                return
            if not attempt.is_quiet or self._problem.is_given:
                self._problem.keep()
            elif not self._problem.is_lasting:
                text = cut_text(_MOST_CUT_SHORT, publishes=self._publishes)
                self._problem.show(text, Until.SOUND, Kind.FACT, logging.ERROR)

    def _give_up_waiting(self) -> None:
        step, limit_s, version = self._step, self.limit_s, self.version
        self._move(Event.SILENT)
        self._attempt.is_judged = self._attempt.is_silent = True
        if not self._attempt.accepted and self._may_change_version:
            self._versions.unanswered(is_silence=True)
        self._silences += not self._versions.is_trial
        other = None if self.version == version else self.version
        text = silence_text(step, limit_s, self.limit_s, other)
        self._problem.show(text, self._until, Kind.FACT)

    @property
    def _is_waiting(self) -> bool:
        """Whether the broker owes the answer to CONNECT or SUBSCRIBE."""
        return self.state is State.AWAITING_CONNACK or bool(self._attempt.filters)

    @property
    def _step(self) -> str:
        if self.state is State.AWAITING_CONNACK:
            return f"our CONNECT (MQTT {self.version})"
        return f"our subscription to {', '.join(map(repr, self._attempt.filters))}"

    @property
    def _may_change_version(self) -> bool:
        return not self._versions.is_fixed and not (self._publishes and self.connects_total)

    @property
    def _until(self) -> Until:
        """The step that clears a problem of this attempt."""
        return Until.READY if self._attempt.accepted else Until.ACCEPTED

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

"""The table of states, and the decisions that need a connection's history."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest

from ingest.backoff import Backoff
from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.policy import TRANSITIONS, ConnectionPolicy, Event, State, Timing

TIMING = Timing(Backoff(first_ms=200, max_ms=5_000, reset_after_ms=10_000))
NOT_AUTHORIZED = (0x87, "Not authorized")
UNSUPPORTED = (0x84, "Unsupported protocol version")
LOST = (0x80, "Unspecified error")
TAKEN_OVER = (0x8E, "Session taken over")

TO = {
    State.IDLE: [],
    State.OPENING: [lambda policy: policy.begin(0.0)],
    State.AWAITING_CONNACK: [lambda policy: policy.begin(0.0), lambda policy: policy.opened(0.0)],
}
TO[State.CONNECTED] = [*TO[State.AWAITING_CONNACK], lambda policy: policy.accepted()]
TO[State.CLOSING] = [*TO[State.CONNECTED], lambda policy: policy.ended(*LOST)]
TO[State.BACKING_OFF] = [*TO[State.CLOSING], lambda policy: policy.closed(1.0)]
TO[State.STOPPED] = [lambda policy: policy.stop()]

CALLS: dict[Event, list[Callable[[ConnectionPolicy], None]]] = {
    Event.START: [lambda policy: policy.begin(2.0)],
    Event.OPENED: [lambda policy: policy.opened(2.0)],
    Event.UNREACHABLE: [lambda policy: policy.unreachable("no route")],
    Event.ACCEPTED: [lambda policy: policy.accepted()],
    Event.REFUSED: [
        lambda policy: policy.refused(*NOT_AUTHORIZED),
        lambda policy: policy.subscription_refused("refused"),
    ],
    Event.ENDED: [
        lambda policy: policy.ended(),
        lambda policy: policy.ended(*LOST),
        lambda policy: policy.ended(*TAKEN_OVER),
        lambda policy: policy.broken("reset by peer", None),
        lambda policy: policy.broken("alert", "renew the certificate"),
    ],
    Event.CLOSED: [lambda policy: policy.closed(2.0)],
    Event.RETRY: [lambda policy: policy.begin(2.0)],
    Event.STOP: [lambda policy: policy.stop()],
}


def policy_for(protocol: str = "auto", **options: bool) -> ConnectionPolicy:
    endpoint = Endpoint("broker", 1883, "us", protocol=protocol)  # type: ignore[arg-type]
    return ConnectionPolicy(endpoint, timing=TIMING, **options)


def policy_in(state: State) -> ConnectionPolicy:
    policy = policy_for()
    for step in TO[state]:
        step(policy)
    assert policy.state is state
    return policy


@pytest.mark.parametrize(("state", "event"), list(product(State, CALLS)))
def test_every_event_in_every_state(state: State, event: Event) -> None:
    if event in (Event.START, Event.RETRY):
        event = Event.START if state is State.IDLE else Event.RETRY
    for call in CALLS[event]:
        policy = policy_in(state)
        if event is Event.STOP or state is State.STOPPED:
            call(policy)
            assert policy.state is State.STOPPED
        elif (after := TRANSITIONS.get((state, event))) is not None:
            call(policy)
            assert policy.state is after
        else:
            with pytest.raises(MqttError, match=f"{event.name} is impossible in {state.name}"):
                call(policy)
            assert policy.state is state


def test_the_docstring_shows_the_whole_table() -> None:
    shown, before = {}, ""
    for line in str(ConnectionPolicy.__doc__).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|") or cells[0] in ("state", "---", "any", "STOPPED"):
            continue
        before = cells[0].split(" ")[0] or before
        for event in re.findall(r"[A-Z]+", re.sub(r"\(.*?\)", "", cells[1])):
            shown[State[before], Event[event]] = State[cells[2]]
    assert shown == TRANSITIONS


def test_silence_after_connect_ends_the_attempt() -> None:
    policy = policy_in(State.AWAITING_CONNACK)
    policy.tick(2.0)
    assert policy.state is State.AWAITING_CONNACK
    policy.tick(2.1)
    assert policy.state is State.CLOSING
    assert policy.error == "the broker does not answer our CONNECT (MQTT 5)"


Step = Callable[[ConnectionPolicy], None]


def attempt(policy: ConnectionPolicy, *steps: Step, lasts_s: float = 1.0) -> None:
    policy.begin(100.0)
    policy.opened(100.0)
    for step in steps:
        step(policy)
    policy.closed(100.0 + lasts_s)


ACCEPTED: Step = lambda policy: policy.accepted()  # noqa: E731
CUT: Step = lambda policy: policy.ended(*LOST)  # noqa: E731
SILENCE: Step = lambda policy: policy.tick(200.0)  # noqa: E731
UNSUPPORTED_5: Step = lambda policy: policy.refused(*UNSUPPORTED)  # noqa: E731
UNSUPPORTED_311: Step = lambda policy: policy.refused(1, "unsupported")  # noqa: E731
REFUSES: Step = lambda policy: policy.refused(*NOT_AUTHORIZED)  # noqa: E731
TLS_REFUSES: Step = lambda policy: policy.broken("alert", "set CERT_FILE")  # noqa: E731


@pytest.mark.parametrize(
    ("attempts", "version"),
    [
        ([[UNSUPPORTED_5]], "3.1.1"),
        ([[UNSUPPORTED_311]], "3.1.1"),
        ([[SILENCE]], "3.1.1"),
        ([[CUT]], "5"),
        ([[CUT], [CUT]], "3.1.1"),
        ([[CUT], [CUT], [CUT], [CUT]], "5"),
        ([[CUT], [ACCEPTED, CUT], [CUT]], "5"),
        ([[REFUSES]] * 5, "5"),
        ([[TLS_REFUSES]] * 5, "5"),
        ([[ACCEPTED, CUT]] * 5, "5"),
    ],
)
def test_attempts_that_change_the_version(attempts: list[list[Step]], version: str) -> None:
    policy, fixed = policy_for(), policy_for("5")
    for steps in attempts:
        attempt(policy, *steps)
        attempt(fixed, *steps)
    assert policy.version == version
    assert fixed.version == "5"


def test_an_unreachable_broker_does_not_change_the_version() -> None:
    policy = policy_for()
    for _ in range(5):
        policy.begin(0.0)
        policy.unreachable("no route")
    assert policy.version == "5"
    assert policy.error == "cannot reach broker:1883: no route"


def test_a_publisher_keeps_its_version_after_its_first_connection() -> None:
    policy = policy_for(publishes=True)
    attempt(policy, UNSUPPORTED_5)
    assert policy.version == "3.1.1"
    attempt(policy, ACCEPTED, CUT)
    for _ in range(4):
        attempt(policy, SILENCE)
    assert policy.version == "3.1.1"


def test_pauses_grow_until_a_connection_has_lasted() -> None:
    policy = policy_for()
    pauses = []
    for _ in range(3):
        attempt(policy, REFUSES)
        pauses.append(policy.pause_s())
    attempt(policy, ACCEPTED, CUT, lasts_s=9.9)
    pauses.append(policy.pause_s())
    attempt(policy, ACCEPTED, CUT, lasts_s=10.1)
    pauses.append(policy.pause_s())
    assert pauses == [0.2, 0.4, 0.8, 1.6, 0.2]


def test_a_refused_publication_explains_the_end_of_the_connection() -> None:
    policy = policy_for()
    for _ in range(5):
        attempt(policy, ACCEPTED, lambda policy: policy.publication_refused(), CUT)
        assert policy.pause_s() == 0.2
        assert "connection lost" in str(policy.error)


@pytest.mark.parametrize("broker_reports", [True, False])
def test_a_second_client_with_our_id_is_reported_until_a_connection_has_lasted(
    broker_reports: bool, caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_for()
    end: Step = (lambda policy: policy.ended(*TAKEN_OVER)) if broker_reports else CUT
    for _ in range(1 if broker_reports else 3):
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" not in str(policy.error)
        attempt(policy, ACCEPTED, end)
    for _ in range(3):
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(policy.error)
        attempt(policy, ACCEPTED, end, lasts_s=20.0)  # does not clear it
    policy.begin(100.0)
    policy.opened(100.0)
    policy.accepted()
    policy.tick(130.0)
    assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(policy.error)
    policy.tick(130.1)
    assert policy.error is None
    assert caplog.text.count("KPSTREAM_INGEST_MQTT_CLIENT_ID") == 1


def test_a_lost_connection_without_an_answer_suggests_tls() -> None:
    policy = policy_in(State.AWAITING_CONNACK)
    policy.broken("reset by peer", None)
    assert policy.error == (
        "connection lost: reset by peer; is it a port for TLS (KPSTREAM_INGEST_MQTT_TLS)?"
    )


def test_nothing_changes_the_error_after_stop() -> None:
    policy = policy_in(State.CONNECTED)
    policy.stop()
    policy.ended(*TAKEN_OVER)
    policy.broken("reset by peer", None)
    policy.closed(3.0)
    assert policy.error is None

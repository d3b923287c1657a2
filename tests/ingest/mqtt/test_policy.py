"""The table of states, and the decisions that need a connection's history."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from itertools import product

import pytest

from ingest.backoff import Backoff
from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.policy import TRANSITIONS, ConnectionPolicy, Event, State, Timing
from ingest.mqtt.reasons import Ending
from ingest.mqtt.versions import Version
from ingest.patience import Patience
from ingest.tls import TlsSilent

BACKOFF = Backoff(first_ms=200, max_ms=5_000, reset_after_ms=10_000)
TIMING = Timing(BACKOFF, Patience(first_s=10, most_s=60))
NOT_AUTHORIZED = (0x87, "Not authorized")
UNSUPPORTED = (0x84, "Unsupported protocol version")
LOST = Ending("closed")
SHUTDOWN = Ending("given", 0x8B, "Server shutting down")
TAKEN_OVER = Ending("given", 0x8E, "Session taken over")
FILTERS = ("sensors/#",)

TO = {
    State.IDLE: [],
    State.OPENING: [lambda policy: policy.begin(0.0)],
    State.AWAITING_CONNACK: [lambda policy: policy.begin(0.0), lambda policy: policy.opened(0.0)],
}
TO[State.CONNECTED] = [*TO[State.AWAITING_CONNACK], lambda policy: policy.accepted(100.0)]
TO[State.CLOSING] = [*TO[State.CONNECTED], lambda policy: policy.ended(LOST)]
TO[State.BACKING_OFF] = [*TO[State.CLOSING], lambda policy: policy.closed(1.0)]
TO[State.STOPPED] = [lambda policy: policy.stop()]

CALLS: dict[Event, list[Callable[[ConnectionPolicy], None]]] = {
    Event.START: [lambda policy: policy.begin(2.0)],
    Event.OPENED: [lambda policy: policy.opened(2.0)],
    Event.UNREACHABLE: [lambda policy: policy.unreachable("no route")],
    Event.ACCEPTED: [lambda policy: policy.accepted(100.0)],
    Event.REFUSED: [
        lambda policy: policy.refused(*NOT_AUTHORIZED),
        lambda policy: policy.subscription_refused("refused"),
    ],
    Event.ENDED: [
        lambda policy: policy.ended(SHUTDOWN),
        lambda policy: policy.ended(LOST),
        lambda policy: policy.ended(TAKEN_OVER),
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


Step = Callable[[ConnectionPolicy], None]


def attempt(policy: ConnectionPolicy, *steps: Step, lasts_s: float = 1.0) -> None:
    policy.begin(100.0)
    policy.opened(100.0)
    for step in steps:
        step(policy)
    policy.closed(100.0 + lasts_s)


def silence(policy: ConnectionPolicy) -> None:
    policy.tick(100.0 + policy.limit_s)
    assert policy.is_open
    policy.tick(100.1 + policy.limit_s)
    assert policy.state is State.CLOSING


ACCEPTED: Step = lambda policy: policy.accepted(100.0)  # noqa: E731
SUBSCRIBING: Step = lambda policy: policy.subscribing(FILTERS, 100.0)  # noqa: E731
READY: Step = lambda policy: policy.ready()  # noqa: E731
CUT: Step = lambda policy: policy.ended(LOST)  # noqa: E731
UNSUPPORTED_NOW: Step = lambda policy: policy.refused(*UNSUPPORTED)  # noqa: E731
REFUSES: Step = lambda policy: policy.refused(*NOT_AUTHORIZED)  # noqa: E731
TLS_REFUSES: Step = lambda policy: policy.broken("alert", "set CERT_FILE")  # noqa: E731
SHUTS_DOWN: Step = lambda policy: policy.ended(SHUTDOWN)  # noqa: E731
TAKES_OVER: Step = lambda policy: policy.ended(TAKEN_OVER)  # noqa: E731
PUBLISHES: Step = lambda policy: policy.published("out/a")  # noqa: E731
CONFIRMS: Step = lambda policy: policy.publication_answered()  # noqa: E731
NO_PING: Step = lambda policy: policy.ended(Ending("no_ping"))  # noqa: E731
GARBAGE: Step = lambda policy: policy.faulted(MqttError("it speaks HTTP"))  # noqa: E731
READY_NOW = [ACCEPTED, SUBSCRIBING, READY]
NO_REASON = "the broker gave no reason"
MAY_NOT_READ = (
    "the broker closed the connection when we subscribed to 'sensors/#', and gave no reason; "
    "check that its access list lets us read that, and look into its log"
)

# The table of cases: what the broker did, what we say, which version comes next.
CASES: dict[str, tuple[list[list[Step]], str, str]] = {
    "refuses the version": ([[UNSUPPORTED_NOW]], "None", "3.1.1"),
    "refuses both versions": (
        [[UNSUPPORTED_NOW], [UNSUPPORTED_NOW]],
        "the broker refuses both MQTT 5 and MQTT 3.1.1 (Unsupported protocol version)",
        "5",
    ),
    "refuses us": (
        [[REFUSES]] * 5,
        "the broker refuses us: Not authorized; check KPSTREAM_INGEST_MQTT_USERNAME",
        "5",
    ),
    "hangs up once": (
        [[CUT]],
        "the connection was closed before the broker answered our CONNECT (MQTT 5), and no reason "
        "was given",
        "5",
    ),
    "hangs up twice": ([[CUT]] * 2, "before the broker answered our CONNECT (MQTT 5)", "3.1.1"),
    "hangs up on both": ([[CUT]] * 3, "before the broker answered our CONNECT (MQTT 3.1.1)", "5"),
    "hangs up after a reason": (
        [[REFUSES], [CUT], [CUT]],
        "the broker refuses us: Not authorized; check KPSTREAM_INGEST_MQTT_USERNAME",
        "5",
    ),
    "refuses our certificate": ([[TLS_REFUSES]] * 5, "set CERT_FILE", "5"),
    "is silent": (
        [[silence]],
        "the broker has not answered our CONNECT (MQTT 5) for 10 s; the next attempt waits up to "
        "10 s, with MQTT 3.1.1",
        "3.1.1",
    ),
    "is silent to both": (
        [[silence]] * 2,
        "the broker has not answered our CONNECT (MQTT 3.1.1) for 10 s; the next attempt waits up "
        "to 20 s, with MQTT 5",
        "5",
    ),
    "is silent on": (
        [[silence]] * 3,
        "the broker has not answered our CONNECT (MQTT 5) for 20 s; the next attempt waits up to "
        "40 s",
        "5",
    ),
    "is not a broker": ([[GARBAGE]] * 5, "it speaks HTTP", "5"),
    "ends at SUBSCRIBE": ([[ACCEPTED, SUBSCRIBING, CUT]] * 5, MAY_NOT_READ, "5"),
    "ends at SUBSCRIBE with a reason": (
        [[ACCEPTED, SUBSCRIBING, SHUTS_DOWN]] + [[ACCEPTED, SUBSCRIBING, CUT]] * 4,
        "the broker ended the connection when we subscribed to 'sensors/#': Server shutting down",
        "5",
    ),
    "is silent to SUBSCRIBE": (
        [[ACCEPTED, SUBSCRIBING, silence]],
        "the broker has not answered our subscription to 'sensors/#' for 10 s; the next attempt "
        "waits up to 20 s",
        "5",
    ),
    "ends at PUBLISH": (
        [[*READY_NOW, PUBLISHES, CUT]],
        f"connection lost when we published on 'out/a'; {NO_REASON}",
        "5",
    ),
    "ends at PUBLISH again": (
        [[*READY_NOW, PUBLISHES, CUT]] * 2,
        "the broker closed the connection when we published on 'out/a', and gave no reason; check "
        "that its access list lets us publish there, and look into its log",
        "5",
    ),
    "ends later": (
        [[*READY_NOW, PUBLISHES, CONFIRMS, PUBLISHES, CUT]],
        f"connection lost; {NO_REASON}",
        "5",
    ),
    "gives a reason": (
        [[*READY_NOW, SHUTS_DOWN]] * 5,
        "the broker ended the connection: Server shutting down",
        "5",
    ),
    "does not answer a ping": (
        [[*READY_NOW, NO_PING]],
        "the broker has not answered our ping; the connection is made again",
        "5",
    ),
    "takes over": ([[*READY_NOW, TAKES_OVER]], "Session taken over; another client uses", "5"),
    "cuts a quiet connection": (
        [[*READY_NOW, CUT]] * 2,
        f"connection lost; {NO_REASON}",
        "5",
    ),
    "cuts quiet connections": (
        [[*READY_NOW, CUT]] * 3,
        "3 connections in a row were cut within seconds and without a reason. Possible: another "
        "client with this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID), or a fault in the network",
        "5",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_broker_did_and_what_we_say(case: str) -> None:
    attempts, said, version = CASES[case]
    policy = policy_for()
    for steps in attempts:
        attempt(policy, *steps)
    assert said in str(policy.error)
    assert policy.version == version


@pytest.mark.parametrize("case", CASES)
def test_a_fixed_version_is_never_given_up(case: str) -> None:
    fixed = policy_for("3.1.1")
    for steps in CASES[case][0]:
        attempt(fixed, *steps)
    assert fixed.version == "3.1.1"


def test_a_refused_fixed_version_names_the_setting() -> None:
    fixed = policy_for("3.1.1")
    attempt(fixed, UNSUPPORTED_NOW)
    assert fixed.error == (
        "the broker does not speak MQTT 3.1.1 (Unsupported protocol version), and the settings "
        "allow no other: set KPSTREAM_INGEST_MQTT_PROTOCOL=auto, and no "
        "KPSTREAM_INGEST_MQTT_SHARED_GROUP"
    )


def test_a_healthy_broker_of_the_other_version_leaves_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    policy = policy_for()
    attempt(policy, UNSUPPORTED_NOW)
    attempt(policy, *READY_NOW, CUT)
    assert "the broker does not speak MQTT 5, trying 3.1.1" in caplog.text
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == [
        f"broker:1883: connection lost; {NO_REASON}"
    ]


def test_a_problem_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    policy = policy_for()
    for _ in range(5):
        attempt(policy, ACCEPTED, SUBSCRIBING, CUT)
    attempt(policy, *READY_NOW, CUT)
    assert [each.message for each in caplog.records] == [
        f"broker:1883: {MAY_NOT_READ}",
        "broker:1883: the connection is in order again",
        f"broker:1883: connection lost; {NO_REASON}",
    ]


@pytest.mark.parametrize("is_fixed", [False, True])
def test_patience_grows_with_every_silence_and_does_not_shrink(is_fixed: bool) -> None:
    policy = policy_for("5" if is_fixed else "auto")
    waited = []
    for _ in range(7):
        waited.append((policy.version, policy.limit_s))
        attempt(policy, silence)
    if is_fixed:
        assert [limit_s for _, limit_s in waited] == [10, 20, 40, 60, 60, 60, 60]
    else:  # a trial waits as long as the version in use did, so that it is not luck
        assert waited[:4] == [("5", 10), ("3.1.1", 10), ("5", 20), ("5", 40)]
        assert waited[4:] == [("3.1.1", 40), ("5", 60), ("5", 60)]
    attempt(policy, *READY_NOW, CUT)
    assert policy.limit_s == 60


def test_a_slow_tls_handshake_is_waited_for() -> None:
    policy = policy_for()
    policy.begin(0.0)
    policy.unreachable(TlsSilent("broker:8883 has not answered our TLS handshake for 10 s"))
    assert policy.limit_s == 20
    assert "has not answered our TLS handshake for 10 s" in str(policy.error)


def test_bytes_of_a_kept_session_before_suback_are_an_answer() -> None:
    policy = policy_for()
    policy.begin(0.0)
    policy.opened(0.0)
    policy.accepted(0.0)
    policy.subscribing(FILTERS, 0.0)
    for second in range(1, 100):
        policy.tick(float(second), is_heard=True)
    policy.tick(109.0)
    assert policy.state is State.CONNECTED
    policy.tick(109.1)
    assert policy.state is State.CLOSING


def test_what_is_waited_for_is_told() -> None:
    policy = policy_for()
    assert policy.waiting(0.0) is None
    policy.begin(0.0)
    assert policy.waiting(1.0) == "opening a connection to broker:1883"
    policy.opened(1.0)
    assert policy.waiting(5.0) == (
        "waiting for 4 s for the answer of broker:1883 to our CONNECT (MQTT 5)"
    )
    policy.accepted(100.0)
    policy.subscribing(FILTERS, 5.0)
    assert str(policy.waiting(8.0)).endswith("to our subscription to 'sensors/#'")
    policy.ready()
    assert policy.waiting(9.0) is None


def test_an_unreachable_broker_does_not_change_the_version() -> None:
    policy = policy_for()
    for _ in range(5):
        policy.begin(0.0)
        policy.unreachable("no route")
    assert policy.version == "5"
    assert policy.error == "cannot reach broker:1883: no route"


def test_a_publisher_keeps_its_version_after_its_first_connection() -> None:
    policy = policy_for(publishes=True)
    attempt(policy, UNSUPPORTED_NOW)
    assert policy.version == "3.1.1"
    attempt(policy, ACCEPTED, READY, CUT)
    for _ in range(4):
        attempt(policy, silence)
    assert policy.version == "3.1.1"


def test_a_publisher_names_the_topic_that_is_sent_again_and_never_answered() -> None:
    policy = policy_for(publishes=True)
    attempt(policy, ACCEPTED, READY, PUBLISHES, CUT)
    attempt(policy, ACCEPTED, READY, CUT)
    assert "when we published on 'out/a'" in str(policy.error)


def test_pauses_grow_until_a_connection_has_lasted() -> None:
    policy = policy_for()
    pauses = []
    for _ in range(3):
        attempt(policy, REFUSES)
        pauses.append(policy.pause_s())
    attempt(policy, *READY_NOW, CUT, lasts_s=9.9)
    pauses.append(policy.pause_s())
    attempt(policy, *READY_NOW, CUT, lasts_s=10.1)
    pauses.append(policy.pause_s())
    assert pauses == [0.2, 0.4, 0.8, 1.6, 0.2]


def test_a_refused_publication_explains_the_end_of_the_connection() -> None:
    policy = policy_for()
    refused: Step = lambda policy: policy.publication_answered(is_refused=True)  # noqa: E731
    for _ in range(5):
        attempt(policy, *READY_NOW, PUBLISHES, refused, CUT)
        assert policy.pause_s() == 0.2
        assert policy.error == (
            f"connection lost; {NO_REASON}; it had refused a publication of ours"
        )


@pytest.mark.parametrize("broker_reports", [True, False])
def test_a_second_client_with_our_id_is_reported_until_a_connection_has_lasted(
    broker_reports: bool, caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_for()
    end: Step = TAKES_OVER if broker_reports else CUT
    for _ in range(1 if broker_reports else 3):
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" not in str(policy.error)
        attempt(policy, *READY_NOW, end)
    for _ in range(3):
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(policy.error)
        attempt(policy, *READY_NOW, end, lasts_s=20.0)  # does not clear it
    policy.begin(100.0)
    policy.unreachable("no route")
    assert policy.error == "cannot reach broker:1883: no route"
    policy.begin(100.0)
    policy.opened(100.0)
    policy.accepted(100.0)
    policy.ready()
    policy.tick(130.0)
    assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(policy.error)
    policy.tick(130.1)
    assert policy.error is None
    assert caplog.text.count("KPSTREAM_INGEST_MQTT_CLIENT_ID") == 1


def test_a_reason_given_three_times_is_not_replaced_by_a_guess() -> None:
    policy = policy_for()
    for _ in range(3):
        attempt(policy, *READY_NOW, SHUTS_DOWN)
    attempt(policy, *READY_NOW, CUT)
    policy.begin(100.0)
    policy.opened(100.0)
    policy.accepted(100.0)
    policy.ready()
    assert policy.error == "the broker ended the connection: Server shutting down"
    policy.tick(130.1)
    assert policy.error is None


def test_a_port_that_hangs_up_is_checked_for_tls_now_and_then() -> None:
    policy = policy_for()
    checked = []
    for _ in range(18):
        attempt(policy, CUT)
        checked.append(policy.wants_tls_check)
    assert checked == [True] + [False] * 15 + [True, False]
    policy.speaks_tls()
    attempt(policy, CUT)
    assert policy.error == (
        "broker:1883 speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true, or connect to its plain port"
    )


def test_nothing_changes_the_error_after_stop() -> None:
    policy = policy_in(State.CONNECTED)
    policy.stop()
    policy.ended(TAKEN_OVER)
    policy.broken("reset by peer", None)
    policy.closed(3.0)
    assert policy.error is None


class Memory:
    def __init__(self, version: Version | None = None) -> None:
        self.version = version

    def read(self) -> Version | None:
        return self.version

    def write(self, version: Version) -> None:
        self.version = version


def test_a_version_that_worked_is_remembered_and_tried_first() -> None:
    memory = Memory()
    policy = ConnectionPolicy(Endpoint("broker", 1883, "us"), timing=TIMING, versions=memory)
    attempt(policy, UNSUPPORTED_NOW)
    assert memory.version is None
    attempt(policy, *READY_NOW, CUT)
    assert memory.version == "3.1.1"
    again = ConnectionPolicy(Endpoint("broker", 1883, "us"), timing=TIMING, versions=memory)
    assert again.version == "3.1.1"
    for _ in range(7):
        attempt(again, CUT)
        assert again.version == "3.1.1"

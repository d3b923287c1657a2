"""Texts about a broker: only what is known, then what to do."""

from __future__ import annotations

import socket

import pytest

from ingest.mqtt.reasons import (
    Ending,
    end_text,
    greeting_problem,
    refusal_text,
    subscription_text,
    unreachable_text,
)
from ingest.secrettext import remember_secret
from ingest.tls import TlsError


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused; check that the"),
        (TimeoutError("timed out"), "no answer within 10 s; check the address, and the firewalls"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "its name cannot be looked up (Name or service not known); check "
            "KPSTREAM_INGEST_MQTT_HOST",
        ),
        (OSError(113, "No route to host"), "cannot reach broker:1883: No route to host"),
        (TlsError("it has expired: renew it"), "cannot reach broker:1883: it has expired: renew"),
        (ValueError("bad port"), "cannot reach broker:1883: bad port"),
    ],
)
def test_why_no_socket_was_opened(reason: Exception, said: str) -> None:
    text = unreachable_text("broker:1883", reason, 10.0)
    assert text.startswith("cannot reach broker:1883: ")
    assert said in text


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (0x85, "KPSTREAM_INGEST_MQTT_CLIENT_ID"),
        (0x86, "KPSTREAM_INGEST_MQTT_USERNAME"),
        (0x87, "access list"),
        (0x9C, "KPSTREAM_INGEST_MQTT_HOST"),
    ],
)
def test_a_refusal_says_what_to_check(code: int, advice: str) -> None:
    assert advice in refusal_text(code, "the reason")


@pytest.mark.parametrize("code", [0x88, 0x89, 0x97])
def test_a_refusal_that_we_cannot_change_is_only_told(code: int) -> None:
    assert refusal_text(code, "Server busy") == "the broker refuses us: Server busy"


def test_a_code_without_a_reason_is_no_reason() -> None:
    assert refusal_text(0x80, "Unspecified error") == "the broker refuses us: no reason given"
    assert refusal_text(0x80, "Unspecified error ('disk full')").endswith("('disk full')")
    assert "gives no reason; check" in subscription_text("a/#", 0x80, "Unspecified error")
    assert subscription_text("a/#", 0x80, "Unspecified error ('no')").endswith("error ('no')")
    assert "MQTT_SHARED_GROUP" in subscription_text("$share/a/b", 0x9E, "Shared ... not supported")


def test_everything_that_was_unanswered_at_the_end_is_named() -> None:
    text = end_text(Ending("closed", 0, "reset"), filters=["a/#", "b"], topic="c", is_repeated=True)
    assert text == (
        "the broker closed the connection when we subscribed to 'a/#', 'b' and we published on "
        "'c' (reset), and gave no reason; check that its access list lets us read that and "
        "publish there, and look into its log"
    )


def test_a_session_that_the_broker_had_kept_is_named() -> None:
    text = end_text(Ending("closed"), filters=["a/#"], is_kept=True)
    assert "when we subscribed to 'a/#' in the session that it had kept, and gave no" in text
    assert "session" not in end_text(Ending("closed"), filters=["a/#"])


@pytest.mark.parametrize(
    "ending", [Ending("closed"), Ending("closed", 0, "reset"), Ending("no_ping")]
)
def test_an_end_without_a_reason_names_no_cause(ending: Ending) -> None:
    text = end_text(ending)
    assert "client id" not in text
    assert "TLS" not in text


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"\x20\x02\x00\x00", None),
        (b"\xe0\x02\x8b\x00", None),
        (b"\x15\x03\x03\x00\x02\x02\x46", "speaks TLS"),
        (b"HTTP/1.1 400 Bad Request", "speaks HTTP, not MQTT"),
        (b"SSH-2.0-OpenSSH_9.2p1", "does not speak MQTT: its first bytes are b'SSH-2.0-OpenSSH_'"),
        (b"\x30\x02\x00\x00", "does not speak MQTT"),
    ],
)
def test_what_answers_instead_of_a_broker(first: bytes, said: str | None) -> None:
    problem = greeting_problem(first, "broker:1883")
    assert problem is None if said is None else said in str(problem)


def test_no_text_shows_a_secret() -> None:
    remember_secret("hunter-of-two")
    ending = Ending("given", 0x87, "Not authorized ('password hunter-of-two is wrong')")
    texts = [
        end_text(ending),
        refusal_text(ending.code, ending.text),
        subscription_text("a", ending.code, ending.text),
        unreachable_text("broker:1883", ValueError("hunter-of-two"), 1.0),
        str(greeting_problem(b"hunter-of-two", "broker:1883")),
    ]
    assert not [text for text in texts if "hunter" in text]

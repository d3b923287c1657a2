"""What a broker did, in words: only what is known, then what to do. Pure.

The table of cases. "Given" means that the broker named a reason: a code of CONNACK, SUBACK or
DISCONNECT, with its reason string and the server that it refers to, where there are any. Whether
the next attempt changes the MQTT version is the table of `ingest.mqtt.versions`; how long a step
may take is the rule of `ingest.patience`.

| step | what the broker did | what we say | what we do next |
|---|---|---|---|
| name, TCP | name unknown, refused, no answer | `cannot reach HOST:PORT`, why, what to check | back off |
| TLS | the handshake failed | the advice of `ingest.tls` | back off |
| CONNECT | refused our version | it does not speak MQTT 5; pinned: the setting to change | other version at once; pinned: back off |
| | refused both versions | it refuses both | back off |
| | refused us, reason given | the reason, and what to check | back off |
| | answered with TLS, HTTP or other bytes | what answered, and the setting to change | back off |
| | closed without an answer | just that; the port speaks TLS: said only if a TLS handshake with it worked | back off |
| | silence | for how long, and how long we wait next | longer patience |
| SUBSCRIBE | refused a filter | the filter, the reason if given, what to check | back off |
| | closed, reason given | the filter and the reason | back off |
| | closed, no reason | the filter, and whether the broker had kept our session; check that we may read it, and the log | back off |
| | silence | the filter, and for how long | longer patience |
| PUBLISH, none answered | closed, no reason | the topic | back off |
| | the same again | the topic; check that we may publish there, and the log | back off |
| subscribed, quiet | DISCONNECT "session taken over" | another client uses our client id | longer pauses |
| | DISCONNECT with another reason | the reason | back off |
| | cut, no reason | the connection was lost, and the system's error | back off |
| | cut three times within seconds, no reason | that, and what is possible: a second client, the network | longer pauses |
| any | no PINGRESP | the broker has not answered our ping | back off |
| any | a packet that is not MQTT | what is wrong with it | back off |

A reason stays on display until its step has succeeded: one of CONNECT until CONNACK, one of
SUBSCRIBE until SUBACK. One that ended three connections in a row stays until a connection has
lasted (`Timing.sound_s`). A later end without a reason never replaces a reason that was given.
"""  # noqa: E501 (a table cell is one line)

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ingest.secrettext import hide_secrets
from ingest.tls import TlsError

__all__ = [
    "TAKEN_OVER",
    "UNSUPPORTED_VERSION",
    "Ending",
    "cut_text",
    "end_text",
    "greeting_problem",
    "refusal_text",
    "silence_text",
    "speaks_tls_text",
    "subscription_text",
    "unreachable_text",
    "version_text",
]

UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E
_UNSPECIFIED = 0x80
_NOT_AUTHORIZED = 0x87
_UNSPECIFIED_TEXT = "Unspecified error"
_ID = "KPSTREAM_INGEST_MQTT_CLIENT_ID"
_ACCESS = "check the broker's access list"
_OTHER_VERSION = "set KPSTREAM_INGEST_MQTT_PROTOCOL=auto, and no KPSTREAM_INGEST_MQTT_SHARED_GROUP"
_LOGIN = (
    "check KPSTREAM_INGEST_MQTT_USERNAME, KPSTREAM_INGEST_MQTT_PASSWORD and the access list of the "
    "broker"
)
_ADVICE = {
    0x85: f"change {_ID}, or allow it in the broker",
    0x86: "check KPSTREAM_INGEST_MQTT_USERNAME and KPSTREAM_INGEST_MQTT_PASSWORD",
    _NOT_AUTHORIZED: _ACCESS,
    0x8A: "ask who runs the broker",
    TAKEN_OVER: f"another client uses this client id ({_ID}): give each client its own",
    0x95: "send smaller messages, or raise its limit (mosquitto: max_packet_size)",
    0x9A: "Sparkplug's host_id needs retained messages: allow them in the broker",
    0x9B: "allow QoS 1 in the broker",
    0x9C: "set KPSTREAM_INGEST_MQTT_HOST to that server",
    0x9D: "set KPSTREAM_INGEST_MQTT_HOST to that server",
    0x9E: "unset KPSTREAM_INGEST_MQTT_SHARED_GROUP; to share the load, use ..._MQTT_SITES",
    0xA2: "kpstream subscribes with wildcards: allow them in the broker",
}
"""What to do about a reason code of MQTT 5, where there is anything that we can change."""

_TLS_ALERT, _HTTP = b"\x15\x03", b"HTTP/"
_CONNACK, _DISCONNECT, _AUTH = 0x20, 0xE0, 0xF0


class Ending(NamedTuple):
    """How a connection ended.

    Attributes:
        kind: `given`: the broker sent DISCONNECT with a reason. `closed`: the connection was closed
            or cut without one. `no_ping`: the broker did not answer our ping.
        code: Reason code, where one was given.
        text: The reason, or the error of the operating system; empty: none.
    """

    kind: Literal["given", "closed", "no_ping"]
    code: int = 0
    text: str = ""


def unreachable_text(where: str, reason: object, limit_s: float) -> str:
    """Return why no socket could be opened, and what to check."""
    why, advice = str(reason), ""
    if isinstance(reason, TlsError):
        return hide_secrets(f"cannot reach {where}: {reason}")
    if isinstance(reason, socket.gaierror):
        why = f"its name cannot be looked up ({reason.strerror})"
        advice = "; check KPSTREAM_INGEST_MQTT_HOST"
    elif isinstance(reason, ConnectionRefusedError):
        why = "connection refused"
        advice = "; check that the broker runs there, and KPSTREAM_INGEST_MQTT_HOST and _PORT"
    elif isinstance(reason, TimeoutError):
        why = f"no answer within {limit_s:.0f} s"
        advice = "; check the address, and the firewalls between here and there"
    elif isinstance(reason, OSError):
        why = reason.strerror or why
    return hide_secrets(f"cannot reach {where}: {why}{advice}")


def refusal_text(code: int, reason: str) -> str:
    """Return the text of a CONNACK that refuses us for another reason than the version.

    >>> refusal_text(0x8A, "Banned")
    'the broker refuses us: Banned; ask who runs the broker'
    """
    # mosquitto says "not authorised" of a wrong password, too.
    advice = f"; {_LOGIN}" if code == _NOT_AUTHORIZED else _advice(code)
    return hide_secrets(f"the broker refuses us: {_reason(code, reason)}{advice}")


def version_text(version: str, *, is_fixed: bool, both_refused: bool) -> str:
    """Return the text of a CONNACK that refuses the MQTT version.

    >>> version_text("5", is_fixed=False, both_refused=False)
    'the broker does not speak MQTT 5'
    """
    if both_refused:
        return "the broker refuses both MQTT 5 and MQTT 3.1.1 (Unsupported protocol version)"
    said = f"the broker does not speak MQTT {version}"
    if is_fixed:
        said += (
            f" (Unsupported protocol version), and the settings allow no other: {_OTHER_VERSION}"
        )
    return said


def subscription_text(mqtt_filter: str, code: int, reason: str) -> str:
    """Return the text of a SUBACK that refuses a filter.

    >>> subscription_text("a/#", 0x80, "Unspecified error")
    "the broker refuses the subscription 'a/#' and gives no reason; check the broker's access list"
    """
    said = f"the broker refuses the subscription {mqtt_filter!r}"
    if code == _UNSPECIFIED and reason == _UNSPECIFIED_TEXT:
        return f"{said} and gives no reason; {_ACCESS}"
    return hide_secrets(f"{said}: {reason}{_advice(code)}")


def silence_text(
    step: str, waited_s: float, next_s: float | None = None, version: str | None = None
) -> str:
    """Return the text of a step that the broker did not answer.

    >>> silence_text("our CONNECT (MQTT 5)", 10.0, 20.0)
    'the broker has not answered our CONNECT (MQTT 5) for 10 s; the next attempt waits up to 20 s'

    Args:
        step: What it did not answer.
        waited_s: For how long, seconds.
        next_s: Limit of the next attempt, seconds; None: there is none.
        version: Other MQTT version that the next attempt tries; None: the same.
    """
    said = f"the broker has not answered {step} for {waited_s:g} s"
    if next_s is None:
        return said
    tries = "" if version is None else f", with MQTT {version}"
    return f"{said}; the next attempt waits up to {next_s:.0f} s{tries}"


def end_text(
    ending: Ending,
    *,
    connect: str | None = None,
    is_fixed: bool = False,
    filters: Sequence[str] = (),
    topic: str | None = None,
    is_repeated: bool = False,
    is_kept: bool = False,
) -> str:
    """Return how a connection ended, with the requests that were unanswered then.

    >>> end_text(Ending("closed"), filters=["a/#"])
    "the broker closed the connection when we subscribed to 'a/#', and gave no reason; check \
that its access list lets us read that, and look into its log"
    >>> end_text(Ending("given", 0x8B, "Server shutting down"))
    'the broker ended the connection: Server shutting down'

    Args:
        ending: How it ended.
        connect: Version of a CONNECT without a CONNACK; None: there was one.
        is_fixed: Whether the settings allow this MQTT version only.
        filters: Filters of a SUBSCRIBE without a SUBACK.
        topic: Topic of a publication without a PUBACK.
        is_repeated: Whether the connection before ended at a publication too.
        is_kept: Whether the broker had kept our session, in which it may hold the filters already.
    """
    if ending.kind == "no_ping":
        return "the broker has not answered our ping; the connection is made again"
    session = " in the session that it had kept" if is_kept else ""
    asked = [f"we subscribed to {', '.join(map(repr, filters))}{session}"] if filters else []
    asked += [] if topic is None else [f"we published on {topic!r}"]
    when = f" when {' and '.join(asked)}" if asked else ""
    if ending.kind == "given":
        said = f"the broker ended the connection{when}: {_reason(ending.code, ending.text)}"
        return hide_secrets(said + _advice(ending.code))
    why = f" ({ending.text})" if ending.text else ""
    if connect is not None:
        said = f"the connection was closed{why} before the broker answered our CONNECT"
        said += f" (MQTT {connect}), and no reason was given"
        advice = f"; if it does not speak MQTT {connect}: {_OTHER_VERSION}" if is_fixed else ""
        return hide_secrets(said + advice)
    rights = ["read that"] if filters else []
    rights += ["publish there"] if topic is not None and is_repeated else []
    if not rights:
        return hide_secrets(f"connection lost{when}{why}; the broker gave no reason")
    return hide_secrets(
        f"the broker closed the connection{when}{why}, and gave no reason; check that its access "
        f"list lets us {' and '.join(rights)}, and look into its log"
    )


def cut_text(count: int, *, publishes: bool) -> str:
    """Return the text of quiet connections that were cut again and again without a reason."""
    right = ", a publication that the broker does not allow" if publishes else ""
    return (
        f"{count} connections in a row were cut within seconds and without a reason. Possible: "
        f"another client with this client id ({_ID}){right}, or a fault in the network; look into "
        "the log of the broker"
    )


def greeting_problem(first: bytes, where: str) -> str | None:
    r"""Return what is wrong with the first bytes from a broker; None: they can be MQTT.

    >>> greeting_problem(b"\x20\x02\x00\x00", "broker:1883") is None
    True
    >>> greeting_problem(b"\x15\x03\x01\x00\x02\x02\x46", "broker:8883")
    'broker:8883 speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true, or connect to its plain port'
    """
    if first[:1] and first[0] & 0xF0 in (_CONNACK, _DISCONNECT, _AUTH) and first[0] & 0x0F == 0:
        return None
    if first.startswith(_TLS_ALERT[: len(first)]):
        return speaks_tls_text(where)
    if first.startswith(_HTTP[: len(first)]):
        said = f"{where} speaks HTTP, not MQTT"
    else:
        said = f"{where} does not speak MQTT: its first bytes are {first[:16]!r}"
    return hide_secrets(f"{said}; check KPSTREAM_INGEST_MQTT_HOST and KPSTREAM_INGEST_MQTT_PORT")


def speaks_tls_text(where: str) -> str:
    """Return the text of a port that is known to speak TLS, when we do not."""
    return f"{where} speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true, or connect to its plain port"


def _reason(code: int, text: str) -> str:
    """Return a reason; the codes that name none are said to name none."""
    return "no reason given" if (code, text) == (_UNSPECIFIED, _UNSPECIFIED_TEXT) else text


def _advice(code: int) -> str:
    advice = _ADVICE.get(code)
    return "" if advice is None else f"; {advice}"

"""The steps of a connection to the broker, one after the other, as the gateway's bridge would go.

| step | what is done | ok |
|---|---|---|
| TCP | a connection is opened | it is taken |
| TLS | the handshake, if the settings want TLS | the broker's certificate is good, and ours is not refused at once |
| CONNECT | the MQTT version of the settings, and the session that they ask for, without subscriptions | it is accepted; what CONNACK announces is a table |
| SUBSCRIBE | the bridge's own filters, under a client id of the doctor's own, without a session | each is granted with QoS 1 |
| PUBLISH | one message on an address from which no readings come (`ingest.topics.probe_address`) | it comes back through these filters |

Which reason a step gives is the table of `ingest.mqtt.reasons`; which announcement is a fault, that
of `ingest.mqtt.promise`; how long a step waits, the rule of `ingest.patience`.
"""  # noqa: E501 (a table cell is one line)

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from deploy.doctor.announcedrows import announced_rows
from deploy.doctor.brokercheck import BrokerCheck
from deploy.doctor.findings import Finding, State
from ingest.errors import MqttError
from ingest.mqtt.announced import Announced
from ingest.mqtt.probe import Probe, StepFailed
from ingest.mqtt.promise import (
    Wanted,
    refused_publication,
    unusable_filter,
    void_promises,
    weaker_promises,
)
from ingest.mqtt.reasons import (
    UNSUPPORTED_VERSION,
    refusal_text,
    speaks_tls_text,
    subscription_text,
    unreachable_text,
    version_text,
)
from ingest.mqtt.subscriptions import Reason
from ingest.mqtt.versions import Version
from ingest.patience import REACH_S
from ingest.tls import TlsError, shake_hands, speaks_tls

__all__ = ["BROKER", "BrokerSteps", "StepsEnd"]

BROKER = "broker"
"""Name of every finding of a step."""

_PAYLOAD = "a probe of kpstream doctor; bridges keep nothing of it"
_CLIENT_ID_INVALID, _NOT_AUTHORIZED = 0x85, 0x87
_MOST_SHOWN = 3
_WHO_PUBLISHES = "the gateway only reads; replay, simulate and dead-letters replay publish"
_MAY_NOT = "this user lacks the right to publish there; "


class StepsEnd(Exception):
    """A step has failed, and no later one can work."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings = list(findings)


class BrokerSteps:
    """The steps, with what the earlier ones found.

    Attributes:
        version: MQTT version that the broker has accepted.
    """

    def __init__(self, check: BrokerCheck) -> None:
        self.version: Version = "5"
        self._check = check
        self._line: Probe | None = None
        self._payload = f"{_PAYLOAD} {secrets.token_hex(8)}".encode()
        self._came = asyncio.Event()
        self._others = 0  # messages of others through our filters

    def close(self) -> None:
        """Leave the broker."""
        if self._line is not None:
            self._line.close()

    async def tcp(self) -> list[Finding]:
        """Open a TCP connection, and close it."""
        began_s, endpoint = time.perf_counter(), self._check.endpoint
        address = (endpoint.host, endpoint.port)
        try:
            (await asyncio.to_thread(socket.create_connection, address, REACH_S)).close()
        except (OSError, ValueError) as exc:
            text = unreachable_text(self._check.where, exc, REACH_S)
            raise StepsEnd(_finding("fail", "TCP", text)) from exc
        return [_finding("ok", "TCP", f"connected to {self._check.where} in {_ms(began_s)}")]

    async def tls(self) -> list[Finding]:
        """Shake hands, and wait a moment for a refusal of our certificate."""
        endpoint, limit_s = self._check.endpoint, self._check.patience.most_s
        try:
            version = await asyncio.to_thread(
                shake_hands, endpoint.host, endpoint.port, endpoint.tls_files, handshake_s=limit_s
            )
        except TlsError as exc:
            raise StepsEnd(_finding("fail", "TLS", str(exc))) from exc
        except OSError as exc:
            text = unreachable_text(self._check.where, exc, REACH_S)
            raise StepsEnd(_finding("fail", "TLS", text)) from exc
        # Whether it accepts ours is proved by its answer to CONNECT only.
        return [_finding("ok", "TLS", f"{version}, and the broker's certificate is good")]

    async def connect(self) -> list[Finding]:
        """Find the version that the broker accepts, as the bridge would, and read CONNACK."""
        check, found = self._check, dict[Version, StepFailed]()
        for version, limit_s in self._attempts(found):
            began_s = time.perf_counter()
            answer = await self._try_version(version, limit_s)
            if isinstance(answer, StepFailed):
                found[version] = answer
                continue
            client_id, announced = answer
            self.version = version
            limits = "" if version == "5" else ", which announces no limits,"
            text = f"accepted with MQTT {version}{limits} in {_ms(began_s)}"
            if found:
                text += f" ({', '.join(map(str, found.values()))})"
            return self._accepted(text, client_id, announced)
        text = ", and ".join(map(str, found.values()))
        refusals = [exc for exc in found.values() if isinstance(exc, _VersionRefused)]
        if len(refusals) == 2:
            text = version_text(refusals[0].version, is_fixed=False, both_refused=True)
        elif not check.endpoint.tls and all(exc.kind == "ended" for exc in found.values()):
            host, port = check.endpoint.host, check.endpoint.port
            if await asyncio.to_thread(speaks_tls, host, port):
                text = speaks_tls_text(check.where)
        raise StepsEnd(_finding("fail", "CONNECT", text))

    def _attempts(self, found: Mapping[Version, StepFailed]) -> Iterator[tuple[Version, float]]:
        """Yield versions with limits: the usual one, the other one, a silent one with patience."""
        protocol, patience = self._check.endpoint.protocol, self._check.patience
        if protocol != "auto":
            yield protocol, patience.most_s
            return
        usual: Version = self._check.known or "5"
        yield usual, patience.first_s
        yield "3.1.1" if usual == "5" else "5", patience.first_s
        silent = [version for version, failed in found.items() if failed.kind == "silent"]
        if silent:
            yield silent[0], patience.most_s

    async def _try_version(
        self, version: Version, limit_s: float
    ) -> tuple[str, Announced] | StepFailed:
        """Return client id and announcements; or why this version was not accepted.

        Asks for the session of the bridge, without subscriptions, and ends it.

        Raises:
            StepsEnd: The version is not the cause.
        """
        check = self._check
        asked_s = check.session_expiry_s if version == "5" else 0
        try:
            async with check.probe(version, "connect", session_expiry_s=asked_s) as probe:
                reason, announced = await probe.connect(limit_s)
        except StepFailed as exc:
            if exc.kind in ("silent", "ended"):
                return exc
            raise StepsEnd(_finding("fail", "CONNECT", str(exc))) from exc
        except (OSError, ValueError, TlsError) as exc:
            text = unreachable_text(check.where, exc, REACH_S)
            raise StepsEnd(_finding("fail", "CONNECT", text)) from exc
        if reason.code == UNSUPPORTED_VERSION:
            return _VersionRefused(version, is_fixed=check.endpoint.protocol != "auto")
        if reason.code == _CLIENT_ID_INVALID:
            text = f"the broker refuses {probe.client_id!r}, the client id of this check"
            advice = (
                "; whether it takes that of the gateway is not known: see /ready of the gateway"
            )
            raise StepsEnd(_finding("unknown", "CONNECT", f"{text}: {reason.text}{advice}"))
        if reason.is_failure:
            raise StepsEnd(_finding("fail", "CONNECT", refusal_text(*reason)))
        return probe.client_id, announced

    def _accepted(self, text: str, client_id: str, announced: Announced) -> list[Finding]:
        check = self._check
        asked_s, keepalive_s = check.session_expiry_s, check.endpoint.keepalive_s
        is_shared = any(each.startswith("$share/") for each in check.filters)
        rows = announced_rows(
            announced, session_asked_s=asked_s, keepalive_s=keepalive_s, is_shared=is_shared
        )
        wanted = Wanted(client_id, tuple(check.filters), asked_s)
        void = list(void_promises(announced, wanted))
        if check.retained_topic is not None:
            refused = refused_publication(announced, check.retained_topic, 0, 1, retain=True)
            void += [] if refused is None else [refused]
        return [
            Finding(BROKER, "ok", f"CONNECT: {text}", rows=rows),
            *(_finding("fail", "CONNECT", each) for each in void),
            *(_finding("warn", "CONNECT", each) for each in weaker_promises(announced, wanted)),
        ]

    async def subscribe(self) -> list[Finding]:
        """Subscribe to the bridge's filters on a new connection, without a session."""
        try:
            announced, filters, reasons = await self._subscribed()
        except (MqttError, OSError, ValueError, TlsError) as exc:
            raise StepsEnd(_finding("fail", "SUBSCRIBE", str(exc))) from exc
        refused = [
            _finding("fail", "SUBSCRIBE", subscription_text(name, *reason))
            for name, reason in zip(filters, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            raise StepsEnd(*refused)
        granted = announced.with_granted(filters, [reason.code for reason in reasons])
        void = set(void_promises(granted, Wanted("", tuple(filters))))
        void -= set(void_promises(announced, Wanted("", tuple(filters))))
        if void:
            return [_finding("fail", "SUBSCRIBE", each) for each in sorted(void)]
        shown = ", ".join(map(repr, filters[:_MOST_SHOWN]))
        more = f" and {len(filters) - _MOST_SHOWN} more" if len(filters) > _MOST_SHOWN else ""
        return [_finding("ok", "SUBSCRIBE", f"{shown}{more} granted with QoS 1")]

    async def _subscribed(self) -> tuple[Announced, list[str], Sequence[Reason]]:
        """Open `_line` and subscribe on it.

        A shared subscription is requested in a group of our own, because a member of the bridges'
        group would take their messages.

        Raises:
            MqttError: The broker has not answered, refuses us, or cannot take the filters.
            OSError, ValueError, TlsError: It cannot be reached.
        """
        check, limit_s = self._check, self._check.patience.most_s
        self.close()
        line = self._line = check.probe(self.version, "way", on_message=self._message)
        reason, announced = await line.connect(limit_s)
        if reason.is_failure:
            raise MqttError(refusal_text(*reason))
        filters = [_own_group(each, line.client_id) for each in check.filters]
        problem = unusable_filter(announced, filters)
        if problem is not None:
            raise MqttError(problem)
        return announced, filters, await line.subscribe(filters, limit_s)

    async def publish(self, *, is_repeated: bool = False) -> list[Finding]:
        """Publish one message, and wait until it comes back."""
        check, topic = self._check, self._check.probe_topic
        if self._line is None:  # not after `subscribe`
            return []
        began_s = time.perf_counter()
        try:
            reason = await self._line.publish(
                topic, self._payload, check.patience.most_s, is_repeated=is_repeated
            )
        except StepFailed as exc:
            if exc.kind != "ended":
                return [_finding("fail", "PUBLISH", str(exc))]
            if not is_repeated:
                with suppress(MqttError, OSError, ValueError, TlsError):
                    await self._subscribed()
                    return await self.publish(is_repeated=True)
            return [self._unproved(str(exc))]
        except MqttError as exc:
            return [_finding("unknown", "PUBLISH", f"not tried: {exc}")]
        if reason.is_failure:
            return [await self._refused(reason)]
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._came.wait(), check.back_s)
        if self._came.is_set():
            text = f"one message on {topic!r} came back in {_ms(began_s)}; bridges keep none of it"
            return [Finding(BROKER, "ok", f"PUBLISH: {text}")]
        return [self._swallowed(reason)]

    async def _refused(self, reason: Reason) -> Finding:
        if not self._others:
            await asyncio.sleep(self._check.watch_s)
        text = f"the broker refuses a message on {self._check.probe_topic!r}: {reason.text}"
        return self._unproved(text, _MAY_NOT if reason.code == _NOT_AUTHORIZED else "")

    def _unproved(self, text: str, known: str = "") -> Finding:
        """Return the finding where nothing could be published: only others prove the way.

        Args:
            text: What happened, and what to do.
            known: What is known about the cause.
        """
        said, _, advice = text.partition("; ")
        advice = f"{advice}; " if advice else known
        if self._others:
            said += f"; messages of others come: {self._others}"
        else:
            said += "; so whether messages come is not known"
        state: State = "ok" if self._others else "unknown"
        return Finding(BROKER, state, f"PUBLISH: {said}", advice + _WHO_PUBLISHES)

    def _swallowed(self, reason: Reason) -> Finding:
        """Return the finding for a message that was confirmed and did not come back."""
        check = self._check
        said = f"PUBLISH: the broker confirmed a message on {check.probe_topic!r}"
        said += f" ({reason.text})" if reason.code else ""
        said += f", and has not delivered it to us within {check.back_s:g} s"
        rights = f"the rights of this user to read {', '.join(map(repr, check.filters))}"
        if self._others:
            said += f"; messages of others do come: {self._others}"
            return Finding(
                BROKER, "warn", said, f"check {rights}: they may be for a part of it only"
            )
        if self.version != "5":
            advice = f"check {rights}, and to publish: with MQTT 3.1.1 a refusal is silent"
            return Finding(BROKER, "unknown", said, advice)
        advice = f"check {rights}: mosquitto grants the subscription without it, and keeps silent"
        return Finding(BROKER, "fail", said, advice)

    def _message(self, topic: str, payload: bytes) -> None:
        if topic == self._check.probe_topic and payload == self._payload:
            self._came.set()
        else:
            self._others += 1


class _VersionRefused(StepFailed):
    """CONNACK refuses the MQTT version."""

    def __init__(self, version: Version, *, is_fixed: bool) -> None:
        text = version_text(version, is_fixed=is_fixed, both_refused=False)
        super().__init__(text, "ended")
        self.version = version


def _own_group(mqtt_filter: str, group: str) -> str:
    """Return a filter with another group, if it is shared.

    >>> _own_group("$share/bridges/sensors/#", "doctor"), _own_group("sensors/#", "doctor")
    ('$share/doctor/sensors/#', 'sensors/#')
    """
    if not mqtt_filter.startswith("$share/"):
        return mqtt_filter
    return f"$share/{group}/{mqtt_filter.split('/', 2)[2]}"


def _finding(state: State, step: str, text: str) -> Finding:
    """Return a finding about a step; what follows a semicolon is the advice."""
    said, _, advice = text.partition("; ")
    return Finding(BROKER, state, f"{step}: {said}", advice)


def _ms(began_s: float) -> str:
    return f"{(time.perf_counter() - began_s) * 1000:.0f} ms"

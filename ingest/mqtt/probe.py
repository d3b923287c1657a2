"""One connection that asks a broker one step after the other, on behalf of nobody else.

It uses the socket loop of the bridge, so it sees what the bridge would see, but it makes one
attempt with one version and decides nothing. `kpstream doctor` and `ingest.mqtt.versionprobe` ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from ingest.errors import MqttError
from ingest.mqtt.announced import Announced
from ingest.mqtt.callbacks import Callbacks
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import MAX_PACKET_BYTES, Oversized
from ingest.mqtt.reasons import Ending, end_text, silence_text
from ingest.mqtt.socketloop import SocketLoop
from ingest.mqtt.subscriptions import Reason
from ingest.tls import tls_advice

__all__ = ["Probe", "StepFailed"]

_MOST_UNCONFIRMED = 100
_ENDED = object()


class StepFailed(MqttError):
    """The broker has not answered a request; the message says what it did instead.

    Attributes:
        kind: `silent`: nothing until the limit. `ended`: it ended the connection. `tls`: TLS failed
            after the handshake. `fact`: it sent what it must not send.
    """

    def __init__(self, text: str, kind: Literal["silent", "ended", "tls", "fact"]) -> None:
        super().__init__(text)
        self.kind = kind


class Probe:
    """One connection of one MQTT version, as an asynchronous context manager.

    It disturbs nobody: its client id is derived from that of the endpoint and differs from it, it
    starts without a session, and `close` ends the session that it may have asked for. Messages are
    acknowledged as they come.

    Attributes:
        version: MQTT version of the connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        version: Literal["5", "3.1.1"],
        role: str,
        *,
        session_expiry_s: int = 0,
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """Prepare; nothing is opened before `connect`.

        Args:
            endpoint: Address, credentials, and the client id of whom the probe stands for.
            version: MQTT version to speak.
            role: What is added to that client id.
            session_expiry_s: Seconds to ask for, to find out what the broker would grant (MQTT 5);
                0: no session.
            on_message: Called with topic and payload of each message.
        """
        self.version = version
        self._endpoint = replace(endpoint, client_id=f"{endpoint.client_id}-{role}")
        self._on_message = on_message
        self._answer: asyncio.Future[Any] | None = None
        self._end: Ending | Exception | None = None
        callbacks = Callbacks(
            on_message=self._message,
            on_oversized=self._oversized,
            after_read=None,
            on_connack=lambda reason, announced: self._answered((reason, announced)),
            on_suback=lambda reasons: self._answered(tuple(reasons)),
            on_unsuback=lambda _: None,
            on_puback=lambda _, reason: self._answered(reason),
            on_ended=self._ended,
            on_broken=self._ended,
        )
        self._line = SocketLoop(
            self._endpoint,
            version,
            callbacks,
            session_expiry_s=session_expiry_s,
            receive_maximum=_MOST_UNCONFIRMED,
            max_packet_bytes=MAX_PACKET_BYTES,
        )

    @property
    def client_id(self) -> str:
        """Client id of the probe."""
        return self._endpoint.client_id

    async def __aenter__(self) -> Probe:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, and end the session, if there is a connection; further calls do nothing."""
        if self._line.announced is not None:
            self._line.disconnect(end_session=True)
        self._line.close()

    # -- steps ------------------------------------------------------------------------------

    async def connect(self, limit_s: float) -> tuple[Reason, Announced]:
        """Open a socket, send CONNECT, and return the answer, which may be a refusal.

        Args:
            limit_s: Seconds that the broker has for TLS, and then for its answer.

        Raises:
            OSError, ValueError, TlsError: The broker cannot be reached.
            StepFailed: It has not answered CONNECT.
        """
        await self._line.open(None, handshake_s=limit_s)
        is_fixed = self._endpoint.protocol != "auto"
        answer: tuple[Reason, Announced] = await self._ask(
            self._line.attach,
            limit_s,
            f"our CONNECT (MQTT {self.version})",
            lambda ending: end_text(ending, connect=self.version, is_fixed=is_fixed),
        )
        return answer

    async def subscribe(self, filters: Sequence[str], limit_s: float) -> Sequence[Reason]:
        """Subscribe with QoS 1, and return one reason per filter.

        Raises:
            StepFailed: The broker has not answered.
        """
        answer: Sequence[Reason] = await self._ask(
            lambda: self._line.subscribe(filters),
            limit_s,
            f"our subscription to {', '.join(map(repr, filters))}",
            lambda ending: end_text(ending, filters=filters),
        )
        return answer

    async def publish(
        self, topic: str, payload: bytes, limit_s: float, *, is_repeated: bool = False
    ) -> Reason:
        """Publish with QoS 1, and return the answer, which may be a refusal.

        Args:
            topic: Topic of the publication.
            payload: Its body.
            limit_s: Seconds that the broker has for its answer.
            is_repeated: Whether the connection before ended at this publication, too.

        Raises:
            StepFailed: The broker has not answered.
            MqttError: The broker announced that it does not take such a publication.
        """

        def send() -> None:
            self._line.publish(topic, payload, 1, retain=False)

        answer: Reason = await self._ask(
            send,
            limit_s,
            f"our publication on {topic!r}",
            lambda ending: end_text(ending, topic=topic, is_repeated=is_repeated),
        )
        return answer

    # -- answers ----------------------------------------------------------------------------

    async def _ask(
        self,
        send: Callable[[], None],
        limit_s: float,
        step: str,
        text_of: Callable[[Ending], str],
    ) -> Any:
        """Send a request and return its answer; raises as the steps do."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._end is None:
            send()
            await asyncio.wait({answer}, timeout=limit_s)
        self._answer = None
        if answer.done() and answer.result() is not _ENDED:
            return answer.result()
        if self._end is None:
            raise StepFailed(silence_text(step, limit_s), "silent")
        raise self._failure(self._end, text_of)

    def _failure(self, end: Ending | Exception, text_of: Callable[[Ending], str]) -> Exception:
        if isinstance(end, Ending):
            return StepFailed(text_of(end), "ended")
        where = f"{self._endpoint.host}:{self._endpoint.port}"
        advice = tls_advice(end, where, self._endpoint.tls_files, shaking_hands=False)
        if advice is not None:
            return StepFailed(advice, "tls")
        if isinstance(end, MqttError):
            return StepFailed(str(end), "fact")
        if isinstance(end, OSError):
            return StepFailed(text_of(Ending("closed", 0, end.strerror or str(end))), "ended")
        return end  # a fault of ours

    def _answered(self, answer: object) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _ended(self, end: Ending | Exception) -> None:
        if self._end is None:  # the first end knows most
            self._end = end
        self._answered(_ENDED)

    def _message(self, packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
        del flags
        if qos:
            self._line.ack((packet_id,))
        if self._on_message is not None:
            self._on_message(topic, payload)

    def _oversized(self, message: Oversized) -> None:
        self._message(message.packet_id, message.qos, message.topic, message.head)

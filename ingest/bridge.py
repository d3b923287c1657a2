"""The bridge: takes messages from the MQTT broker and puts them into the log.

The delivery promise is kept here. A message is acknowledged to the broker (PUBACK) only after the
log has confirmed its record, in the order of arrival, and only over the connection it came by.
Whatever is not acknowledged stays with the broker, which delivers it again after a reconnect or a
restart: at least once, never less.

1. A message arrives: checked at once; accepted -> an envelope in the load of its partition,
   refused -> a dead letter in the same load, with the raw bytes, the reason and the receive time.
2. The writer takes the load, one bundle per partition, and appends it. **One append at a time**:
   with several, a later one could succeed where an earlier one failed, and a device's readings
   would change their order. What arrives meanwhile makes up the next load, so loads grow with the
   traffic and the cost of a durable write is shared.
3. The log confirms: acknowledge. It does not: append the same load again, with back-off, until
   `log_patience_s` is over; then `run` raises and the process ends with nothing acknowledged.

Back-pressure needs no code of ours in MQTT 5: unacknowledged messages count against the receive
maximum and the broker keeps the rest. Where the protocol does not bound them (3.1.1, QoS 0), the
bridge stops reading from the socket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.decoder import Decoder
from ingest.errors import LogUnavailable, RefusalReason, RefusedMessage
from ingest.logwriter import LogRecord, LogWriter
from ingest.messages import (
    Tick,
    decode_payload,
    encode_bundle,
    encode_envelope,
    encode_tick,
)
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.settings import IngestSettings
from ingest.topics import (
    DEAD_LETTERS,
    READINGS,
    SHARED_GROUP,
    Address,
    device_key,
    parse_topic,
    partition_of,
    subscription,
)

__all__ = [
    "Bridge",
    "BridgeCounters",
    "BridgeHealth",
    "LogRecord",
    "LogWriter",
    "endpoint_of",
    "wall_clock_ms",
]

log = logging.getLogger(__name__)

_RETRY_S = (0.1, 5.0)
_SESSION_GRACE_MS = 2000
_HEARTBEAT_S = 0.25
_STALL_MS = 1000
_KNOWN_TOPICS = 65_536
_LINGER_S = 0.5
"""How long messages are still taken after we said that we are going: some are on the way."""
_BUNDLE_READINGS = 20_000
"""Most readings in one record: it is windowed in one go, some 20 ms, and acked as a whole."""


def wall_clock_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class BridgeCounters:
    """What the bridge has done since it started; every number only grows.

    Attributes:
        received_total: Messages taken from the broker, redeliveries included.
        received_bytes_total: Their bodies.
        logged_total: Accepted messages that are durably in the log; those of another format
            (`ingest.decoder`) too that say something else than readings.
        dead_lettered_total: Refused messages that are durably in the log, by reason.
        ticks_total: Ticks in the log.
        records_total: Records in the log (bundles and dead letters).
        appends_total: Confirmed appends.
        append_failures_total: Appends the log did not confirm.
        stale_acks_total: Acknowledgements dropped because their connection had ended.
        connects_total: Connections made; the first one counts.
        faults_total: Messages refused because checking them failed in a way nobody foresaw.
    """

    received_total: int = 0
    received_bytes_total: int = 0
    logged_total: int = 0
    dead_lettered_total: Counter[RefusalReason] = field(default_factory=Counter)
    ticks_total: int = 0
    records_total: int = 0
    appends_total: int = 0
    append_failures_total: int = 0
    stale_acks_total: int = 0
    connects_total: int = 0
    faults_total: int = 0


@dataclass(frozen=True, slots=True)
class BridgeHealth:
    """How the bridge is, at one moment.

    Attributes:
        running: The tasks that drive it are alive.
        connected: Connected to the broker and subscribed.
        protocol: The MQTT version spoken.
        connected_since_ms: Since when without a break (see `Bridge.connected_since_ms`), or None.
        last_packet_ms: When the last message was read, or None.
        unconfirmed: Messages received and not yet acknowledged.
        saturated: The broker holds messages back because so many are unconfirmed.
        log_unavailable_since_ms: Since when the log has not confirmed, or None.
        error: What is wrong, for a person, or None.
    """

    running: bool
    connected: bool
    protocol: str
    connected_since_ms: int | None
    last_packet_ms: int | None
    unconfirmed: int
    saturated: bool
    log_unavailable_since_ms: int | None
    error: str | None


@dataclass(slots=True)
class _Load:
    """What has arrived and is not in the log yet, in order of arrival per partition."""

    envelopes: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)  # and readings
    letters: list[LogRecord] = field(default_factory=list)
    acks: list[tuple[int, int]] = field(default_factory=list)  # (epoch, packet id)
    refused: list[RefusalReason] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    checkpoint: Any = None  # of the decoder's memory, as these messages left it
    messages: int = 0
    accepted: int = 0
    ticks: int = 0


class Bridge:
    """Runs the line from the broker to the log. One per client id, on one event loop."""

    def __init__(
        self,
        settings: IngestSettings,
        writer: LogWriter,
        *,
        decoder: Decoder | None = None,
        leaves: bool = False,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            settings: Where the broker is, and the bounds.
            writer: The log.
            decoder: Of the message format that is spoken beside JSON, if any.
            leaves: Take no more than what the broker holds for us, see `has_left`.
            now_ms: Clock of the receive times, epoch ms.
        """
        self.counters = BridgeCounters()
        self._settings = settings
        self._writer = writer
        self._decoder = decoder
        self._now_ms = now_ms
        self._load = _Load()
        self._arrived = asyncio.Event()
        self._unconfirmed = 0
        self._addresses: dict[str, tuple[Address, int]] = {}
        self._recv_ms: int | None = None
        self._since_ms: int | None = None
        self._last_packet_ms: int | None = None
        self._log_failing_ms: int | None = None
        self._connected_ms: int | None = None
        self._logged_ms: dict[int, int] = {}  # partition -> when it last got readings
        self._stopping = False
        self._running = False
        self._connection = Connection(
            endpoint_of(settings),
            on_message=self._take,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            after_read=self._read,
            subscribe=(*_subscriptions(settings), *(decoder.filters if decoder else ())),
            stale_filters=_stale_filters(settings),
            leaves=leaves,
            will=self._will,
            session_expiry_s=settings.session_expiry_s,
            receive_maximum=settings.receive_maximum,
        )

    # -- what others see --------------------------------------------------------------------

    @property
    def connected_since_ms(self) -> int | None:
        """Since when silence of a device means that it is silent; None while disconnected.

        That is not so while messages may still be waiting at the broker: for two seconds after a
        connect that found an old session, while the line is saturated, or after this process was
        held up. Then this moves on to the present; and back to it when the clock was set back.
        """
        return self._since_ms

    @property
    def unconfirmed(self) -> int:
        """Messages received and not yet acknowledged."""
        return self._unconfirmed

    def health(self) -> BridgeHealth:
        """How the bridge is now."""
        connection = self._connection
        failing = self._log_failing_ms
        return BridgeHealth(
            running=self._running and connection.alive,
            connected=connection.connected.is_set() and connection.subscribed,
            protocol=connection.protocol,
            connected_since_ms=self._since_ms,
            last_packet_ms=self._last_packet_ms,
            unconfirmed=self._unconfirmed,
            saturated=self._saturated,
            log_unavailable_since_ms=failing,
            error=connection.error if failing is None else "the log does not confirm",
        )

    def has_left(self, quiet_ms: int) -> bool:
        """Whether a bridge that leaves has everything: nothing came for `quiet_ms`, all is logged.

        Once it was so, `stop` ends its session, and the broker forgets it; stopped before, the
        broker keeps the rest.
        """
        if not self.health().connected or self._unconfirmed or self._connected_ms is None:
            return False
        quiet_since_ms = max(self._connected_ms, self._last_packet_ms or 0)
        self._connection.may_end_session = self._now_ms() - quiet_since_ms >= quiet_ms
        return self._connection.may_end_session

    def quiet_partitions(self, quiet_ms: int) -> list[int]:
        """Partitions whose devices may have fallen silent, and wait for ticks to tell them so.

        Those that got readings from here within the last `quiet_ms`; and all of them for so long
        after a connect, for an earlier life of this bridge may have left somebody waiting.
        """
        now_ms = self._now_ms()
        if self._connected_ms is not None and now_ms - self._connected_ms <= quiet_ms:
            return list(range(self._writer.partitions))
        return sorted(n for n, at_ms in self._logged_ms.items() if now_ms - at_ms <= quiet_ms)

    async def append_tick(self, partitions: Iterable[int], tick: Tick) -> None:
        """Append a tick to these partitions, behind every message that has arrived by now.

        Returns when it is durable.

        Raises:
            LogUnavailable: The bridge ended before that.
        """
        self._connection.poll()
        line = encode_tick(tick)
        load = self._load
        for partition in partitions:
            load.envelopes.setdefault(partition, []).append((line, 0))
            load.ticks += 1
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        load.waiters.append(durable)
        self._arrived.set()
        await durable

    async def run(self) -> None:
        """Work until `stop`; everything that has arrived by then is in the log and acknowledged.

        Raises:
            LogUnavailable: The log has not confirmed for `log_patience_s`. Nothing that is not in
                the log was acknowledged; end the process, the broker keeps what is due.
        """
        self._connection.start()
        self._running = True
        heartbeat = asyncio.get_running_loop().create_task(self._heartbeat(), name="bridge-beat")
        try:
            self._connection.on_task_end(self._arrived.set)
            while not (self._stopping and self._unconfirmed == 0 and not self._arrived.is_set()):
                await self._arrived.wait()
                self._arrived.clear()
                self._connection.raise_for_failure()
                load, self._load = self._load, _Load()
                if self._decoder is not None:
                    load.checkpoint = self._decoder.checkpoint()
                try:
                    await self._write(load)
                except Exception as exc:
                    _fail(load.waiters, str(exc))
                    raise
        finally:
            self._running = False
            heartbeat.cancel()
            if not self._stopping:
                self._say_farewell()
            await self._connection.stop()
            _fail(self._load.waiters, "the bridge has stopped")

    def stop(self) -> None:
        """Take nothing more; `run` returns when what was taken is in the log and acknowledged.

        Where devices are told that we are going (`Decoder.farewell`), messages are taken for
        another half second: those that were on the way meanwhile.
        """
        if self._running and not self._stopping and self._say_farewell():
            asyncio.get_running_loop().call_later(_LINGER_S, self._stop_taking)
        else:
            self._stop_taking()

    def _stop_taking(self) -> None:
        self._stopping = True
        self._connection.pause()
        self._arrived.set()

    # -- from the broker --------------------------------------------------------------------

    def _take(self, packet_id: int, qos: int, topic: str, payload: bytes) -> None:
        """One message; never raises, whatever is in it."""
        if self._stopping:
            return  # not acknowledged, so the broker keeps it for the next run
        recv_ms = self._recv_ms
        if recv_ms is None:
            recv_ms = self._recv_ms = self._now_ms()
        counters = self.counters
        counters.received_total += 1
        counters.received_bytes_total += len(payload)
        load = self._load
        load.messages += 1
        self._unconfirmed += 1
        if qos:
            load.acks.append((self._connection.epoch, packet_id))
        decoder = self._decoder
        try:
            if decoder is not None and topic.startswith(decoder.prefix):
                self._take_decoded(load, decoder, topic, payload, recv_ms, qos)
            else:
                address, partition = self._addresses.get(topic) or self._address(topic)
                self._add(load, address, partition, payload, recv_ms)
        except RefusedMessage as exc:
            self._refuse(load, exc.reason, exc.detail, topic, payload, recv_ms)
        except Exception as exc:
            # A fault of ours must not stop the line for everybody: quarantine the message.
            log.exception("checking a message on %r failed", topic)
            counters.faults_total += 1
            detail = f"checking it failed: {exc!r}"
            self._refuse(load, RefusalReason.wrong_shape, detail, topic, payload, recv_ms)
        else:
            load.accepted += 1
        if self._unconfirmed > self._settings.receive_maximum:
            self._connection.pause()  # not in MQTT 5 with QoS 1: there the broker stops by itself

    def _take_decoded(
        self, load: _Load, decoder: Decoder, topic: str, payload: bytes, recv_ms: int, qos: int
    ) -> None:
        """A message of another format; raises the first refusal after adding all that is good."""
        decoded = decoder.decode(topic, payload, recv_ms, qos)
        refused = decoded.refused
        for address, body in decoded.messages:
            key = device_key(address.site, address.device)
            partition = partition_of(key, self._writer.partitions)
            try:
                self._add(load, address, partition, body, recv_ms)
            except RefusedMessage as exc:
                refused = refused or exc
        if refused is not None:
            raise refused

    def _add(
        self, load: _Load, address: Address, partition: int, body: bytes, recv_ms: int
    ) -> None:
        readings = self._check(decode_payload(body), recv_ms)
        envelope = encode_envelope(*address, recv_ms, body)
        load.envelopes.setdefault(partition, []).append((envelope, readings))

    def _address(self, topic: str) -> tuple[Address, int]:
        address = parse_topic(topic, self._settings.mqtt_prefix)
        key = device_key(address.site, address.device)
        if len(self._addresses) >= _KNOWN_TOPICS:
            self._addresses.clear()
        known = self._addresses[topic] = (address, partition_of(key, self._writer.partitions))
        return known

    def _check(self, document: dict[str, Any], recv_ms: int) -> int:
        """Refuse a message that lies in the future as a whole; the number of its readings."""
        ts = document.get("ts")
        if type(ts) is int:
            earliest, readings = ts, 1
        elif ts is not None:
            earliest, readings = min(ts), len(ts)
        else:
            earliest, readings = document["t0"], len(next(iter(document["values"].values())))
        if earliest > recv_ms + self._settings.future_ms:
            ahead = f"{earliest - recv_ms} ms ahead of the receive time {recv_ms}"
            detail = f"event time {earliest} is {ahead}, at most {self._settings.future_ms} allowed"
            raise RefusedMessage(RefusalReason.future, detail)
        return readings

    def _refuse(
        self,
        load: _Load,
        reason: RefusalReason,
        detail: str,
        topic: str,
        payload: bytes,
        recv_ms: int,
    ) -> None:
        most = self._settings.dead_letter_bytes
        if len(payload) > most:
            detail += f" (first {most} of {len(payload)} bytes kept)"
            payload = payload[:most]
        letter = DeadLetter(reason, detail, topic, recv_ms, bytes(payload), "bridge")
        key = letter.id.encode()
        load.letters.append(LogRecord(DEAD_LETTERS, None, key, encode_dead_letter(letter), recv_ms))
        load.refused.append(reason)

    def _read(self) -> None:
        """After a handful of messages."""
        if self._recv_ms is not None:
            self._last_packet_ms = self._recv_ms
            self._recv_ms = None
            self._arrived.set()

    def _on_connected(self, session_present: bool) -> None:
        self.counters.connects_total += 1
        now_ms = self._connected_ms = self._now_ms()
        self._since_ms = now_ms + (_SESSION_GRACE_MS if session_present else 0)
        if self._decoder is not None:
            self._decoder.connected(now_ms)
            self._speak(now_ms)

    def _on_disconnected(self, reason: str) -> None:
        self._since_ms = None
        if not self._stopping:
            log.warning("connection to the MQTT broker ended: %s", reason)

    # -- to the broker ----------------------------------------------------------------------

    def _speak(self, now_ms: int) -> None:
        """Publish what the decoder has to say."""
        if self._decoder is not None and self._connection.connected.is_set():
            for each in self._decoder.outgoing(now_ms):
                self._connection.publish(each.topic, each.payload, each.qos, retain=each.retain)

    def _will(self) -> tuple[str, bytes] | None:
        will = None if self._decoder is None else self._decoder.farewell(self._now_ms())
        return None if will is None else (will.topic, will.payload)

    def _say_farewell(self) -> bool:
        """Whether there is anything to say and anybody to hear it."""
        will = self._will()
        if will is None or not self._connection.connected.is_set():
            return False
        self._connection.publish(*will, retain=True)
        return True

    # -- to the log -------------------------------------------------------------------------

    async def _write(self, load: _Load) -> None:
        records = self._bundle(load)
        if records or load.checkpoint is not None:
            await self._append(records, load.checkpoint)
        epoch = self._connection.epoch
        counters = self.counters
        for ack_epoch, packet_id in load.acks:
            if ack_epoch == epoch:
                self._connection.ack(packet_id)
            else:
                counters.stale_acks_total += 1
        now_ms = self._now_ms()
        for partition, envelopes in load.envelopes.items():
            if any(readings for _, readings in envelopes):
                self._logged_ms[partition] = now_ms
        counters.logged_total += load.accepted
        counters.ticks_total += load.ticks
        counters.records_total += len(records)
        counters.dead_lettered_total.update(load.refused)
        for future in load.waiters:
            if not future.done():
                future.set_result(None)
        self._unconfirmed -= load.messages
        if self._unconfirmed <= self._settings.receive_maximum and not self._stopping:
            self._connection.resume()

    def _bundle(self, load: _Load) -> list[LogRecord]:
        now_ms = self._now_ms()
        most, most_bytes = self._settings.bundle_messages, self._settings.bundle_bytes
        records = load.letters
        for partition, envelopes in load.envelopes.items():
            bundle: list[bytes] = []
            size = total = 0
            for envelope, readings in envelopes:
                if bundle and (
                    size >= most_bytes or len(bundle) >= most or total + readings > _BUNDLE_READINGS
                ):
                    value = encode_bundle(bundle)
                    records.append(LogRecord(READINGS, partition, None, value, now_ms))
                    bundle, size, total = [], 0, 0
                bundle.append(envelope)
                size += len(envelope)
                total += readings
            value = encode_bundle(bundle)
            records.append(LogRecord(READINGS, partition, None, value, now_ms))
        return records

    async def _append(self, records: list[LogRecord], checkpoint: Any) -> None:
        """Append until the log confirms (then keep the decoder's memory), or patience is over."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._settings.log_patience_s
        wait_s = _RETRY_S[0]
        while True:
            try:
                if records:
                    await self._writer.append(records)
                if self._decoder is not None and checkpoint is not None:
                    await self._decoder.keep(checkpoint)
            except LogUnavailable as exc:
                self.counters.append_failures_total += 1
                if self._log_failing_ms is None:
                    self._log_failing_ms = self._now_ms()
                    log.warning("the log does not confirm, trying again: %s", exc)
                if loop.time() + wait_s > give_up_s:
                    msg = (
                        f"the log has not confirmed for {self._settings.log_patience_s:.0f} s "
                        f"({exc}); stopping, nothing unconfirmed was acknowledged"
                    )
                    raise LogUnavailable(msg) from exc
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _RETRY_S[1])
            else:
                if self._log_failing_ms is not None:
                    log.warning("the log confirms again")
                    self._log_failing_ms = None
                self.counters.appends_total += 1
                return

    # -- time -------------------------------------------------------------------------------

    @property
    def _saturated(self) -> bool:
        return self._unconfirmed >= self._settings.receive_maximum * 9 // 10

    async def _heartbeat(self) -> None:
        """Moves `connected_since_ms` on whenever messages may have been held up."""
        last_ms = self._now_ms()
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            now_ms = self._now_ms()
            self._speak(now_ms)
            if self._since_ms is not None:
                if now_ms < last_ms:  # our clock was set back: what it said before says nothing
                    self._since_ms = now_ms
                elif self._saturated or now_ms - last_ms > _STALL_MS:
                    self._since_ms = max(self._since_ms, now_ms)
            last_ms = now_ms


def _fail(waiters: Iterable[asyncio.Future[None]], reason: str) -> None:
    for future in waiters:
        if not future.done():
            future.set_exception(LogUnavailable(reason))


def _subscriptions(settings: IngestSettings) -> list[str]:
    """What we subscribe to: everything, or some sites, or our share of that."""
    found = [subscription(settings.mqtt_prefix, site) for site in settings.mqtt_sites or ("+",)]
    group = settings.mqtt_shared_group
    return found if group is None else [f"$share/{group}/{each}" for each in found]


def _stale_filters(settings: IngestSettings) -> list[str]:
    """What this client id may hold from before: all messages where it now shares, or a share."""
    everything = subscription(settings.mqtt_prefix)
    before = (everything, f"$share/{SHARED_GROUP}/{everything}")
    return [each for each in before if each not in _subscriptions(settings)]


def endpoint_of(settings: IngestSettings, client_id: str | None = None) -> Endpoint:
    """The broker of `settings`; under another client id for everything but the bridge itself."""
    secret = settings.mqtt_password
    is_shared = client_id is None and settings.mqtt_shared_group is not None
    return Endpoint(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        client_id=client_id or settings.mqtt_client_id,
        protocol="5" if is_shared else settings.mqtt_protocol,  # 3.1.1 takes $share for a name
        keepalive_s=settings.keepalive_s,
        username=settings.mqtt_username,
        password=None if secret is None else secret.get_secret_value(),
        tls=settings.mqtt_tls,
        ca_file=settings.mqtt_ca_file,
        cert_file=settings.mqtt_cert_file,
        key_file=settings.mqtt_key_file,
    )

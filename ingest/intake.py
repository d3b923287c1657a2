"""From messages to log records: check, refuse, collect per partition.

`Intake` depends on neither the broker nor the log. The bridge gives it messages in the order of
arrival and takes a `Load` from it whenever the log is ready for the next append.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from ingest.bridgehealth import BridgeCounters
from ingest.clockjudge import ClockJudge, Verdict
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.decoder import Canonical, Checked, Decoder
from ingest.decoders import Decoders
from ingest.errors import LogUnavailable, RefusalReason, RefusedMessage
from ingest.labels import LabelRecord, decode_label, label_log_record
from ingest.logwriter import LogRecord
from ingest.messages import Tick
from ingest.mqtt.packets import Oversized
from ingest.openrecords import LARGEST_CELLS, OpenRecords, Sender
from ingest.payloads import decode_payload, unit_advice
from ingest.secrettext import error_text
from ingest.settings import IngestSettings
from ingest.topics import (
    DEAD_LETTERS,
    READINGS,
    SPARKPLUG_PREFIX,
    Address,
    device_key,
    parse_topic,
    partition_of,
)

__all__ = ["Intake", "Load", "in_parts"]

log = logging.getLogger(__name__)

_KNOWN_TOPICS = 65_536
_APPEND_BYTES = 4_000_000
"""Bytes of one append. Two thousand large messages may wait while the log is away; as one append
they would never fit into a small log again."""


@dataclass(slots=True)
class Load:
    """Messages and ticks that have arrived and are not in the log yet.

    Attributes:
        records: The accepted messages, in the order of arrival, and the ticks behind them.
        dead_letters: Records of refused messages.
        labels: Records of labels.
        acks: Epoch -> packet ids of the messages to acknowledge, in the order of arrival.
        refused: Reasons of the refused messages.
        waiters: Futures that wait until the load is durable.
        checkpoint: The decoders' memory after these messages; None: unchanged.
        messages: Messages in the load.
        size_bytes: Bytes of their payloads, or of their numbers where these take more.
        accepted: Messages that were not refused.
        ticks: Ticks in the load.
    """

    records: OpenRecords
    dead_letters: list[LogRecord] = field(default_factory=list)
    labels: list[LogRecord] = field(default_factory=list)
    acks: dict[int, list[int]] = field(default_factory=dict)
    refused: list[RefusalReason] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    checkpoint: Any = None
    messages: int = 0
    size_bytes: int = 0
    accepted: int = 0
    ticks: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived; ticks alone are nothing."""
        return not (self.messages or self.records.partitions_heard or self.dead_letters)

    def add_ack(self, epoch: int, packet_id: int) -> None:
        """Note a message to acknowledge once the load is durable."""
        packet_ids = self.acks.get(epoch)
        if packet_ids is None:
            self.acks[epoch] = [packet_id]
        else:
            packet_ids.append(packet_id)

    def add_tick(self, partitions: Iterable[int], tick: Tick) -> None:
        """Add a tick after everything in the load."""
        wanted = list(partitions)
        self.records.add_tick(wanted, tick)
        self.ticks += len(wanted)

    def durable(self) -> asyncio.Future[None]:
        """Return a future that completes when the load is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(future)
        return future

    def confirm(self) -> None:
        """Complete the waiters: the load is durable."""
        for future in self.waiters:
            if not future.done():
                future.set_result(None)

    def fail(self, reason: str) -> None:
        """Fail the waiters: the load will not become durable."""
        for future in self.waiters:
            if not future.done():
                future.set_exception(LogUnavailable(reason))


class _ClockInDoubt(Exception):
    """A message is from the future, and that may be the fault of this machine's clock."""


class Intake:
    """Checks messages and collects them in the current load.

    Attributes:
        load: The current load; `close_load` starts the next one.
        judge: Decides whose clock is wrong when a message is from the future.
        verdict: Its last verdict that held a message back.
    """

    def __init__(
        self,
        settings: IngestSettings,
        partitions: Callable[[], int],
        decoders: Decoders,
        counters: BridgeCounters,
        judge: ClockJudge | None = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            settings: Bounds, and the prefix of the MQTT topics.
            partitions: Returns the number of partitions of the topic `readings`; called per topic,
                because Kafka's number is known only after connecting.
            decoders: Decoders of the formats beside JSON.
            counters: Counters of the bridge, updated here.
            judge: See the class.
            steady_s: Monotonic seconds.
        """
        self._records = partial(OpenRecords, settings.bundle_messages, settings.bundle_bytes)
        self.load = Load(self._records())
        self.judge = judge or ClockJudge(settings.future_ms)
        self.verdict = Verdict.device
        self._settings = settings
        self._partitions = partitions
        self._decoders = decoders
        self._counters = counters
        self._steady_s = steady_s
        self._labels = f"{settings.labels_prefix}/" if settings.labels_prefix else None
        self._topics: dict[str, Sender] = {}
        self._senders: dict[Address, Sender] = {}

    def take(
        self,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        *,
        again: bool = False,
        is_dup: bool = False,
        is_retained: bool = False,
    ) -> bool:
        """Add one message to the load, as an envelope or as a dead letter; never raises.

        Nothing is kept of a probe of `kpstream doctor` (`ingest.topics.probe_address`).

        Args:
            topic: Its MQTT topic.
            payload: Its body.
            recv_ms: Time of receipt, epoch ms.
            qos: Its quality of service.
            again: Whether the message was held back before, so its device has voted.
            is_dup: Whether the broker may have sent it before (MQTT's DUP flag).
            is_retained: Whether the broker has kept it from before the subscription.

        Returns:
            False if the message has to wait, because this machine's clock may be wrong. Nothing has
            changed then.
        """
        load = self.load
        try:
            sender = self._topics.get(topic)
            if sender is not None:
                self._take_body(sender, payload, recv_ms, again)
            elif self._labels is not None and topic.startswith(self._labels):
                self._add_label(topic, payload, recv_ms)
            elif (decoder := self._decoders.find(topic)) is not None:
                self._hear_decoded(decoder, topic, payload, recv_ms, again)
                flags = (is_dup, is_retained)
                self._take_decoded(decoder, topic, payload, recv_ms, qos, flags)
            elif (sender := self._sender(topic)) is not None:
                self._take_body(sender, payload, recv_ms, again)
            else:
                self._counters.probes_total += 1
        except _ClockInDoubt:
            return False
        except RefusedMessage as exc:
            self._refuse(exc.reason, exc.detail, topic, payload, recv_ms)
        except Exception as exc:
            # A bug in kpstream must not stop the pipeline for all devices: quarantine the message.
            log.exception("checking a message on %r failed", topic)
            self._counters.faults_total += 1
            detail = f"checking it failed: {error_text(exc, named=True)}"
            self._refuse(RefusalReason.wrong_shape, detail, topic, payload, recv_ms)
        else:
            load.accepted += 1
        load.messages += 1
        load.size_bytes += len(payload)
        self._counters.received_total += 1
        self._counters.received_bytes_total += len(payload)
        return True

    def hear(self, topic: str, payload: bytes, recv_ms: int) -> None:
        """Count the vote of a message that is held back; never raises."""
        try:
            known = self._topics.get(topic)
            if known is None and (decoder := self._decoders.find(topic)) is not None:
                if (sent := decoder.sent_at(topic, payload, recv_ms)) is not None:
                    self.judge.hear(sent.sender, sent.newest_ms, self._steady_s())
            else:
                address = known.address if known else parse_topic(topic, self._settings.mqtt_prefix)
                newest_ms = _span(decode_payload(payload))[1]
                self.judge.hear(f"{address.site}/{address.device}", newest_ms, self._steady_s())
        except Exception:  # a message that is broken has no vote; `take` will say why
            log.debug("a held message on %r has no event time", topic)

    def take_due(
        self, now_ms: int, quiet_since_ms: int | None = None, *, everything: bool = False
    ) -> bool:
        """Add what the decoders have held back and is due; whether there was any."""
        due = self._decoders.due(None if everything else now_ms, quiet_since_ms)
        for message in due:
            try:
                self._add_canonical(message, now_ms)
            except RefusedMessage as exc:
                topic, body = message[0].mqtt_topic(self._settings.mqtt_prefix), message[1]
                raw = body if isinstance(body, bytes) else orjson.dumps(body)
                self._refuse(exc.reason, exc.detail, topic, raw, now_ms)
        return bool(due)

    def take_oversized(self, message: Oversized, recv_ms: int) -> None:
        """Add what is left of a message above the limit to the load, as a dead letter."""
        self._counters.received_total += 1
        self._counters.received_bytes_total += message.packet_bytes
        self._counters.oversized_total += 1
        self._counters.oversized_bytes_total += message.packet_bytes
        self.load.messages += 1
        self.load.size_bytes += len(message.head)
        head = message.head[: self._settings.dead_letter_bytes]
        detail = (
            f"an MQTT packet of {message.packet_bytes} bytes, at most "
            f"{self._settings.max_packet_bytes} are taken (KPSTREAM_INGEST_MAX_PACKET_BYTES): send "
            f"smaller messages (first {len(head)} of {message.packet_bytes} bytes kept)"
        )
        self._refuse(RefusalReason.too_large, detail, message.topic, head, recv_ms)

    def close_load(self) -> Load:
        """Return the current load with the decoders' checkpoint, and start an empty one."""
        load = self.load
        self.load = Load(self._records(load.records.next_number))
        load.checkpoint = self._decoders.checkpoint()
        return load

    def records(self, load: Load, now_ms: int) -> list[LogRecord]:
        """Return dead letters and labels of a load, then its readings, of bounded size."""
        records = load.dead_letters + load.labels
        for partition, value in load.records.encode():
            records.append(LogRecord(READINGS, partition, None, value, now_ms))
        return records

    def _take_body(self, sender: Sender, payload: bytes, recv_ms: int, again: bool) -> None:
        """Take a JSON message.

        Raises:
            RefusedMessage: Its body is invalid, or all its readings are too far in the future.
            _ClockInDoubt: It has to wait.
        """
        document = decode_payload(payload)
        earliest_ms, newest_ms, readings = _span(document)
        if not again:
            self.judge.hear(sender.clock, newest_ms, self._steady_s())
        if self.judge.is_ahead(newest_ms, recv_ms):
            is_refused = self.judge.is_ahead(earliest_ms, recv_ms)
            self._judge(sender.clock, newest_ms, recv_ms, is_refused=is_refused)
            self._check_time(earliest_ms, recv_ms)
        self._add(sender, document, readings, payload, recv_ms)

    def _take_decoded(
        self,
        decoder: Decoder,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        flags: tuple[bool, bool],
    ) -> None:
        """Take a message of another format: add all good readings, then raise the first refusal.

        Raises:
            RefusedMessage: Part of the message, or all of it, was refused.
        """
        is_dup, is_retained = flags
        decoded = decoder.decode(
            topic, payload, recv_ms, qos, is_dup=is_dup, is_retained=is_retained
        )
        refused = decoded.refused
        for message in decoded.messages:
            try:
                self._add_canonical(message, recv_ms)
            except RefusedMessage as exc:
                refused = refused or exc
        if refused is not None:
            raise refused

    def _hear_decoded(
        self, decoder: Decoder, topic: str, payload: bytes, recv_ms: int, again: bool
    ) -> None:
        """Judge a message of another format before it changes the decoder's memory.

        Raises:
            _ClockInDoubt: It has to wait.
        """
        sent = decoder.sent_at(topic, payload, recv_ms)
        if sent is not None:
            sender, earliest_ms, newest_ms = sent
            if not again:
                self.judge.hear(sender, newest_ms, self._steady_s())
            if self.judge.is_ahead(newest_ms, recv_ms):
                is_refused = self.judge.is_ahead(earliest_ms, recv_ms)
                self._judge(sender, newest_ms, recv_ms, is_refused=is_refused)

    def _judge(self, device: str, event_ms: int, recv_ms: int, *, is_refused: bool) -> None:
        verdict = self.judge.judge(device, event_ms, recv_ms, self._steady_s())
        if verdict is Verdict.machine or (verdict is Verdict.undecided and is_refused):
            self.verdict = verdict
            raise _ClockInDoubt

    def _add(
        self, sender: Sender, document: dict[str, Any], readings: int, body: bytes, recv_ms: int
    ) -> None:
        """Add a checked JSON message to the load."""
        load, values = self.load, document["values"]
        cells = readings * (1 + len(values))
        load.size_bytes += max(0, 8 * cells - len(body))
        if cells > LARGEST_CELLS:
            load.records.add_body(sender, recv_ms, readings, body)
            return
        ts = document.get("ts")
        if ts is None:
            ts = range(
                document["t0"], document["t0"] + readings * document["dt_ms"], document["dt_ms"]
            )
        load.records.add(sender, recv_ms, ts, values)

    def _add_canonical(self, message: Canonical, recv_ms: int) -> None:
        """Add a message of a decoder.

        Raises:
            RefusedMessage: Its body is invalid, or a reading is too far in the future.
        """
        sender = self._sender_at(message[0])
        if isinstance(message, Checked):
            self._check_time(message.earliest_ms, recv_ms)
            body = message.body
            self.load.size_bytes += 8 * message.readings * (1 + len(body["values"]))
            self.load.records.add(sender, recv_ms, body["ts"], body["values"])
        else:
            document = decode_payload(message[1])
            earliest_ms, _, readings = _span(document)
            self._check_time(earliest_ms, recv_ms)
            self._add(sender, document, readings, message[1], recv_ms)

    def _sender(self, topic: str) -> Sender | None:
        """Return the sender of a topic; None for the doctor's message.

        Raises:
            RefusedMessage: `bad_topic`, see `_parsed`.
        """
        address = self._parsed(topic, self._settings.mqtt_prefix)
        if address.is_probe:
            return None
        if len(self._topics) >= _KNOWN_TOPICS:
            self._topics.clear()
        sender = self._topics[topic] = self._sender_at(address)
        return sender

    def _sender_at(self, address: Address) -> Sender:
        """Return the sender of an address: the same one as long as a block may hold it."""
        sender = self._senders.get(address)
        if sender is None:
            if len(self._senders) >= _KNOWN_TOPICS:
                self._senders.clear()
                self._topics.clear()
                self.load.records.leave_blocks()
            key = device_key(address.site, address.device)
            partition = partition_of(key, self._partitions())
            sender = self._senders[address] = Sender(address, partition)
        return sender

    def _add_label(self, topic: str, payload: bytes, recv_ms: int) -> None:
        """Add a label; no reading has to be known of its device.

        Raises:
            RefusedMessage: The topic or the label is invalid, or about the future.
        """
        address = self._parsed(topic, self._settings.labels_prefix)
        label = decode_label(payload)
        label.check_past(recv_ms, self._settings.future_ms)
        record = LabelRecord(address, recv_ms, label)
        self.load.labels.append(label_log_record(record, self._partitions()))

    def _parsed(self, topic: str, prefix: str) -> Address:
        """Return the address in a topic; count topics of other forms by their shape.

        Raises:
            RefusedMessage: `bad_topic`; also for a site or a format that is not configured now,
                because the broker still delivers what came under a former subscription.
        """
        sites = self._settings.mqtt_sites
        try:
            address = parse_topic(topic, prefix)
            if sites and address.site not in sites:
                detail = (
                    f"site {address.site!r} is not among KPSTREAM_INGEST_MQTT_SITES; it comes from "
                    "a subscription of former settings"
                )
                raise RefusedMessage(RefusalReason.bad_topic, detail)
        except RefusedMessage as exc:
            self._counters.count_stray(topic)
            if topic.startswith(SPARKPLUG_PREFIX):
                detail = f"{topic[:200]!r}: KPSTREAM_INGEST_SPARKPLUG is unset, so no Sparkplug"
                raise RefusedMessage(exc.reason, detail) from exc
            raise
        return address

    def _check_time(self, earliest: int, recv_ms: int) -> None:
        """Refuse a message all of whose readings are too far in the future."""
        if self.judge.is_ahead(earliest, recv_ms):
            ahead = f"{earliest - recv_ms} ms ahead of the receive time {recv_ms}"
            detail = f"event time {earliest} is {ahead}, at most {self._settings.future_ms} allowed"
            if advice := unit_advice(earliest):
                detail += f": {advice}"
            raise RefusedMessage(RefusalReason.future, detail)

    def _refuse(
        self, reason: RefusalReason, detail: str, topic: str, payload: bytes, recv_ms: int
    ) -> None:
        most = self._settings.dead_letter_bytes
        if len(payload) > most:
            detail += f" (first {most} of {len(payload)} bytes kept)"
            payload = payload[:most]
        dead_letter = DeadLetter(reason, detail, topic, recv_ms, bytes(payload), "bridge")
        value = encode_dead_letter(dead_letter)
        self.load.dead_letters.append(
            LogRecord(DEAD_LETTERS, None, dead_letter.id.encode(), value, recv_ms)
        )
        self.load.refused.append(reason)


def in_parts(records: list[LogRecord], most_bytes: int = _APPEND_BYTES) -> list[list[LogRecord]]:
    """Divide records, in order, into one part or more of at most `most_bytes`, or of one record.

    >>> record = LogRecord(DEAD_LETTERS, None, None, b"1234", 0)
    >>> [len(part) for part in in_parts([record] * 5, 8)], in_parts([])
    ([2, 2, 1], [[]])
    """
    parts: list[list[LogRecord]] = [[]]
    size = 0
    for record in records:
        size += len(record.value)
        if size > most_bytes and parts[-1]:
            parts.append([])
            size = len(record.value)
        parts[-1].append(record)
    return parts


def _span(document: dict[str, Any]) -> tuple[int, int, int]:
    """The earliest and the newest event time of a checked body, and its number of readings."""
    ts = document.get("ts")
    if type(ts) is int:
        return ts, ts, 1
    if ts is not None:
        return min(ts), max(ts), len(ts)
    first, count = document["t0"], len(next(iter(document["values"].values())))
    return first, first + (count - 1) * document["dt_ms"], count

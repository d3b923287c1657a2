"""The bridge: takes messages from the MQTT broker and appends them to the log.

The bridge keeps the delivery promise. It acknowledges a message to the broker (PUBACK) only after
the log has confirmed its record, in the order of arrival, and only over the connection that
delivered it. The broker keeps what is not acknowledged and delivers it again after a reconnect or a
restart: at least once, never less.

1. A message arrives and is checked at once (`ingest.intake`). An accepted message is added to the
   columns of its partition in the load, a refused one becomes a dead letter in the same load.
2. After one beat, or sooner (`ingest.beat`), the load is closed and appended, one record per
   partition, with a tick behind it where devices wait for one. **One append at a time**: with
   several, a later one could succeed where an earlier one failed, and the readings of a device
   would change their order. Messages that arrive meanwhile form the next load, so loads grow with
   the traffic and share the cost of a durable write.
3. The log confirms, and the bridge acknowledges. If the log does not confirm, the bridge appends
   the same load again, with back-off. After `log_patience_s`, `run` raises and the process ends
   with nothing acknowledged.

A message from the future may be the fault of this machine's clock (`ingest.clockjudge`). It and all
that follow are then held back, neither checked nor acknowledged (`ingest.holding`), until the clock
is right or the fault is known to be the device's.

MQTT 5 provides back-pressure: unacknowledged messages count against the receive maximum, and the
broker keeps the rest. Where nothing bounds them (3.1.1, QoS 0, many large messages, a broker that
does not keep to the receive maximum), the bridge stops reading from the socket.

A message above `max_packet_bytes` never enters memory: its bytes are discarded as they arrive, and
its head becomes a dead letter (`too_large`). It is acknowledged like any other, because the broker
would otherwise send it again at every connect (`ingest.mqtt.packets`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from ingest.appending import PatientLog
from ingest.beat import LEAST_WINDOW, Beat
from ingest.bridgehealth import BridgeCounters, BridgeHealth, ConnectedSince, lost_sessions
from ingest.clock import PROCESS_CLOCK
from ingest.clock import now_ms as process_now_ms
from ingest.clockjudge import ClockJudge
from ingest.decoder import Decoder
from ingest.decoders import Decoders
from ingest.holding import Holding
from ingest.intake import Intake, Load, in_parts
from ingest.logwriter import LogWriter
from ingest.messages import Tick
from ingest.mqtt.connection import Connection
from ingest.mqtt.packets import Oversized
from ingest.mqtt.subscriptions import FilterMemory
from ingest.mqtt.versions import VersionMemory
from ingest.mqttsettings import endpoint_of, stale_filters_of, subscriptions_of
from ingest.publishing import Publications
from ingest.settings import IngestSettings
from ingest.ticks import HeardPartitions, TickRhythm

__all__ = ["Bridge"]

log = logging.getLogger(__name__)

_HEARTBEAT_S, _IDLE_HEARTBEAT_S = 0.25, 0.5
_MOST_HELD_BYTES = 32 * 1024 * 1024
"""Payloads that wait for the log, or their numbers if larger; dead letters may take twice that."""
_STUCK_S = 60.0
"""Seconds without a turn after which the task that drives the connection counts as stuck."""
_LINGER_S = 0.5
"""Seconds for which messages are still taken after the farewell, because some are on the way."""


class Bridge:
    """Moves messages from the broker to the log. One per client id, on one event loop.

    Attributes:
        counters: Counters since the start.
    """

    def __init__(
        self,
        settings: IngestSettings,
        writer: LogWriter,
        *,
        decoders: Sequence[Decoder] = (),
        subscribed: FilterMemory | None = None,
        versions: VersionMemory | None = None,
        leaves: bool = False,
        now_ms: Callable[[], int] = process_now_ms,
        steady_s: Callable[[], float] = time.monotonic,
        settle: Callable[[Callable[[int], bool]], bool] = PROCESS_CLOCK.settle,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            settings: The broker, and the bounds.
            writer: The log.
            decoders: Decoders of the message formats beside JSON; they share no topic
                (`ingest.decoders.check_claims`).
            subscribed: Memory of the filters that earlier processes subscribed to, if any.
            versions: Memory of the MQTT version that the broker has accepted, if any.
            leaves: Take only what the broker still holds for this client id, see `is_drained`.
            now_ms: Clock of the receive times, epoch ms.
            steady_s: Monotonic clock for durations, seconds.
            settle: Lets a pending step of the clock count (`ingest.clock.MachineClock.settle`).
        """
        self.counters = BridgeCounters()
        self._settings = settings
        self._writer = writer
        self._decoders = Decoders(decoders)
        self._publications = Publications(self._decoders)
        self._log = PatientLog(
            writer, self._decoders.keep, settings.log_patience_s, self.counters, now_ms, steady_s
        )
        self._now_ms = now_ms
        self._steady_s = steady_s
        judge = ClockJudge(settings.future_ms)
        self._intake = Intake(
            settings, lambda: writer.partitions, self._decoders, self.counters, judge, steady_s
        )
        self._held = Holding(self._intake, now_ms, settle)
        self._arrived = asyncio.Event()  # the load is to be closed
        self._beat = Beat(settings.beat_ms, min(LEAST_WINDOW, settings.receive_maximum))
        self._beat_timer: asyncio.TimerHandle | None = None
        self._writing: Load | None = None
        self._ticks: TickRhythm | None = None
        self._unconfirmed = 0
        self._recv_ms: int | None = None
        self._since = ConnectedSince(now_ms())
        self._last_packet_ms: int | None = None
        self._last_packet_s: float | None = None
        self._connected_s: float | None = None
        self._session_lost_ms: int | None = None
        self._heard = HeardPartitions()
        self._stopping = False
        self._running = False
        self._connection = Connection(
            endpoint_of(settings),
            on_message=self._on_message,
            on_oversized=self._on_oversized,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            after_read=self._after_read,
            subscribe=subscriptions_of(settings, self._decoders.filters),
            stale_filters=stale_filters_of(settings),
            filter_memory=subscribed,
            version_memory=versions,
            leaves=leaves,
            will=lambda: self._publications.will(now_ms()),
            session_expiry_s=settings.session_expiry_s,
            receive_maximum=settings.receive_maximum,
            max_packet_bytes=settings.max_packet_bytes,
            rest_s=self._beat.rest_s,
        )

    # -- state ------------------------------------------------------------------------------

    @property
    def connected_since_ms(self) -> int | None:
        """Time since which silence means a silent device (`ConnectedSince`), epoch ms, or None."""
        return self._since.ms

    @property
    def unconfirmed(self) -> int:
        """Messages received and not yet acknowledged."""
        return self._unconfirmed

    def health(self) -> BridgeHealth:
        """Return the current state."""
        connection = self._connection
        failing_ms, lost = self._log.failing_since_ms, self.counters.sessions_lost_total
        void = (*connection.void, *self._publications.refused)
        error = connection.error or next(iter(void), None)
        is_stuck = self._running and connection.idle_s > _STUCK_S
        if is_stuck:
            error = f"the MQTT task has not run for {connection.idle_s:.0f} s: restart the process"
        is_connected = connection.connected.is_set() and connection.subscribed
        is_connected = is_connected and not (is_stuck or void)
        if not is_connected:
            error = error or connection.waiting
        return BridgeHealth(
            running=self._running and connection.alive,
            connected=is_connected,
            protocol=connection.protocol,
            connected_since_ms=self._since.ms,
            last_packet_ms=self._last_packet_ms,
            unconfirmed=self._unconfirmed,
            saturated=self._is_saturated,
            log_unavailable_since_ms=failing_ms,
            log_unavailable_s=self._log.failing_for_s,
            held=len(self._held),
            held_total=self._held.held_total,
            clock_problem=self._held.problem,
            stray_topics=dict(self.counters.stray_topics_total),
            error=error if failing_ms is None else self._log.error,
            idle_ms=round(connection.idle_s * 1000) if self._running else 0,
            connection_faults=connection.faults_total,
            oversized=self.counters.oversized_total,
            announced=None if connection.announced is None else connection.announced.as_dict(),
            session_expiry_asked_s=self._settings.session_expiry_s,
            sessions_lost=lost,
            session_lost_ms=self._session_lost_ms,
            promise_void=void,
            notices=(*connection.weaker, *lost_sessions(lost, self._session_lost_ms)),
        )

    def is_drained(self, quiet_ms: int) -> bool:
        """Whether a bridge that leaves has taken and logged everything.

        True once no message has come for `quiet_ms` and all are acknowledged. A `stop` after that
        ends the session, so the broker forgets it; after an earlier `stop` the broker keeps the
        remaining messages.
        """
        if not self.health().connected or self._unconfirmed or self._connected_s is None:
            return False
        quiet_since_s = max(self._connected_s, self._last_packet_s or self._connected_s)
        quiet_s = self._steady_s() - quiet_since_s
        self._connection.may_end_session = 1000 * quiet_s >= quiet_ms
        return self._connection.may_end_session

    def quiet_partitions(self, quiet_ms: int) -> list[int]:
        """Return the partitions whose devices may have fallen silent; see `HeardPartitions`."""
        return self._heard.within(quiet_ms, self._steady_s(), self._writer.partitions)

    # -- work -------------------------------------------------------------------------------

    def next_tick(self) -> Tick | None:
        """Return a tick of this moment; None while silence says nothing about devices.

        Both times of the tick are read together: a clock that was just set must not make devices
        look silent for the size of the step.
        """
        now_ms = self._now_ms()
        self._since.on_tick(now_ms, saturated=self._is_saturated)
        since_ms = self._since.ms
        return None if since_ms is None or self._held else Tick(now_ms, since_ms)

    def add_ticks(self, partitions: Callable[[], Sequence[int]], tick_ms: int) -> None:
        """Let loads carry ticks behind their messages.

        Args:
            partitions: Returns the partitions that need a tick now.
            tick_ms: Most milliseconds between two ticks; where no load is written for as long,
                `append_due_ticks` writes them.
        """
        self._ticks = TickRhythm(partitions, self._settings.beat_ms, tick_ms)

    async def append_due_ticks(self) -> None:
        """Append a tick to the partitions that have got none with a load; returns when durable.

        Raises:
            LogUnavailable: The bridge ended first.
        """
        wanted = [] if self._ticks is None else self._ticks.due(self._steady_s())
        if self._ticks is not None and wanted and (tick := self.next_tick()) is not None:
            self._ticks.ticked(wanted, self._steady_s())
            await self.append_tick(wanted, tick)

    async def append_tick(self, partitions: Iterable[int], tick: Tick) -> None:
        """Append a tick to partitions, after every message received so far.

        Returns when it is durable.

        Raises:
            LogUnavailable: The bridge ended first.
        """
        self._connection.poll()
        load = self._intake.load
        load.add_tick(partitions, tick)
        self._arrived.set()
        await load.durable()

    async def run(self) -> None:
        """Run until `stop`; on return, everything received is in the log and acknowledged.

        Raises:
            LogUnavailable: The log has not confirmed for `log_patience_s`. Only messages that are
                in the log were acknowledged. End the process; the broker keeps the rest.
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
                load = self._writing = self._close_load()
                try:
                    await self._write(load)
                except Exception as exc:
                    load.fail(str(exc))
                    raise
                self._set_beat()
        finally:
            self._running = False
            heartbeat.cancel()
            self._stop_beat()
            if not self._stopping:
                self._publications.publish_farewell(self._connection, self._now_ms())
            await self._connection.stop()
            self._intake.load.fail("the bridge has stopped")

    def resubscribe(self) -> None:
        """Hold the filters that the decoders have now."""
        self._connection.hold_filters(subscriptions_of(self._settings, self._decoders.filters))

    def stop(self) -> None:
        """Take no more messages; `run` returns when those taken are in the log and acknowledged.

        If a decoder announces the shutdown to devices (`Decoder.farewell`), the bridge takes
        messages for another half second, because some are still in flight.
        """
        may_linger = self._running and not self._stopping
        if may_linger and self._publications.publish_farewell(self._connection, self._now_ms()):
            asyncio.get_running_loop().call_later(_LINGER_S, self._stop_taking)
        else:
            self._stop_taking()

    def _stop_taking(self) -> None:
        self._stopping = True
        # Not acknowledged, so the broker keeps them.
        self._unconfirmed -= len(self._held.drop(lambda _: True))
        self._intake.take_due(self._now_ms(), everything=True)
        self._connection.pause()
        self._arrived.set()

    # -- from the broker --------------------------------------------------------------------

    def _on_message(
        self, packet_id: int, qos: int, topic: str, payload: bytes, is_dup: bool, is_retained: bool
    ) -> None:
        """Take one message, or hold it; never raises, whatever its content.

        It is acknowledged in the order of arrival.
        """
        if self._stopping:
            return  # not acknowledged, so the broker keeps it for the next run
        recv_ms = self._note_arrival()
        self._held.offer(
            self._connection.epoch,
            packet_id,
            qos,
            topic,
            payload,
            recv_ms,
            is_dup=is_dup,
            is_retained=is_retained,
        )
        if self._is_full:
            self._connection.pause()

    def _on_oversized(self, message: Oversized) -> None:
        """Take what is left of a message above the limit: a dead letter, acknowledged like any."""
        if self._stopping:
            return
        self._held.offer_oversized(self._connection.epoch, message, self._note_arrival())
        if self._is_full:
            self._connection.pause()

    def _note_arrival(self) -> int:
        """Count a message; returns its time of receipt, which is that of the first of its read."""
        self._unconfirmed += 1
        recv_ms = self._recv_ms = self._recv_ms or self._now_ms()
        return recv_ms

    @property
    def _is_full(self) -> bool:
        """Whether no more messages may be read until the log confirms some."""
        if self._unconfirmed > self._settings.receive_maximum:
            return True
        held_bytes = self._intake.load.size_bytes + self._held.size_bytes
        if self._writing is not None:
            held_bytes += self._writing.size_bytes
        return held_bytes > _MOST_HELD_BYTES

    def _after_read(self) -> None:
        is_taken = self._held.release()
        if self._recv_ms is not None:
            self._last_packet_ms, self._last_packet_s = self._recv_ms, self._steady_s()
            self._recv_ms = None
            is_taken = True
        if is_taken:
            self._set_beat()

    def _on_connected(self, session_present: bool) -> None:
        self.counters.connects_total += 1
        now_ms, self._connected_s = self._now_ms(), self._steady_s()
        self._heard.connected(self._connected_s)
        lost = self._connection.sessions_lost_total
        if lost > self.counters.sessions_lost_total:
            self.counters.sessions_lost_total, self._session_lost_ms = lost, now_ms
        if session_present:  # the broker delivers again what was not acknowledged
            self._unconfirmed -= len(self._held.drop(lambda message: message.qos > 0))
        self._since.on_connected(now_ms, session_present=session_present)
        self._decoders.connected(now_ms)
        self._beat.on_connected(learns=self._connection.protocol == "5")
        self._publications.publish_due(self._connection, now_ms)

    def _on_disconnected(self, reason: str) -> None:
        self._since.on_disconnected()
        self._publications.refused = ()
        if not self._stopping:
            log.info("connection to the MQTT broker ended: %s", reason)  # the problem is logged

    # -- the beat ---------------------------------------------------------------------------

    def _set_beat(self) -> None:
        """See to it that the load is closed in time."""
        if self._arrived.is_set() or (load := self._intake.load).is_empty:
            return
        closes_now = self._beat.closes_now(load.messages, self._unacknowledged, self._steady_s())
        if closes_now or self._is_full or self._stopping:
            self._arrived.set()
        elif self._beat_timer is None:
            self._wait_or_close()

    def _wait_or_close(self) -> None:
        if (wait_s := self._beat.wait_s(self._intake.load.messages)) > 0:
            self._beat_timer = asyncio.get_running_loop().call_later(wait_s, self._on_beat)
            return
        self._beat.timed_out(self._unacknowledged, self._steady_s())
        self._arrived.set()

    def _on_beat(self) -> None:
        self._connection.poll()
        if not self._arrived.is_set():
            self._wait_or_close()

    def _stop_beat(self) -> None:
        if self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_timer = None

    @property
    def _unacknowledged(self) -> int:
        """Messages of this connection that wait for their acknowledgement."""
        epoch = self._connection.epoch
        loads = (self._intake.load, self._writing)
        return sum(len(load.acks.get(epoch, ())) for load in loads if load is not None)

    def _close_load(self) -> Load:
        """Close the load; where devices wait, a tick of this moment follows its messages."""
        self._stop_beat()
        self._beat.closed(now_s := self._steady_s())
        load = self._intake.load
        if self._ticks is not None and not load.is_empty:
            wanted = self._ticks.due(now_s, load.records.partitions_heard)
            if wanted and (tick := self.next_tick()) is not None:
                load.add_tick(wanted, tick)
                self._ticks.ticked(wanted, now_s)
        return self._intake.close_load()

    # -- to the log -------------------------------------------------------------------------

    async def _write(self, load: Load) -> None:
        """Append a load, then acknowledge its messages and count them."""
        records = self._intake.records(load, self._now_ms())
        *before, last = in_parts(records)
        for part in before:
            await self._log.append(part, None)
        if last or load.checkpoint is not None:
            await self._log.append(last, load.checkpoint)
        self._acknowledge(load)
        self._heard.heard(load.records.partitions_heard, self._steady_s())
        counters = self.counters
        counters.logged_total += load.accepted
        counters.ticks_total += load.ticks
        counters.records_total += len(records)
        counters.dead_lettered_total.update(load.refused)
        load.confirm()
        self._unconfirmed -= load.messages
        self._writing = None
        if not self._is_full and not self._stopping:
            self._connection.resume()

    def _acknowledge(self, load: Load) -> None:
        for epoch, packet_ids in load.acks.items():
            if epoch == self._connection.epoch:
                self._connection.ack(*packet_ids)
                if self._beat.is_burst:
                    self._connection.hurry()
            else:
                self.counters.stale_acks_total += len(packet_ids)

    # -- time -------------------------------------------------------------------------------

    @property
    def _is_saturated(self) -> bool:
        """Whether messages may be waiting, here or at the broker, so that silence means nothing."""
        return (
            self._unconfirmed >= self._settings.receive_maximum * 9 // 10
            or bool(self._held)
            or self._is_full
            or self._connection.is_discarding
        )

    async def _heartbeat(self) -> None:
        """Publish what is due, and keep `connected_since_ms` right."""
        self._since.on_tick(self._now_ms(), saturated=self._is_saturated)
        while True:
            is_idle = self._decoders.is_empty and not self._held
            await asyncio.sleep(_IDLE_HEARTBEAT_S if is_idle else _HEARTBEAT_S)
            now_ms = self._now_ms()
            if self._held.release():
                self._arrived.set()
            self._since.on_tick(now_ms, saturated=self._is_saturated)
            try:
                quiet_since_ms = None if self._held else self._since.ms
                if self._intake.take_due(now_ms, quiet_since_ms):
                    self._arrived.set()
                self._publications.publish_due(self._connection, now_ms)
            except Exception:  # a heart that stops is noticed by nobody
                self.counters.faults_total += 1
                log.exception("publishing the messages that are due failed")

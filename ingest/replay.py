"""Publish recordings over MQTT like live devices, with the faults that devices have.

Every recording becomes one device. Readings can be sent at a rate per device or as fast as the
broker confirms, several in a message, out of order, twice, or with gaps. The seed decides all of
it, so a replay can be repeated exactly. The disorder never exceeds `disorder_ms`, so a windower
with at least that lateness cuts the same windows as without disorder.
"""

from __future__ import annotations

import asyncio
import heapq
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.clock import now_ms
from ingest.errors import IngestError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.patience import REACH_S, Patience
from ingest.recordings import Recording
from ingest.stopping import until_stopped
from ingest.topics import MQTT_PREFIX, Address

__all__ = ["ReplayError", "ReplayOptions", "ReplayPlan", "ReplayReport", "plan_replay", "replay"]

_GAP_READINGS = 10
_TURN = 50


class ReplayError(IngestError):
    """The options of a replay are invalid, or the broker cannot be reached."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of a replay.

    Attributes:
        endpoint: The broker, and our client id there.
        site: First level of the devices' addresses.
        prefix: MQTT prefix.
        rate_hz: Readings per second of each device; None: as fast as the broker confirms.
        readings_per_message: Readings in one message.
        devices: Number of recordings to publish, from the first; None: all.
        disorder_ms: Longest event time by which a reading is sent out of order.
        duplicates: Share of the readings that are sent twice, 0 to 1.
        gaps: Share of the readings left out, in stretches of ten, 0 to 0.5.
        seed: Seed of all random choices.
        start_ms: Event time of every first reading; None: every device's last reading is now.
        in_flight: Most unconfirmed messages.
        connect_s: Seconds to wait for the broker before giving up (`Connection.wait_connected`).
    """

    endpoint: Endpoint
    site: str = "replay"
    prefix: str = MQTT_PREFIX
    rate_hz: float | None = None
    readings_per_message: int = 1
    devices: int | None = None
    disorder_ms: int = 0
    duplicates: float = 0.0
    gaps: float = 0.0
    seed: int = 1
    start_ms: int | None = None
    in_flight: int = 500
    connect_s: float = REACH_S


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Result of a replay.

    Attributes:
        devices: Devices that published.
        readings: Readings published, without their duplicates.
        duplicates: Readings published a second time.
        left_out: Readings omitted as gaps.
        messages: Messages published.
        confirmed: Messages that the broker has confirmed.
        seconds: Time until the last message was confirmed.
        complete: All planned messages are confirmed.
    """

    devices: int
    readings: int
    duplicates: int
    left_out: int
    messages: int
    confirmed: int
    seconds: float
    complete: bool


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """One device's part of a replay, decided in advance.

    Attributes:
        recording: Recording to publish.
        topic: MQTT topic.
        start_ms: Event time of its first reading.
        order: Indices of readings in the order of sending, int64 `[m]`; duplicates occur twice.
        is_duplicate: Whether it is the second occurrence, bool `[m]`.
        left_out: Number of readings omitted.
    """

    recording: Recording
    topic: str
    start_ms: int
    order: NDArray[np.int64]
    is_duplicate: NDArray[np.bool_]
    left_out: int

    @property
    def ts_ms(self) -> NDArray[np.int64]:
        """Event times of all readings of the recording, int64 `[n]`."""
        return self.recording.offsets_ms + self.start_ms

    def body(self, at: int, readings: int) -> bytes:
        """Encode the message with the readings `order[at : at + readings]`."""
        chosen = self.order[at : at + readings]
        # float32 in its shortest decimal form: parsing it as float32 gives the same bits.
        columns = np.ascontiguousarray(self.recording.values[chosen].T)
        values = dict(zip(self.recording.channels, columns, strict=True))
        body = {"ts": self.ts_ms[chosen], "values": values}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def plan_replay(
    recordings: Sequence[Recording], options: ReplayOptions, now_ms: int
) -> list[ReplayPlan]:
    """Decide what is sent in which order; the same arguments give the same plan.

    Raises:
        ReplayError: There is nothing to publish, or an option is out of range.
    """
    chosen = recordings[: options.devices]
    if not chosen or not all(len(recording.offsets_ms) for recording in chosen):
        msg = "there is nothing to replay: no recordings, an empty one, or devices is 0"
        raise ReplayError(msg)
    _check(options, chosen)
    return [_plan(recording, options, now_ms) for recording in chosen]


async def replay(
    recordings: Sequence[Recording],
    options: ReplayOptions,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> ReplayReport:
    """Publish with QoS 1 and return when the broker has confirmed everything.

    Args:
        recordings: One device each.
        options: Options.
        on_progress: Called every 50 messages with (readings published, messages confirmed).
        on_wait: Called with what the replay waits for, while it gets on with nothing (`Publisher`).
        stop: Set it to end early; what is on its way can still be confirmed (`Publisher.settle`).

    Raises:
        ReplayError: See `plan_replay`; or the broker cannot be reached within `connect_s`.
        MqttError: The broker leaves what is published unanswered, or refuses such messages.
    """
    plans = plan_replay(recordings, options, now_ms())
    began_s = time.monotonic()
    tally = _Tally()
    patient_s = Patience().most_s
    async with Publisher(
        options.endpoint, in_flight=options.in_flight, gives_up_s=patient_s, on_wait=on_wait
    ) as publisher:
        sending = _send(plans, options, publisher, tally, on_progress)
        if not await until_stopped(sending, stop or asyncio.Event()):
            await publisher.settle()
        ended_s = time.monotonic()
    if on_progress is not None:
        on_progress(tally.readings + tally.duplicates, publisher.confirmed_total)
    planned = sum(_messages(plan, options) for plan in plans)
    return ReplayReport(
        devices=len(plans),
        readings=tally.readings,
        duplicates=tally.duplicates,
        left_out=sum(plan.left_out for plan in plans),
        messages=publisher.published_total,
        confirmed=publisher.confirmed_total,
        seconds=ended_s - began_s,
        complete=publisher.confirmed_total == planned,
    )


@dataclass(slots=True)
class _Tally:
    readings: int = 0
    duplicates: int = 0


async def _connected(publisher: Publisher, options: ReplayOptions) -> None:
    connection = publisher.connection
    if not await connection.wait_connected(options.connect_s):
        where = f"{options.endpoint.host}:{options.endpoint.port}"
        msg = f"not connected to {where}: {publisher.waiting}; to choose another, use --mqtt"
        raise ReplayError(msg)


async def _send(
    plans: Sequence[ReplayPlan],
    options: ReplayOptions,
    publisher: Publisher,
    tally: _Tally,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    await _connected(publisher, options)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    for count, (due_s, device, at) in enumerate(_schedule(plans, options)):
        if options.rate_hz is not None:
            wait_s = start_s + due_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        elif count % _TURN == 0:
            await asyncio.sleep(0)  # let confirmations be read even if nothing else waits
        plan = plans[device]
        size = options.readings_per_message
        await publisher.publish(plan.topic, plan.body(at, size))
        copies = int(plan.is_duplicate[at : at + size].sum())
        tally.duplicates += copies
        tally.readings += min(size, len(plan.order) - at) - copies
        if on_progress is not None and count % _TURN == 0:
            on_progress(tally.readings + tally.duplicates, publisher.confirmed_total)
    await publisher.flush()


def _schedule(
    plans: Sequence[ReplayPlan], options: ReplayOptions
) -> Iterator[tuple[float, int, int]]:
    """Yield (seconds from the start, device, index in its order) of every message when due.

    Without a rate the devices take turns, so that all of them advance together.
    """
    rate_hz = options.rate_hz or 1.0

    def of_device(device: int) -> Iterator[tuple[float, int, int]]:
        size = options.readings_per_message
        for at in range(0, len(plans[device].order), size):
            yield (at + size) / rate_hz, device, at

    return heapq.merge(*(of_device(device) for device in range(len(plans))))


def _messages(plan: ReplayPlan, options: ReplayOptions) -> int:
    return -(-len(plan.order) // options.readings_per_message)


def _plan(recording: Recording, options: ReplayOptions, now_ms: int) -> ReplayPlan:
    # One generator per device name, so that other devices do not change its faults.
    seed = zlib.crc32(f"{options.site}/{recording.device}".encode())
    rng = np.random.default_rng([options.seed, seed])
    n = len(recording.offsets_ms)
    kept = np.flatnonzero(~_gaps(n, options.gaps, rng))
    again = kept[rng.random(len(kept)) < options.duplicates]
    order = np.concatenate([kept, again])
    is_duplicate = np.arange(len(order)) >= len(kept)
    send_ms = recording.offsets_ms[order].astype(np.float64)
    if options.disorder_ms:
        send_ms += rng.random(len(order)) * options.disorder_ms
    by_time = np.argsort(send_ms, kind="stable")
    order, is_duplicate = order[by_time], is_duplicate[by_time]
    _mark_second(order, is_duplicate)
    start_ms = options.start_ms
    if start_ms is None:
        start_ms = now_ms - int(recording.offsets_ms[-1])
    address = Address(options.site, recording.device, recording.stream)
    topic = address.mqtt_topic(options.prefix)
    return ReplayPlan(recording, topic, start_ms, order, is_duplicate, n - len(kept))


def _mark_second(order: NDArray[np.int64], is_duplicate: NDArray[np.bool_]) -> None:
    """Mark second occurrences, because disorder may have moved the copy to the front."""
    is_duplicate[:] = True
    is_duplicate[np.unique(order, return_index=True)[1]] = False


def _gaps(n: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose missing readings in stretches of ten, never the first or the last; bool `[n]`."""
    missing = np.zeros(n, dtype=np.bool_)
    for start in np.flatnonzero(rng.random(n) < share / _GAP_READINGS):
        missing[start : start + _GAP_READINGS] = True
    missing[[0, -1]] = False
    return missing


def _check(options: ReplayOptions, recordings: Sequence[Recording]) -> None:
    bounds = (
        ("rate_hz", options.rate_hz is None or options.rate_hz > 0, "above 0"),
        ("readings_per_message", options.readings_per_message >= 1, "at least 1"),
        ("disorder_ms", options.disorder_ms >= 0, "at least 0"),
        ("duplicates", 0 <= options.duplicates <= 1, "0 to 1"),
        ("gaps", 0 <= options.gaps <= 0.5, "0 to 0.5"),
    )
    for name, holds, rule in bounds:
        if not holds:
            msg = f"{name} is {getattr(options, name)}: it must be {rule}"
            raise ReplayError(msg)
    if options.disorder_ms:
        steps = [np.diff(r.offsets_ms).min() for r in recordings if len(r.offsets_ms) > 1]
        if steps and options.disorder_ms < min(steps):
            msg = (
                f"a disorder of {options.disorder_ms} ms has no effect because readings are "
                f"{min(steps)} ms apart: choose a smaller interval (--interval-ms) or more disorder"
            )
            raise ReplayError(msg)

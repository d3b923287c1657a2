"""Numbered devices of the end-to-end tests: every reading carries its number, nothing is random.

A device that must not lose readings to a killed *broker* needs more than QoS 1: mosquitto confirms
a message before it is on its disk. These devices therefore follow docs/delivery.md: they keep the
messages of the last seconds and send them again after every reconnect, oldest first and before
anything newer; duplicates are harmless. Messages whose connection has not lasted for `keep_s`
seconds are kept longer, and after an outage devices catch up at no more than `CATCH_UP` times real
time. The event time of messages lost by a killed broker thus stays within a lateness of slightly
more than `keep_s * CATCH_UP`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher

CHANNELS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
DT_MS = 20
CATCH_UP = 2


def payload(start: int, count: int, t0_ms: int) -> bytes:
    """Readings number `start` .. `start + count - 1`, 20 ms apart; channel 0 is the number."""
    numbers = [float(start + i) for i in range(count)]
    values = {name: [0.0] * count for name in CHANNELS} | {CHANNELS[0]: numbers}
    return orjson.dumps({"t0": t0_ms + start * DT_MS, "dt_ms": DT_MS, "values": values})


_STARTED: list[NumberedDevices] = []


def abandon_all() -> None:
    """Stop all threads of a failed test, so that none publishes into the next one."""
    while _STARTED:
        some = _STARTED.pop()
        if some._thread.is_alive():
            some.abandon()


@dataclass
class NumberedDevices:
    """Publishes at 50 Hz per device, `count` readings a message, in a thread, until stopped."""

    port: int
    devices: int
    count: int = 10
    keep_s: float = 3.0
    dt_ms: int = DT_MS
    client_id: str = "numbered-devices"
    require_subscriber: bool = False
    t0_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    published: dict[str, int] = field(default_factory=dict)
    resent: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._end: Callable[[], object] = bool  # what ends the thread, whatever is unconfirmed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        _STARTED.append(self)
        self._thread.start()

    def abandon(self) -> None:
        """Stop at once, without waiting for confirmations."""
        self._end()
        self._thread.join(10)

    def stop(self) -> None:
        """Stop publishing; returns when the broker has confirmed everything."""
        self._stop.set()
        self._thread.join(60)
        if self.error is not None:
            raise self.error
        assert not self._thread.is_alive(), "the broker does not confirm"

    def messages(self, start: int) -> Iterator[tuple[str, bytes]]:
        """The next messages of the devices, from reading number `start` on: MQTT topics and
        payloads."""
        for device in range(self.devices):
            yield f"sensors/ledger/device-{device}/imu", payload(start, self.count, self.t0_ms)
            self.published[f"device-{device}"] = start + self.count

    def last_messages(self) -> Iterator[tuple[str, bytes]]:
        """The remaining messages at a stop."""
        return iter(())

    def _run(self) -> None:
        async def run() -> None:
            task, loop = asyncio.ensure_future(self._publish()), asyncio.get_running_loop()
            self._end = lambda: loop.call_soon_threadsafe(task.cancel)
            await task

        try:
            asyncio.run(run())
        except BaseException as exc:
            self.error = exc

    async def _publish(self) -> None:
        endpoint = Endpoint("127.0.0.1", self.port, self.client_id)
        # Unconfirmed messages overtake resent ones, so their number must stay small.
        async with Publisher(
            endpoint, in_flight=2 * self.devices, require_subscriber=self.require_subscriber
        ) as publisher:
            recent: deque[tuple[float, str, bytes]] = deque()
            connects = 0
            start = 0
            began = time.monotonic()
            period_s = self.count * self.dt_ms / 1000
            while (
                not self._stop.is_set()
                or publisher.unconfirmed
                or connects != publisher.connection.connects_total  # nothing is sent again yet
            ):
                if connects != publisher.connection.connects_total:
                    connects = publisher.connection.connects_total
                    if connects > 1:
                        await self._resend(publisher, recent)
                if not self._stop.is_set():
                    for topic, body in self.messages(start):
                        recent.append((time.monotonic(), topic, body))
                        await publisher.publish(topic, body)
                    start += self.count
                    # Forget only messages that this open connection sent a while ago.
                    if connects == publisher.connection.connects_total:
                        while recent and recent[0][0] < time.monotonic() - self.keep_s:
                            recent.popleft()
                due_in_s = began + start * self.dt_ms / 1000 - time.monotonic()
                await asyncio.sleep(max(period_s / CATCH_UP, due_in_s))
            for topic, body in self.last_messages():
                await publisher.publish(topic, body)
            await publisher.flush()

    async def _resend(self, publisher: Publisher, recent: deque[tuple[float, str, bytes]]) -> None:
        for _ in range(len(recent)):
            _, topic, body = recent.popleft()
            recent.append((time.monotonic(), topic, body))  # this connection may break as well
            await publisher.publish(topic, body)
            self.resent += 1

"""A simulated fleet over MQTT: engines that wear out, people who move, transformers with faults.

`Fleet` is pure and returns the messages that are due. `publish_fleet` sends them at the right time,
and `run_fleet` is the process around it (`kpstream simulate`, `python -m ingest.simulators.fleet`).

>>> fleet = Fleet(FleetSettings(engines=1, people=1, transformers=1), start_ms=1_700_000_000_000)
>>> for topic in sorted({message.topic for message in fleet.take(1_700_000_001_000)}):
...     print(topic)
sensors/clinic/person-01/imu
sensors/grid/transformer-01/transformer
sensors/hangar/engine-01/engine
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ingest.clock import now_ms
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.simulators.emitters import EngineEmitter, Message, PersonEmitter, device_seed
from ingest.simulators.imu import Person, markov_bouts
from ingest.simulators.transformeremitter import TransformerEmitter
from ingest.simulators.truth import TruthRecord, encode_truth
from ingest.stopping import stop_on_signals, until_stopped

__all__ = ["Clock", "Fleet", "FleetSettings", "MessageSink", "publish_fleet", "run_fleet"]

log = logging.getLogger(__name__)

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_OLDEST = 0.75
_GARBAGE = (
    b'{"ts": 1700000000000, "values": {"T24": 64',
    b'{"ts": "yesterday", "values": {"T24": 641.8}}',
    b'{"ts": 1700000000000, "values": {"T24": NaN}}',
    b'{"temperature": 21.5}',
    b"\xff\xfe\x00not even text",
    b'{"ts": 86400000, "values": {"T24": 641.8}}',
)


_Emitter = EngineEmitter | PersonEmitter | TransformerEmitter


class FleetSettings(BaseModel):
    """Devices of the fleet, and the faults of their transmission."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engines: int = Field(default=6, ge=0, description="Engines that run at a time.")
    people: int = Field(default=4, ge=0, description="People who wear an IMU.")
    transformers: int = Field(default=0, ge=0, description="Transformers that run at a time.")
    engine_site: str = Field(default="hangar", pattern=_NAME, description="Site of the engines.")
    person_site: str = Field(default="clinic", pattern=_NAME, description="Site of the people.")
    transformer_site: str = Field(
        default="grid", pattern=_NAME, description="Site of the transformers."
    )
    cycles_per_second: float = Field(
        default=1.0, gt=0, le=100, description="Readings per second of an engine, one per cycle."
    )
    readings_per_message: int = Field(
        default=10, ge=1, le=50, description="Readings in one message of a person (at 50 Hz)."
    )
    hours_per_second: float = Field(
        default=2.0, gt=0, le=100, description="Hourly readings per second of a transformer."
    )
    history_hours: int = Field(
        default=192,
        ge=1,
        le=500,
        description="Hourly readings that a transformer uploads at once when it starts.",
    )
    bout_ms: tuple[int, int] = Field(
        default=(20_000, 40_000), description="Shortest and longest bout of an activity in ms."
    )
    duplicates: float = Field(
        default=0.005, ge=0, le=1, description="Share of the messages that are sent twice."
    )
    disorder: float = Field(
        default=0.02, ge=0, le=1, description="Share of the people's messages sent out of order."
    )
    garbage: float = Field(
        default=0.0005, ge=0, le=1, description="Garbage messages per proper message."
    )
    catch_up_ms: int = Field(
        default=30_000,
        ge=0,
        description="After a longer stall (ms) the missed readings are left out: a gap.",
    )
    seed: int = Field(default=1, ge=0, description="Chooses every device, its readings and faults.")


class MessageSink(Protocol):
    """Destination of messages; `ingest.mqtt.publisher.Publisher` is one."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send one message; may wait for room."""


class Clock(Protocol):
    """Source of time."""

    def now_ms(self) -> int:
        """Return the current time, epoch ms."""

    async def sleep_until(self, at_ms: int) -> None:
        """Wait until `at_ms`, or slightly longer."""


class Fleet:
    """All devices of a fleet; the same settings and start give the same messages, byte for byte.

    Args:
        settings: Devices and faults.
        start_ms: Start, epoch ms; the first messages are due within about a second.
        on_event: Called with a human-readable text when a device is replaced or time is skipped.
    """

    def __init__(
        self,
        settings: FleetSettings,
        start_ms: int,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._on_event = on_event or log.info
        self._truths: list[TruthRecord] = []
        self._rng = np.random.default_rng((settings.seed, 2))
        self._garbage = itertools.cycle(_GARBAGE)
        numbers = itertools.count(1)
        # Ages spread evenly over the first part of a life, so that the page shows healthy and worn
        # engines from the start, and the first engine fails after a minute or two.
        ages = (self._rng.permutation(settings.engines) + self._rng.random()) / (
            settings.engines or 1
        )
        ages *= _OLDEST
        self._engines = [self._engine(float(age), start_ms, numbers) for age in ages]
        self._people = [self._person(at, start_ms) for at in range(settings.people)]
        transformers = itertools.count(1)
        self._transformers = [
            self._transformer(start_ms, transformers) for _ in range(settings.transformers)
        ]
        emitters: list[_Emitter] = [*self._engines, *self._people, *self._transformers]
        self._due = [(emitter.due_ms, at, emitter) for at, emitter in enumerate(emitters)]
        heapq.heapify(self._due)

    @property
    def next_due_ms(self) -> int | None:
        """Due time of the next message, epoch ms; None for an empty fleet."""
        return self._due[0][0] if self._due else None

    def take(self, now_ms: int, most: int | None = None) -> list[Message]:
        """Return the messages due until `now_ms`, in the order of their times.

        Stops after `most` messages, or slightly more: an emitter can return two at once.
        """
        messages: list[Message] = []
        while self._due and self._due[0][0] <= now_ms and (most is None or len(messages) < most):
            due_ms, at, emitter = self._due[0]
            if now_ms - due_ms > self.settings.catch_up_ms:
                emitter.skip_to(now_ms)
                self._on_event(f"stalled for {now_ms - due_ms:,} ms: a device skips this time")
            else:
                for message in emitter.emit():
                    messages += self._disturbed(message)
            heapq.heapreplace(self._due, (emitter.due_ms, at, emitter))
        return messages

    def take_truth(self) -> list[TruthRecord]:
        """Return the truth that became known since the last call."""
        truths, self._truths = self._truths, []
        return truths

    def end(self) -> None:
        """End the current bouts and faults, so that `take_truth` returns them too."""
        for person in self._people:
            person.end_bout()
        for transformer in self._transformers:
            transformer.end()

    def _disturbed(self, message: Message) -> list[Message]:
        duplicate, garbage = self._rng.random(2)
        messages = [message] * (2 if duplicate < self.settings.duplicates else 1)
        if garbage < self.settings.garbage:
            messages.append(Message(message.topic, next(self._garbage)))
        return messages

    def _engine(self, age: float, start_ms: int, numbers: itertools.count[int]) -> EngineEmitter:
        settings = self.settings
        return EngineEmitter(
            settings.engine_site,
            settings.seed,
            numbers,
            start_ms + int(self._rng.random() * 1000 / settings.cycles_per_second),
            settings.cycles_per_second,
            age,
            self._append_truth_record,
            self._on_event,
        )

    def _person(self, at: int, start_ms: int) -> PersonEmitter:
        settings = self.settings
        seed = device_seed(settings.seed, at)
        return PersonEmitter(
            settings.person_site,
            f"person-{at + 1:02d}",
            Person(seed, markov_bouts(seed, *settings.bout_ms)),
            start_ms + int(self._rng.integers(settings.readings_per_message * 20)),
            settings.readings_per_message,
            settings.disorder,
            self._rng,
            self._append_truth_record,
        )

    def _transformer(self, start_ms: int, numbers: itertools.count[int]) -> TransformerEmitter:
        settings = self.settings
        return TransformerEmitter(
            settings.transformer_site,
            settings.seed,
            numbers,
            start_ms,
            settings.hours_per_second,
            settings.history_hours,
            self._append_truth_record,
            self._on_event,
        )

    def _append_truth_record(self, truth: TruthRecord) -> None:
        self._truths.append(truth)


async def publish_fleet(
    fleet: Fleet, sink: MessageSink, clock: Clock, truth: Path | None = None
) -> None:
    """Publish messages when they are due, until cancelled; returns only for an empty fleet.

    The schedule is absolute: a slow sink delays messages but does not stretch time. The truth of an
    engine is written before its readings are sent, that of a bout or a fault when it ends.
    """
    try:
        while (due_ms := fleet.next_due_ms) is not None:
            await clock.sleep_until(due_ms)
            messages = fleet.take(clock.now_ms(), most=100)
            _append_truth(fleet, truth)
            for message in messages:
                await sink.publish(*message)
    finally:
        fleet.end()
        _append_truth(fleet, truth)


async def run_fleet(settings: FleetSettings, endpoint: Endpoint, truth: Path | None) -> None:
    """Publish a fleet to the broker at `endpoint` until SIGINT or SIGTERM.

    On shutdown, what is on its way can still be confirmed (`Publisher.settle`). The truth goes to
    the file `truth` (JSON lines), which is overwritten.

    Raises:
        OSError: The truth file cannot be written.
        IngestError: The MQTT connection has failed permanently.
    """
    stop = stop_on_signals()
    if truth is not None:
        truth.write_bytes(b"")
    async with Publisher(endpoint, on_wait=log.info) as publisher:
        connection = publisher.connection
        connection.on_task_end(stop.set)
        if await until_stopped(connection.connected.wait(), stop):
            fleet = Fleet(settings, _SystemClock().now_ms())
            await until_stopped(publish_fleet(fleet, publisher, _SystemClock(), truth), stop)
        connection.raise_for_failure()
        await publisher.settle()


def main() -> None:
    """Run a fleet from the command line, with settings as `--name value`."""
    parser = argparse.ArgumentParser(prog="python -m ingest.simulators.fleet")
    parser.add_argument("--host", default="127.0.0.1", help="MQTT broker")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--truth", type=Path, help="write the truth to this file (JSON lines)")
    for name, field in FleetSettings.model_fields.items():
        if field.annotation in (int, float, str):
            option = "--" + name.replace("_", "-")
            parser.add_argument(option, default=field.default, help=field.description)
    options = vars(parser.parse_args())
    host, port, truth = (options.pop(name) for name in ("host", "port", "truth"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    endpoint = Endpoint(host, port, client_id=f"kpstream-fleet-{os.getpid()}")
    asyncio.run(run_fleet(FleetSettings(**options), endpoint, truth))


class _SystemClock:
    def now_ms(self) -> int:
        return now_ms()

    async def sleep_until(self, at_ms: int) -> None:
        await asyncio.sleep(max(0, at_ms - self.now_ms()) / 1000)


def _append_truth(fleet: Fleet, path: Path | None) -> None:
    lines = b"".join(encode_truth(record) for record in fleet.take_truth())
    if path is not None and lines:
        with path.open("ab") as file:
            file.write(lines)


if __name__ == "__main__":
    main()

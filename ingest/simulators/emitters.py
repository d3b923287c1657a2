"""Simulated devices as sources of MQTT messages with due times. Pure: no clock, no network.

The schedule of an emitter is anchored at an absolute time: the next message is due at `due_ms`,
regardless of when the previous one was sent. The schedule never drifts, and after a stall the
emitter returns the missed messages with the event times at which they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.payloads import encode_payload
from ingest.simulators.imu import ACTIVITIES, CHANNELS, DT_MS, TRANSITION, Person
from ingest.simulators.truth import EngineTruth, PersonTruth
from ingest.simulators.turbofan import Engine
from ingest.topics import Address

__all__ = [
    "ENGINE_STREAM",
    "IMU_STREAM",
    "EngineEmitter",
    "Message",
    "PersonEmitter",
    "device_seed",
]

ENGINE_STREAM: Final = "engine"
IMU_STREAM: Final = "imu"
_SCORED_CYCLES = 60  # least RUL of an engine at the start; 30 cycles fill a window


class Message(NamedTuple):
    """One MQTT publication."""

    topic: str
    payload: bytes


class EngineEmitter:
    """Emits one message per cycle of an engine, and replaces the engine when it fails.

    Args:
        site: First level of the devices' addresses.
        seed: Chooses the engine, together with its number.
        numbers: Source of engine numbers, as in `engine-07`.
        start_ms: Due time of the first reading, epoch ms.
        cycles_per_second: Readings per second.
        age: Elapsed share of the first engine's life, 0 to 1.
        on_truth: Called with the truth of every engine when it starts.
        on_event: Called with a human-readable text when an engine is replaced.
    """

    def __init__(
        self,
        site: str,
        seed: int,
        numbers: Iterator[int],
        start_ms: int,
        cycles_per_second: float,
        age: float,
        on_truth: Callable[[EngineTruth], None],
        on_event: Callable[[str], None],
    ) -> None:
        self.due_ms = start_ms
        self._site = site
        self._seed = seed
        self._numbers = numbers
        self._cycles_per_second = cycles_per_second
        self._on_truth = on_truth
        self._on_event = on_event
        self._install(start_ms, age)

    def emit(self) -> list[Message]:
        """Return the due message, and set `due_ms` to the next one."""
        if self._cycle > self._engine.life:
            failed = self._device
            self._install(self.due_ms, 0)
            self._on_event(
                f"{failed} failed after {self._cycles_run} cycles; {self._device} replaces it"
            )
        body = {"ts": self.due_ms, "values": self._engine.reading(self._cycle)}
        topic = Address(self._site, self._device, ENGINE_STREAM).mqtt_topic()
        self._cycle += 1
        self._set_due()
        return [Message(topic, orjson.dumps(body))]

    def skip_to(self, now_ms: int) -> None:
        """Continue at `now_ms` with the next cycle; the time in between is a gap."""
        self._anchor(now_ms)

    def _install(self, at_ms: int, age: float) -> None:
        number = next(self._numbers)
        self._device = f"engine-{number:02d}"
        self._engine = Engine(device_seed(self._seed, number))
        self._cycles_run = self._engine.life
        self._cycle = 1 + int(min(age, 1) * max(self._engine.life - _SCORED_CYCLES, 0))
        self._anchor(at_ms)

    def _anchor(self, at_ms: int) -> None:
        self._anchor_ms, self._anchor_cycle = at_ms, self._cycle
        self._set_due()
        if self._cycle <= self._engine.life:
            rul = self._engine.rul(self._cycle)
            self._on_truth(
                EngineTruth(self._site, self._device, at_ms, self._cycles_per_second, rul)
            )

    def _set_due(self) -> None:
        since = self._cycle - self._anchor_cycle
        self.due_ms = self._anchor_ms + round(since * 1000 / self._cycles_per_second)


class PersonEmitter:
    """Emits the messages of a person's phone, a few readings each, in the columnar form.

    A share of the messages is sent in two parts, every other reading first, with explicit event
    times. The disorder is shorter than one message (180 ms for ten readings), and the default
    lateness of 200 ms covers it.

    Args:
        site: First level of the address.
        device: Second level of the address.
        person: The person.
        start_ms: Event time of the first reading, epoch ms.
        readings: Readings per message.
        disorder: Share of the messages that are sent in two parts.
        rng: Chooses them.
        on_truth: Called with every bout when it has ended.
    """

    def __init__(
        self,
        site: str,
        device: str,
        person: Person,
        start_ms: int,
        readings: int,
        disorder: float,
        rng: np.random.Generator,
        on_truth: Callable[[PersonTruth], None],
    ) -> None:
        self._site = site
        self._device = device
        self._topic = Address(site, device, IMU_STREAM).mqtt_topic()
        self._person = person
        self._readings = readings
        self._disorder = disorder
        self._rng = rng
        self._on_truth = on_truth
        self._bout: tuple[int, int, int] | None = None  # label, first and last event time
        self._set_first(start_ms)

    def emit(self) -> list[Message]:
        """Return the due message, or its two parts; both are due after their last reading."""
        chunk = self._person.take(self._readings)
        t0_ms = self._first_ms
        self._note(t0_ms, chunk.activity)
        self._set_first(t0_ms + self._readings * DT_MS)
        values = dict(zip(CHANNELS, chunk.values.T.tolist(), strict=True))
        if self._readings > 1 and self._rng.random() < self._disorder:
            ts_ms = [t0_ms + index * DT_MS for index in range(self._readings)]
            return [
                Message(
                    self._topic,
                    encode_payload(
                        ts_ms[part::2], {name: v[part::2] for name, v in values.items()}
                    ),
                )
                for part in (1, 0)
            ]
        body = {"t0": t0_ms, "dt_ms": DT_MS, "values": values}
        return [Message(self._topic, orjson.dumps(body))]

    def skip_to(self, now_ms: int) -> None:
        """Continue at `now_ms` with the next reading; the time in between is a gap."""
        self.end_bout()
        self._set_first(now_ms)

    def end_bout(self) -> None:
        """End the current bout and report its truth; for the end of the fleet."""
        if self._bout is not None and self._bout[0] != TRANSITION:
            label, start_ms, last_ms = self._bout
            activity = ACTIVITIES[label]
            self._on_truth(PersonTruth(self._site, self._device, start_ms, last_ms + 1, activity))
        self._bout = None

    def _set_first(self, first_ms: int) -> None:
        self._first_ms = first_ms
        self.due_ms = first_ms + (self._readings - 1) * DT_MS

    def _note(self, t0_ms: int, labels: NDArray[np.int8]) -> None:
        for index, label in enumerate(labels.tolist()):
            ts_ms = t0_ms + index * DT_MS
            if self._bout is not None and self._bout[0] == label:
                self._bout = (label, self._bout[1], ts_ms)
            else:
                self.end_bout()
                self._bout = (label, ts_ms, ts_ms)


def device_seed(seed: int, number: int) -> int:
    """Return a seed per device, different between the devices of a fleet and between fleets.

    >>> device_seed(1, 7)
    100010
    """
    return seed * 100_003 + number

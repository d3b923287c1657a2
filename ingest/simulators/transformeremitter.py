"""Simulated transformers as a source of MQTT messages with due times. Pure: no clock, no network.

A transformer is read every hour, and nobody watches a demo for days. So its time is compressed: the
device has recorded four weeks that end at the start of the fleet. It uploads the first days of this
backlog at once, as a device does whose network was down, then one reading after the other, several
hours per second. Event times are in the past and a whole hour apart. When the device has reached
its last reading, another one with another number takes its place.

Faults of six kinds are injected after the first days, see `ingest.simulators.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import orjson

from ingest.payloads import encode_payload
from ingest.simulators.emitters import Message, device_seed
from ingest.simulators.faults import FaultPlan, draw_faults, inject
from ingest.simulators.transformers import CHANNELS, STEP_MS, Transformer
from ingest.simulators.truth import TransformerTruth
from ingest.topics import Address

__all__ = ["TRANSFORMER_STREAM", "TransformerEmitter"]

TRANSFORMER_STREAM: Final = "transformer"
_RECORDED_H = 28 * 24  # within the 30 days that points stay in the results file
_MESSAGE_READINGS = 48


class TransformerEmitter:
    """Emits the backlog of a transformer, then reading after reading; replaces it at its end.

    Args:
        site: First level of the devices' addresses.
        seed: Chooses the transformer and its faults, together with its number.
        numbers: Source of transformer numbers, as in `transformer-02`.
        start_ms: Due time of the backlog, epoch ms.
        hours_per_second: Readings per second after the backlog.
        history_h: Readings of the backlog, below the 672 of the recording; none has a fault.
        on_truth: Called with every fault when it has ended.
        on_event: Called with a human-readable text when a transformer is replaced.
    """

    def __init__(
        self,
        site: str,
        seed: int,
        numbers: Iterator[int],
        start_ms: int,
        hours_per_second: float,
        history_h: int,
        on_truth: Callable[[TransformerTruth], None],
        on_event: Callable[[str], None],
    ) -> None:
        self._site = site
        self._seed = seed
        self._numbers = numbers
        self._hours_per_second = hours_per_second
        self._history_h = history_h
        self._on_truth = on_truth
        self._on_event = on_event
        self._at = 0  # next reading
        self._faults: list[TransformerTruth] = []
        self._install(start_ms)

    def emit(self) -> list[Message]:
        """Return the due messages, and set `due_ms` to the next ones."""
        if self._at == len(self._values):
            done = self._device
            self._install(self.due_ms)
            self._on_event(f"{done} has sent its last reading; {self._device} replaces it")
        if self._at == 0:
            until = range(_MESSAGE_READINGS, self._history_h, _MESSAGE_READINGS)
            ends = [*until, self._history_h]
        else:
            ends = [self._at + 1]
        messages = [self._message(end) for end in ends]
        while self._faults and self._faults[0].end_ms <= self._ts_ms(self._at):
            self._on_truth(self._faults.pop(0))
        self._set_due()
        return messages

    def skip_to(self, now_ms: int) -> None:
        """Continue at `now_ms` with the next reading; none is left out."""
        self._anchor_ms, self._anchor_at = now_ms, self._at or self._history_h
        self._set_due()

    def end(self) -> None:
        """Report the fault that is not over yet, as far as it has come."""
        now_ms = self._ts_ms(self._at)
        for fault in self._faults:
            if fault.start_ms < now_ms:
                self._on_truth(fault.cut(now_ms))
        self._faults = []

    def _install(self, at_ms: int) -> None:
        number = next(self._numbers)
        seed = device_seed(self._seed, number)
        self._device = f"transformer-{number:02d}"
        self._first_ms = (at_ms // STEP_MS - _RECORDED_H + 1) * STEP_MS
        transformer = Transformer(seed, _RECORDED_H, start_ms=self._first_ms)
        plan = FaultPlan(first=self._history_h)
        faults = draw_faults(_RECORDED_H, len(CHANNELS), np.random.default_rng((seed, 2)), plan)
        self._values = np.round(inject(transformer.values, faults, transformer.deviation, seed), 3)
        self._faults = [
            TransformerTruth(
                self._site,
                self._device,
                self._ts_ms(fault.start),
                self._ts_ms(fault.end),
                fault.kind,
                CHANNELS[fault.channel],
                fault.size,
            )
            for fault in faults
        ]
        self._at = 0
        self.skip_to(at_ms)

    def _message(self, end: int) -> Message:
        """Make the message of the readings up to `end`."""
        ts_ms = [self._ts_ms(at) for at in range(self._at, end)]
        values = dict(zip(CHANNELS, self._values[self._at : end].T.tolist(), strict=True))
        self._at = end
        topic = Address(self._site, self._device, TRANSFORMER_STREAM).mqtt_topic()
        if len(ts_ms) == 1:
            body = {"ts": ts_ms[0], "values": {name: row[0] for name, row in values.items()}}
            return Message(topic, orjson.dumps(body))
        return Message(topic, encode_payload(ts_ms, values))

    def _ts_ms(self, at: int) -> int:
        return self._first_ms + at * STEP_MS

    def _set_due(self) -> None:
        since = max(self._at + 1 - self._anchor_at, 0)
        self.due_ms = self._anchor_ms + round(since * 1000 / self._hours_per_second)

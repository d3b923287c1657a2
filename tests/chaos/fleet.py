"""Devices with reproducible readings that send messages twice and out of order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from tests.e2e.devices import CHANNELS, NumberedDevices

__all__ = ["DT_MS", "SITE", "ChaosDevices", "device_name", "readings"]

SITE = "chaos"
DT_MS = 100
"""Between two readings: slow, so that a pause is few readings (the student's own is 20, so that
every stream is resampled)."""


def device_name(device: int) -> str:
    return f"device-{device:03d}"


def readings(device: int, start: int, count: int) -> NDArray[np.float64]:
    """Readings `start` .. `start + count - 1` of a device, `[count, channels]`, reproducible.

    Sums of two oscillations per channel, which slowly change; every device has its own.
    """
    number = np.arange(start, start + count, dtype=np.float64)[:, None]
    channel = np.arange(len(CHANNELS), dtype=np.float64)[None, :]
    phase = 0.7 * device + 1.3 * channel
    slow = 0.5 + 0.5 * np.sin(number / 400.0 + device)
    values = slow * np.sin(number * (0.05 + 0.01 * (device % 7)) + phase)
    values += 0.3 * np.sin(number * 0.31 + 2.0 * phase) + np.where(channel == 6, 0.9, 0.0)
    return np.round(values, 5)


@dataclass
class ChaosDevices(NumberedDevices):
    """Some of the devices, on one connection: `first` .. `first + devices - 1`.

    A twentieth of the messages is sent twice, and a twentieth is sent one message too late. Devices
    resend messages that had no subscriber, because a killed mosquitto loses shared subscriptions
    and confirms messages before a bridge returns.
    """

    dt_ms: int = DT_MS
    require_subscriber: bool = True
    first: int = 0
    again: float = 0.05
    swapped: float = 0.05
    seed: int = 0
    sent_twice: int = 0
    sent_late: int = 0
    _held: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rng = random.Random(self.seed * 1009 + self.first)

    def messages(self, start: int) -> Iterator[tuple[str, bytes]]:
        for device in range(self.first, self.first + self.devices):
            topic = f"sensors/{SITE}/{device_name(device)}/imu"
            body = self._body(device, start)
            held = self._held.pop(device, None)
            if held is None and self._rng.random() < self.swapped:
                self._held[device] = body
                self.sent_late += 1
            else:
                yield topic, body
                if self._rng.random() < self.again:
                    self.sent_twice += 1
                    yield topic, body
            if held is not None:
                yield topic, held
            self.published[device_name(device)] = start + self.count

    def last_messages(self) -> Iterator[tuple[str, bytes]]:
        for device in list(self._held):
            yield f"sensors/{SITE}/{device_name(device)}/imu", self._held.pop(device)

    def _body(self, device: int, start: int) -> bytes:
        values = readings(device, start, self.count)
        columns = {name: values[:, c].tolist() for c, name in enumerate(CHANNELS)}
        t0_ms = self.t0_ms + start * self.dt_ms
        return orjson.dumps({"t0": t0_ms, "dt_ms": self.dt_ms, "values": columns})

"""The contract of a set of recorded series for forecasting, and its windows.

A series is what one device read, in time order. Each device is split by time into a training, a
validation and a test part, in this order. Nothing about the validation and test parts reaches what
a student learns: the scaling, the digest and the training windows come from the training part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.manifest import Channel, Scaler
from training.errors import DataSetError

__all__ = ["PARTS", "Part", "SeriesSet", "SeriesWindows"]

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""The parts of every series, in time order."""


@dataclass(frozen=True, slots=True)
class SeriesWindows:
    """Windows of one part, cut when they are asked for: a set never holds them all.

    Attributes:
        values: Standardised readings of all devices, one after the other, `[rows, channels]`.
        times: Time of every row in epoch milliseconds, `[rows]`.
        first: Row of the first target of every window, `[num_windows]`, ascending.
        device: Index of the device of every window, `[num_windows]`.
        length: Readings in the look-back.
        horizon: Readings in the target.
    """

    values: NDArray[np.float32]
    times: NDArray[np.int64]
    first: NDArray[np.int64]
    device: NDArray[np.int64]
    length: int
    horizon: int

    def __len__(self) -> int:
        return len(self.first)

    def inputs(self, index: NDArray[np.int64] | slice | None = None) -> NDArray[np.float32]:
        """Return the look-backs of these windows (None: of all), `[n, length, channels]`."""
        return self._cut(index, -self.length, 0)

    def targets(self, index: NDArray[np.int64] | slice | None = None) -> NDArray[np.float32]:
        """Return what followed the look-backs, `[n, horizon, channels]`."""
        return self._cut(index, 0, self.horizon)

    def times_ms(self, index: NDArray[np.int64] | slice | None = None) -> NDArray[np.int64]:
        """Return the time of the first target of these windows, `[n]`."""
        return self.times[self._first(index)]

    def _first(self, index: NDArray[np.int64] | slice | None) -> NDArray[np.int64]:
        return self.first if index is None else self.first[index]

    def _cut(
        self, index: NDArray[np.int64] | slice | None, start: int, stop: int
    ) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.values[
            self._first(index)[:, None] + np.arange(start, stop)
        ]
        return rows


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """Recorded series, and the facts that a manifest states about them.

    A jump of more or less than `step_ms` between two rows is a missing stretch: no window spans it.

    Attributes:
        name: Short name, part of the student's name, e.g. `ETTh1`.
        title: Name as shown to people and in the lineage.
        stream: Stream that a student of this set scores.
        channels: Name and unit of every column, in order.
        step_ms: Distance between two readings.
        period: Readings in a season (24 for hourly readings with a daily rhythm); 1 for none.
        devices: Names of the devices.
        series: Readings of every device, `[readings, channels]` float32, raw units, finite.
        times_ms: Times of every device, `[readings]` int64, ascending.
        borders: For every device the row at which its training, validation and test part ends.
            Rows after the end of the test part are not used. A device may lack a part.
        terms: Terms of use of the data, part of the artifact's licence text.
        about: One line on the data, for prompts of language models.
    """

    name: str
    title: str
    stream: str
    channels: tuple[Channel, ...]
    step_ms: int
    period: int
    devices: tuple[str, ...]
    series: tuple[NDArray[np.float32], ...]
    times_ms: tuple[NDArray[np.int64], ...]
    borders: tuple[tuple[int, int, int], ...]
    terms: str
    about: str

    def __post_init__(self) -> None:
        counts = {len(self.devices), len(self.series), len(self.times_ms), len(self.borders)}
        if len(counts) != 1 or not self.devices:
            msg = (
                f"{self.name} has {len(self.devices)} devices, {len(self.series)} series, "
                f"{len(self.times_ms)} times and {len(self.borders)} borders: give one of each "
                "for every device"
            )
            raise DataSetError(msg)
        if self.step_ms < 1 or self.period < 1:
            msg = f"{self.name}: step_ms {self.step_ms} and period {self.period} must be above 0"
            raise DataSetError(msg)
        for device in range(len(self.devices)):
            self._check(device)
        if not any(end for end, _, _ in self.borders):
            msg = f"{self.name} has no training reading: move the end of the training part"
            raise DataSetError(msg)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names in order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def digest(self) -> str:
        """SHA-256 of the training part: channels, step, devices, times and readings."""
        digest = hashlib.sha256()
        facts = [(channel.name, channel.unit) for channel in self.channels]
        digest.update(repr((facts, self.step_ms, self.devices)).encode())
        for times, rows, (end, _, _) in zip(self.times_ms, self.series, self.borders, strict=True):
            digest.update(np.ascontiguousarray(times[:end], dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(rows[:end], dtype="<f4").tobytes())
        return digest.hexdigest()

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of every channel over the training part of all devices, raw units `[channels]`."""
        mean: NDArray[np.float64] = self._training_rows().mean(axis=0)
        return mean

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of every channel over the training part, raw units `[channels]`.

        It is 1 for a channel that never moves there, so that scaling can be undone.
        """
        rows = self._training_rows()
        return np.where(np.ptp(rows, axis=0) > 0, rows.std(axis=0), 1.0)

    def scaler(self) -> Scaler:
        """Return the z-score of the training part as the scaler of a manifest."""
        scale = 1 / self.deviation
        offset = -self.mean * scale
        return Scaler(kind="affine", scale=tuple(scale.tolist()), offset=tuple(offset.tolist()))

    def standardised(self) -> tuple[NDArray[np.float32], ...]:
        """Return every series in units of the training part's mean and deviation."""
        mean, deviation = self.mean, self.deviation
        return tuple(((rows - mean) / deviation).astype(np.float32) for rows in self.series)

    def windows(self, part: Part, length: int, horizon: int, stride: int = 1) -> SeriesWindows:
        """Cut the windows of a part of all devices, in the order of devices and times.

        The targets of a window lie in its part. The first window of validation and test has the
        first row of the part as its first target, so its look-back lies in the part before it, as
        in the literature. A training window lies in the training part as a whole.

        Args:
            part: `train`, `validation` or `test`.
            length: Readings in the look-back.
            horizon: Readings in the target.
            stride: Distance between the starts of two windows, in readings.

        Raises:
            DataSetError: A number is below 1, or no stretch of the part is long enough.
        """
        if min(length, horizon, stride) < 1:
            msg = f"length {length}, horizon {horizon} and stride {stride} must be above 0"
            raise DataSetError(msg)
        place = PARTS.index(part)
        found, owners, offset = [], [], 0
        for device, times in enumerate(self.times_ms):
            begin = (0, *self.borders[device])[place]
            end = self.borders[device][place]
            first = _first_targets(times[:end], self.step_ms, begin, length, horizon)[::stride]
            found.append(first + offset)
            owners.append(np.full(len(first), device, dtype=np.int64))
            offset += len(times)
        first = np.concatenate(found)
        if not len(first):
            msg = (
                f"{self.name}: no stretch of the {part} part has {length} + {horizon} readings "
                "without a gap: use longer recordings or a shorter length and horizon"
            )
            raise DataSetError(msg)
        values, times = np.concatenate(self.standardised()), np.concatenate(self.times_ms)
        return SeriesWindows(values, times, first, np.concatenate(owners), length, horizon)

    def before_test(self) -> SeriesSet:
        """Return the set without its test part, to judge a student on unseen time.

        Each part moves one place back: the validation part takes the place of the test part, and
        the end of the training part, as long in time, takes the place of the validation part.

        Raises:
            DataSetError: Nothing is left of the training part.
        """
        borders = []
        for times, (train, validation, _) in zip(self.times_ms, self.borders, strict=True):
            begin = train
            if 0 < train < validation:
                span = times[validation - 1] - times[train] + self.step_ms
                begin = int(np.searchsorted(times, times[train] - span))
            borders.append((begin, train, validation))
        if not any(begin for begin, _, _ in borders):
            msg = (
                f"{self.name}: the training part is not longer than the validation part: move the "
                "border so that training has more"
            )
            raise DataSetError(msg)
        return replace(self, borders=tuple(borders))

    def _training_rows(self) -> NDArray[np.float64]:
        parts = [rows[:end] for rows, (end, _, _) in zip(self.series, self.borders, strict=True)]
        return np.concatenate(parts).astype(np.float64)

    def _check(self, device: int) -> None:
        rows, times, ends = self.series[device], self.times_ms[device], self.borders[device]
        name = f"{self.name}: device {self.devices[device]}"
        if rows.shape != (len(times), len(self.channels)):
            msg = (
                f"{name} has readings {rows.shape} for {len(times)} times and "
                f"{len(self.channels)} channels"
            )
            raise DataSetError(msg)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            msg = (
                f"{name}: {self.channels[column].name} of row {row} is {rows[row, column]}: fill "
                "or drop missing readings first"
            )
            raise DataSetError(msg)
        if (np.diff(times) <= 0).any():
            row = int(np.argmax(np.diff(times) <= 0)) + 1
            msg = f"{name}: the time of row {row} is not after the row before: sort by time"
            raise DataSetError(msg)
        if not 0 <= ends[0] <= ends[1] <= ends[2] <= len(rows):
            msg = f"{name}: borders {ends} do not ascend from 0 to {len(rows)}"
            raise DataSetError(msg)


def _first_targets(
    times: NDArray[np.int64], step_ms: int, begin: int, length: int, horizon: int
) -> NDArray[np.int64]:
    """List the rows from `begin` on that are the first target of a window without a jump."""
    # jumps[i] counts the jumps between the rows 0 to i.
    jumps = np.concatenate([[0], np.cumsum(np.diff(times) != step_ms)])
    first = np.arange(max(begin, length), len(times) - horizon + 1)
    whole: NDArray[np.int64] = first[jumps[first + horizon - 1] == jumps[first - length]]
    return whole

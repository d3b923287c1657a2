"""Watches the streams of a process for drift, and tells what it sees as points."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.manifest import Draft
from models.tasks.classes import UNKNOWN, ClassAnswer
from models.tasks.quality import doubtful
from models.tasks.quantiles import QuantilesAnswer
from models.tasks.registry import find_task
from pipeline.drift.counts import (
    BLOCK,
    MANY,
    Binner,
    Counts,
    OpenBlocks,
    Windows,
    join_windows,
)
from pipeline.drift.judge import Judgement, judge
from pipeline.points.measurements import DRIFT
from pipeline.points.points import FieldValue, Point
from pipeline.scoring.batch import Scored, Scorer, StudentScores

__all__ = ["ALL", "Drift", "DriftWatch"]

ALL = "*"
"""In place of a site, device or channel: all of them. No name of a device can be it."""
MOST_DEVICES = 256
"""Devices of a process that are watched one by one, those that were scored last."""
_TOGETHER = 256
"""Windows that are counted at once; fewer wait until somebody asks."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The newest judgement of a stream, or of a device of it.

    Attributes:
        site: Site of the device; `ALL` for the stream as a whole.
        device: Name of the device; `ALL` for the stream as a whole.
        stream: Name of the stream.
        version: Version of the student.
        judgement: What was found.
        since_ms: When the drift was first seen, epoch milliseconds; 0 if it has not drifted.
        at_ms: When it was judged, epoch milliseconds.
    """

    site: str
    device: str
    stream: str
    version: int
    judgement: Judgement
    since_ms: int
    at_ms: int


class DriftWatch:
    """Counts scored windows, a few hundred at a time, and judges a stream for each full block.

    Args:
        student_of: Returns the student of a stream.
        gateway: Name of the process, for the points.
        clock: Processing time, epoch milliseconds.
    """

    def __init__(
        self, student_of: Callable[[str], Scorer | None], gateway: str, clock: Callable[[], int]
    ) -> None:
        self._student_of = student_of
        self._clock = clock
        self._gateway = gateway
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()

    def look(self, scored: Scored) -> None:
        """Count the windows of a batch; never raises for what they hold, never waits long.

        They are noted, and counted a few hundred at a time.
        """
        with self._lock:
            for part in scored.parts:
                stream = part.windows.stream
                student = self._student_of(stream)
                if student is None:
                    continue
                watched = self._streams.get(stream)
                if watched is None or watched.manifest is not student.manifest:
                    watched = self._streams[stream] = _Stream(student.manifest, self._clock)
                watched.note(part)

    def drifts(self) -> list[Drift]:
        """The newest judgement of each stream, followed by those of its devices."""
        with self._lock:
            return [drift for watched in self._streams.values() for drift in watched.drifts()]

    def points(self) -> list[Point]:
        """Points of what was judged since the last call."""
        with self._lock:
            fresh = [drift for watched in self._streams.values() for drift in watched.take_fresh()]
        return [point for drift in fresh for point in _points(self._gateway, drift)]


class _Stream:
    """One stream, as long as one student scores it."""

    def __init__(self, manifest: Draft, clock: Callable[[], int]) -> None:
        self.manifest = manifest
        self._clock = clock
        answer = find_task(manifest.task).answer
        unknown = getattr(manifest.decoding, "unknown", None)
        self._label_field = answer.headline_field if isinstance(answer, ClassAnswer) else ""
        self._rejects = None if unknown is None else unknown.rejects
        self._has_interval = isinstance(answer, QuantilesAnswer)
        histogram = None if manifest.seen is None else manifest.seen.histogram
        self._binner = None if histogram is None else Binner(histogram, manifest.window.hop)
        channels = len(manifest.channels)
        self._waiting: list[Windows] = []
        self._whole, self._whole_open = Counts(channels), OpenBlocks(1, channels)
        self._whole_windows = 0  # in the open block
        self._devices: set[str] = set()  # of the open block
        self._open = OpenBlocks(MOST_DEVICES, channels)
        self._slots: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._dropped: list[int] = []  # slots whose blocks are still those of another device
        self._counts: dict[tuple[str, str], Counts] = {}
        self._drifts: dict[tuple[str, str], Drift] = {}
        self._fresh: set[tuple[str, str]] = set()

    def note(self, part: StudentScores) -> None:
        """Keep what is counted of scored windows, if this student gave the scores."""
        columns, size = part.scores.columns, len(part.scores)
        given_by = (columns["model"], columns["version"])
        if given_by != (self.manifest.name, self.manifest.version):
            return
        newest = np.empty((size, 0, len(self.manifest.channels)), np.float32)
        if self._binner is not None:
            newest = self._binner.newest(part.windows.values)
        unknown = np.zeros(size, np.bool_)
        if self._label_field:
            unknown = np.array([label == UNKNOWN for label in columns[self._label_field]])
        covered = np.asarray(columns["covered"] if self._has_interval else np.zeros(size))
        senders = part.windows.senders
        self._waiting.append(
            Windows(senders, newest, doubtful(columns, size), unknown, covered.astype(np.float64))
        )
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._count_waiting()

    def drifts(self) -> list[Drift]:
        """The judgement of the stream, then those of its devices by name."""
        self._count_waiting()
        return [self._drifts[place] for place in sorted(self._drifts)]

    def take_fresh(self) -> list[Drift]:
        """What was judged since the last call."""
        self._count_waiting()
        fresh, self._fresh = self._fresh, set()
        return [self._drifts[place] for place in sorted(fresh) if place in self._drifts]

    def _count_waiting(self) -> None:
        """Count the windows that wait, for the stream and for their devices."""
        if not self._waiting:
            return
        windows, self._waiting = join_windows(self._waiting), []
        for start in range(0, len(windows), MOST_DEVICES):
            self._count(windows.take(slice(start, start + MOST_DEVICES)))

    def _count(self, windows: Windows) -> None:
        """Count windows of at most `MOST_DEVICES` devices."""
        size = len(windows)
        cells = np.empty((size, 0), np.int64)
        if self._binner is not None:
            cells = self._binner.cells(windows.newest)
        start = 0
        for _, block in self._whole_open.add(np.zeros(size, np.int64), windows, cells):
            stop = start + BLOCK - self._whole_windows
            self._name(windows.senders[start:stop])
            block.devices, self._devices = self._devices, set()
            start, self._whole_windows = stop, 0
            self._whole.push(block)
            self._judge((ALL, ALL), self._whole)
        self._name(windows.senders[start:])
        self._whole_windows += size - start
        slots = np.array([self._slot(place) for place in windows.senders])
        if self._dropped:
            self._open.clear(self._dropped)
            self._dropped = []
        places = dict(zip(slots.tolist(), windows.senders, strict=True))
        for slot, block in self._open.add(slots, windows, cells):
            place = places[slot]
            block.devices = {"/".join(place)}
            counts = self._counts.setdefault(place, Counts(len(self.manifest.channels)))
            counts.push(block)
            self._judge(place, counts)

    def _name(self, senders: Sequence[tuple[str, str]]) -> None:
        """Note devices of the open block of the stream, as many as are counted."""
        for place in senders:
            if len(self._devices) >= MANY:
                return
            self._devices.add("/".join(place))

    def _slot(self, place: tuple[str, str]) -> int:
        """The slot of a device; a new one takes that of the device scored longest ago."""
        slot = self._slots.get(place)
        if slot is None:
            slot = len(self._slots)
            if slot >= MOST_DEVICES:
                oldest, slot = self._slots.popitem(last=False)
                self._counts.pop(oldest, None)
                self._drifts.pop(oldest, None)
                self._dropped.append(slot)
            self._slots[place] = slot
        self._slots.move_to_end(place)
        return slot

    def _judge(self, place: tuple[str, str], counts: Counts) -> None:
        found = judge(counts, self.manifest, rejects=self._rejects, has_interval=self._has_interval)
        if found is None:
            return
        now_ms = self._clock()
        before = self._drifts.get(place)
        since_ms = 0
        if found.has_drifted:
            since_ms = (before.since_ms if before else 0) or now_ms
        self._drifts[place] = Drift(
            *place,
            self.manifest.stream,
            self.manifest.version,
            found,
            since_ms,
            now_ms,
        )
        self._fresh.add(place)


def _points(gateway: str, drift: Drift) -> list[Point]:
    """The point of a judgement, and for a whole stream one for each channel."""
    found = drift.judgement
    fields: list[tuple[str, FieldValue]] = [
        ("windows", found.windows),
        ("drifted", int(found.has_drifted)),
        ("devices", found.devices),
        ("flagged", found.flagged),
        ("version", drift.version),
        ("since_ms", drift.since_ms),
        ("text", "; ".join(found.reasons)),
    ]
    shares = (("unknown", found.unknown), ("covered", found.covered))
    fields += [(name, share) for name, share in shares if share is not None]
    points = [_point(gateway, drift, ALL, fields)]
    if drift.device == ALL:
        points += [
            _point(
                gateway,
                drift,
                shape.channel,
                [
                    ("psi", shape.psi),
                    ("limit", shape.limit),
                    ("windows", found.windows),
                    ("drifted", int(shape.psi > shape.limit)),
                ],
            )
            for shape in found.shapes
        ]
    return points


def _point(
    gateway: str, drift: Drift, channel: str, fields: Sequence[tuple[str, FieldValue]]
) -> Point:
    values = (gateway, drift.site, drift.device, drift.stream, channel)
    tags = tuple(zip(DRIFT.tags, values, strict=True))
    return Point(DRIFT.name, tags, tuple(fields), drift.at_ms * 1_000_000)

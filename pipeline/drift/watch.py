"""Watches the streams of a process for drift, and tells what it sees as points."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.manifest import Draft
from models.seen import BINS
from models.tasks.classes import UNKNOWN, ClassAnswer
from models.tasks.quality import is_doubtful
from models.tasks.quantiles import QuantilesAnswer
from models.tasks.registry import find_task
from pipeline.drift.counts import Binner, Counted, Counts
from pipeline.drift.judge import Judgement, judge
from pipeline.points.measurements import DRIFT
from pipeline.points.points import FieldValue, Point
from pipeline.points.scores import ScoreRecord
from pipeline.scoring.batch import Scored, Scorer
from pipeline.windows.devices import ClosedWindow

__all__ = ["ALL", "Drift", "DriftWatch"]

ALL = "*"
"""In place of a site, device or channel: all of them. No name of a device can be it."""
MOST_DEVICES = 256
"""Devices of a process that are watched one by one, those that were scored last."""
_Key = tuple[str, str, str]


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
    """Counts windows as they are scored, and judges a stream whenever a block is full.

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

    def look(self, closed: Sequence[ClosedWindow], scored: Scored) -> None:
        """Count the windows of a batch; never raises for what they hold, never waits long."""
        by_stream: dict[str, list[ScoreRecord]] = {}
        for record in scored.records:
            by_stream.setdefault(record["stream"], []).append(record)
        windows = {
            (item.site, item.device, item.stream, item.window.end_ms): item.window.values
            for item in closed
        }
        for stream, records in by_stream.items():
            student = self._student_of(stream)
            if student is None:
                continue
            watched = self._streams.get(stream)
            with self._lock:
                if watched is None or watched.manifest is not student.manifest:
                    watched = self._streams[stream] = _Stream(student.manifest, self._clock)
                own = [r for r in records if watched.scored(r)]
                keys = [(r["site"], r["device"], r["stream"], r["end_ms"]) for r in own]
                watched.look(own, [windows[key] for key in keys])

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
        self._nothing = np.zeros((len(manifest.channels), BINS), np.int64)
        self._counts: OrderedDict[tuple[str, str], Counts] = OrderedDict()
        self._whole = self._new()
        self._drifts: dict[tuple[str, str], Drift] = {}
        self._fresh: set[tuple[str, str]] = set()

    def scored(self, record: ScoreRecord) -> bool:
        """Whether this student gave the score."""
        return bool(
            record["model"] == self.manifest.name and record["version"] == self.manifest.version
        )

    def look(self, records: Sequence[ScoreRecord], windows: Sequence[np.ndarray]) -> None:
        """Count scored windows, one after the other, for the stream and for their devices."""
        if not records:
            return
        bins = (
            [self._nothing] * len(records) if self._binner is None else self._binner.bins(windows)
        )
        for record, counted_bins in zip(records, bins, strict=True):
            place = (record["site"], record["device"])
            counted = Counted(
                counted_bins,
                1,
                int(is_doubtful(record)),
                int(bool(self._label_field) and record[self._label_field] == UNKNOWN),
                float(record["covered"]) if self._has_interval else 0.0,
                {"/".join(place)},
            )
            if self._whole.add(counted):
                self._judge((ALL, ALL), self._whole)
            own = self._of_device(place)
            if own.add(counted):
                self._judge(place, own)

    def drifts(self) -> list[Drift]:
        """The judgement of the stream, then those of its devices by name."""
        return [self._drifts[place] for place in sorted(self._drifts)]

    def take_fresh(self) -> list[Drift]:
        """What was judged since the last call."""
        fresh, self._fresh = self._fresh, set()
        return [self._drifts[place] for place in sorted(fresh) if place in self._drifts]

    def _of_device(self, place: tuple[str, str]) -> Counts:
        counts = self._counts.get(place)
        if counts is None:
            counts = self._counts[place] = self._new()
            if len(self._counts) > MOST_DEVICES:
                oldest, _ = self._counts.popitem(last=False)
                self._drifts.pop(oldest, None)
        self._counts.move_to_end(place)
        return counts

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

    def _new(self) -> Counts:
        return Counts(len(self.manifest.channels))


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

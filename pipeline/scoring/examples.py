"""Examples of a gateway: labelled windows in a file, and the anchors that follow from them.

The file `examples.json` of the state folder holds the **windows** of each labelled span, not their
features: a new student has other features, so its anchors are made again from the same windows, and
those of one student never meet those of another. The windows outlive the log, whose readings go
after some days.

`ExampleFile` changes the file; `Examples` follows it while a gateway runs: `refresh` (in a thread)
takes over what is new, and scoring asks `of`, a look-up. Without examples that is all that happens.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.labels import Label
from ingest.secrettext import error_text
from ingest.sharedstate import SharedState
from ingest.statefile import StateFileUnusable, read_object, reason_of, write_object
from ingest.topics import are_names
from models.errors import ScoreFailed
from models.manifest import Manifest
from models.session import Student
from models.tasks.registry import find_task
from pipeline.errors import ExamplesError
from pipeline.scoring.anchoring import Device, Example, StreamAnchors, anchor_stream

__all__ = [
    "FILE_NAME",
    "MOST_WINDOWS",
    "ExampleFile",
    "Examples",
    "KeptExample",
    "Room",
    "decode_example",
    "encode_example",
    "no_student",
]

log = logging.getLogger(__name__)

FILE_NAME = "examples.json"
"""Name of the file in the state folder."""
_TOLD_NAME = "examples-without-effect.json"
MOST_WINDOWS = 20
"""Windows kept of one label."""
_MOST_BYTES = 12_000_000
"""Bytes of all windows: those of some 2,000 windows of a phone."""
_MOST_LABELS = 2000
_MOST_OF_DEVICE = 40
"""Labels of one device, over all its streams: nobody takes the room of all."""
_NO_SCORE = (
    "the student gives none of its windows a finite score: mark a span without such readings"
)
_MOST_TEXT = 400  # characters of a reason
_MOST_MS = 2**53

_UNUSABLE = (StateFileUnusable, KeyError, TypeError, AttributeError, ValueError, binascii.Error)


@dataclass(frozen=True, slots=True, eq=False)
class KeptExample:
    """One label in the file.

    Attributes:
        key: Site, device, stream and id of the label, joined by `/`.
        for_all: Whether it holds for all devices of the stream.
        label: What people call it.
        recv_ms: When the label was received, epoch milliseconds.
        shape: Length and channels of a window of the student for which it was cut.
        windows: Raw windows [n, length, channels] as they are scored; none if there is a fault.
        fault: Why there are no windows; "" if there are some.
        span_ms: Beginning and end of the label, epoch milliseconds; None: an earlier release
            wrote it.
    """

    key: str
    for_all: bool
    label: str
    recv_ms: int
    shape: tuple[int, int]
    windows: NDArray[np.float32]
    fault: str = ""
    span_ms: tuple[int, int] | None = None

    def is_cut_for(self, label: Label, shape: tuple[int, int]) -> bool:
        """Whether the windows are those of a label, for a student with windows of this shape."""
        span_ms = (label.from_ms, label.to_ms)
        return self.span_ms == span_ms and self.shape == shape and bool(len(self.windows))

    @property
    def stream(self) -> str:
        """The stream of the label."""
        return self.key.split("/")[2]

    @property
    def device(self) -> Device:
        """Site and device of the label."""
        site, device, _, _ = self.key.split("/")
        return site, device


class ExampleFile:
    """The examples in a state folder; several processes may change them."""

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing is read.

        Args:
            folder: The state folder of the gateway.
        """
        self._file = SharedState(folder / FILE_NAME)
        self._told = folder / _TOLD_NAME

    def has_changed(self) -> bool:
        """Whether the file differs from what it was at the last call; True at the first one."""
        return self._file.has_changed()

    def read(self) -> dict[str, KeptExample]:
        """All examples by key.

        Raises:
            ExamplesError: The file is unusable.
        """
        try:
            return _examples(self._file.read())
        except _UNUSABLE as exc:
            raise ExamplesError(self._said(exc)) from exc

    def change(self, put: Iterable[KeptExample], remove: Iterable[str]) -> None:
        """Keep examples, in place of those with the same key, and forget others.

        Raises:
            ExamplesError: The file cannot be read or written, or would be too large.
        """
        try:
            with self._file.changing() as values:
                found = _examples(values)
                for key in remove:
                    found.pop(key, None)
                found |= {each.key: each for each in put}
                size = sum(each.windows.nbytes for each in found.values())
                if len(found) > _MOST_LABELS or size > _MOST_BYTES:
                    msg = (
                        f"{self._file.path} would have {len(found)} labels and {size / 1e6:.1f} MB "
                        f"of windows, the limit is {_MOST_LABELS} and {_MOST_BYTES / 1e6:.0f} MB: "
                        "revoke some labels that are examples"
                    )
                    raise ExamplesError(msg)
                values.clear()
                values["labels"] = {key: _row(each) for key, each in sorted(found.items())}
        except _UNUSABLE as exc:
            raise ExamplesError(self._said(exc)) from exc
        except OSError as exc:
            msg = f"cannot change {self._file.path}: {error_text(exc)}"
            raise ExamplesError(msg) from exc

    def tell(self, faults: Mapping[str, str]) -> None:
        """Note which labels have no effect, for people who ask beside the gateway.

        Raises:
            ExamplesError: The note cannot be written.
        """
        try:
            write_object(self._told, {key: why[:_MOST_TEXT] for key, why in faults.items()})
        except OSError as exc:
            msg = f"cannot write {self._told}: {error_text(exc)}"
            raise ExamplesError(msg) from exc

    def told(self) -> dict[str, str]:
        """Key of each label without effect, with the reason, as a gateway noted it last."""
        try:
            found = read_object(self._told) or {}
        except StateFileUnusable:
            return {}
        return {key: str(why) for key, why in found.items()}

    def _said(self, exc: Exception) -> str:
        return f"{self._file.path} is unusable ({reason_of(exc)}): move the file away"


class Room:
    """How much more of the file may be taken; what is in it stays."""

    def __init__(self, kept: Iterable[KeptExample]) -> None:
        """Count what there is.

        Args:
            kept: What stays in the file.
        """
        self._labels: dict[str, int] = {}
        self._of_device: Counter[Device] = Counter()
        self._bytes = 0
        for each in kept:
            self.take(each)

    def of(self, key: str, shape: tuple[int, int]) -> tuple[str, int]:
        """Why a label may not be added, "" if it may, and how many windows it may have.

        Args:
            key: Key of the label; if it is counted already, it is replaced.
            shape: Length and channels of a window.
        """
        site, name, _, _ = key.split("/")
        own = self._labels.get(key, 0)
        is_new = key not in self._labels
        if is_new and self._of_device[(site, name)] >= _MOST_OF_DEVICE:
            return f"the device has {_MOST_OF_DEVICE} labels that are examples: revoke some", 0
        if is_new and len(self._labels) >= _MOST_LABELS:
            return f"the gateway has {_MOST_LABELS} labels that are examples: revoke some", 0
        most = (_MOST_BYTES - self._bytes + own) // (4 * shape[0] * shape[1])
        if most < 1:
            mega = _MOST_BYTES / 1e6
            return f"the examples of the gateway have {mega:.0f} MB already: revoke some", 0
        return "", min(MOST_WINDOWS, most)

    def take(self, example: KeptExample) -> None:
        """Count an example, in place of one with the same key."""
        before = self._labels.get(example.key, 0)
        self._of_device[example.device] += example.key not in self._labels
        self._labels[example.key] = example.windows.nbytes
        self._bytes += example.windows.nbytes - before


class Examples:
    """The anchors of one running gateway."""

    def __init__(self, file: ExampleFile, running: Mapping[str, Student]) -> None:
        """Prepare; there are no anchors before `refresh`.

        Args:
            file: The examples.
            running: Stream to the student that scores it now.
        """
        self._file = file
        self._running = running
        self._kept: dict[str, KeptExample] = {}
        self._ready: dict[str, tuple[Student, StreamAnchors | None]] = {}
        self._faults: dict[str, str] = {}
        self._told: dict[str, str] | None = None

    def of(self, manifest: Manifest) -> StreamAnchors | None:
        """The anchors for a student; None if there are none, or not yet for this student."""
        student, anchors = self._ready.get(manifest.stream, (None, None))
        return anchors if student is not None and student.manifest is manifest else None

    def refresh(self) -> bool:
        """Take over what is new in the file, and the students that have taken over; one thread.

        A file that is unusable leaves the anchors as they are, with one line in the log.

        Returns:
            Whether anything has changed.
        """
        has_changed = self._file.has_changed()
        if has_changed:
            try:
                self._kept = self._file.read()
            except ExamplesError as exc:
                log.warning("%s; the examples stay as they are", exc)
                has_changed = False
        streams = {each.stream for each in self._kept.values()}
        ready = dict(self._ready)
        for stream in streams | ready.keys():
            student = self._running.get(stream)
            if student is None or stream not in streams:
                ready.pop(stream, None)
            elif has_changed or ready.get(stream, (None,))[0] is not student:
                ready[stream] = (student, self._anchors(student))
        is_new = has_changed or ready != self._ready
        self._ready = ready
        if is_new:
            faults = {each.key: each.fault for each in self._kept.values() if each.fault}
            for stream in streams:
                faults |= self._faults_of(stream)
            self._faults = faults
        return is_new

    def status(self, more: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What `/health` shows: labels with examples, their windows, and those without effect.

        Args:
            more: Key of each label without effect that is not in the file, with the reason.
        """
        kept = self._kept.values()
        faults = self._faults | dict(more or {})
        return {
            "labels": len(kept),
            "windows": sum(len(each.windows) for each in kept),
            "without_effect": [f"{key}: {why}" for key, why in sorted(faults.items())][:20],
        }

    def faults(self) -> dict[str, str]:
        """Key of each label whose examples have no effect, with the reason."""
        return dict(self._faults)

    def students(self) -> list[tuple[str, str]]:
        """Stream and digest of every student that scores now, in order."""
        return sorted((stream, each.digest) for stream, each in [*self._running.items()])

    def tell(self, more: Mapping[str, str]) -> None:
        """Note which labels have no effect, if it is not what was noted last.

        Args:
            more: As for `status`.

        Raises:
            ExamplesError: The note cannot be written.
        """
        faults = self.faults() | dict(more)
        if self._told is None:
            self._told = self._file.told()
        if faults != self._told:
            self._file.tell(faults)
            self._told = faults

    def _anchors(self, student: Student) -> StreamAnchors | None:
        if not student.has_features:
            return None
        manifest = student.manifest
        shape = (manifest.window.length, len(manifest.channels))
        fitting = [
            each
            for each in self._kept.values()
            if each.stream == manifest.stream and len(each.windows) and each.shape == shape
        ]
        if not fitting:
            return None
        try:
            score = student.score_with_features
            made = {each.key: _example(each, score) for each in fitting}
            found = [example for examples in made.values() for example in examples]
            others = [other.manifest for other in [*self._running.values()] if other is not student]
            elsewhere = [
                label
                for other in others
                for label in find_task(other.task).answer.labels(other.decoding)
            ]
            placed = anchor_stream(manifest, found, elsewhere)
            odd = {key: _NO_SCORE for key, examples in made.items() if not examples}
            placed.faults = {**placed.faults, **odd}
            return placed
        except (ScoreFailed, ValueError) as exc:
            log.warning("no anchors for the stream %s: %s", manifest.stream, error_text(exc))
            return None

    def _faults_of(self, stream: str) -> dict[str, str]:
        student, anchors = self._ready.get(stream, (None, None))
        if anchors is not None:
            return dict(anchors.faults)
        if student is None:
            why = no_student(stream)
        elif not student.has_features:
            why = (
                f"{student.manifest.name} v{student.manifest.version} has no features: publish a "
                "version that was trained by this release or a later one"
            )
        else:
            return {}
        return {each.key: why for each in self._kept.values() if each.stream == stream}


def _example(kept: KeptExample, score: Callable[[NDArray[np.float32]], Any]) -> list[Example]:
    """The example with the features of its windows; none if no window is finite."""
    scores, found = score(kept.windows)
    device = None if kept.for_all else kept.device
    if not scores.valid.any():
        return []
    features, windows = found[scores.valid], kept.windows[scores.valid]
    return [Example(kept.key, device, kept.label, kept.recv_ms, features, windows)]


def no_student(stream: str) -> str:
    """Why the labels of a stream have no effect."""
    return f"no student scores the stream {stream!r}"


def _examples(values: Mapping[str, Any]) -> dict[str, KeptExample]:
    """The examples in the object of the file; raises one of `_UNUSABLE`."""
    return {key: _entry(key, dict(row)) for key, row in values["labels"].items()} if values else {}


def encode_example(each: KeptExample) -> bytes:
    """Encode an example as a record of the log topic `examples`."""
    return orjson.dumps({"key": each.key, **_row(each)})


def decode_example(value: bytes) -> KeptExample:
    """Decode a record of the log topic `examples`.

    Raises:
        ExamplesError: It is none.
    """
    try:
        document = orjson.loads(value)
        return _entry(document["key"], document)
    except _UNUSABLE as exc:
        msg = f"not an example: {value[:80]!r} ({reason_of(exc)})"
        raise ExamplesError(msg) from exc


def _row(each: KeptExample) -> dict[str, Any]:
    return {
        "for_all": each.for_all,
        "label": each.label,
        "recv_ms": each.recv_ms,
        "shape": list(each.shape),
        "windows": base64.b64encode(each.windows.astype("<f4").tobytes()).decode("ascii"),
        "fault": each.fault,
        **({} if each.span_ms is None else {"span_ms": each.span_ms}),
    }


def _entry(key: str, row: dict[str, Any]) -> KeptExample:
    length, channels = (int(each) for each in row["shape"])
    data = np.frombuffer(base64.b64decode(row["windows"], validate=True), "<f4")
    windows = data.astype(np.float32).reshape(-1, length, channels)
    names = key.split("/")
    span_ms = row.get("span_ms")
    if span_ms is not None:
        from_ms, to_ms = span_ms
        span_ms = (from_ms, to_ms)
    is_right = len(names) == 4 and are_names(tuple(names)) and type(row["for_all"]) is bool
    times_ms = (row["recv_ms"], *(span_ms or ()))
    if any(type(each) is not int or not 0 <= each < _MOST_MS for each in times_ms):
        is_right = False  # the file could not be written again
    if not is_right or len(windows) > MOST_WINDOWS:
        msg = f"{key!r:.80} is no example"
        raise ValueError(msg)
    label, fault = str(row["label"]), str(row["fault"])
    shape = (length, channels)
    return KeptExample(key, row["for_all"], label, row["recv_ms"], shape, windows, fault, span_ms)

"""Examples of a gateway follow its labels: cut for new ones, forgotten with revoked ones.

A label says itself that it is an example (`ingest.labels`), so the page, MQTT and `kpstream label`
need nothing else, and what holds follows from the labels in the log: their order, a label that
comes twice, and a restart change nothing. The windows are cut when the label arrives, while the log
has the readings, and again for a student with windows of another shape.

Where a bound is reached, the labels received first hold. The others are left out before the log is
searched for their readings, and are told; they hold as soon as there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusedMessage
from ingest.labels import LabelRecord, current_labels, decode_label_record
from ingest.topics import LABELS
from models.manifest import Manifest
from models.session import Student
from pipeline.errors import ExamplesError, LogError, ReadingsGone
from pipeline.explain.logscan import LogFile, LogSource
from pipeline.explain.scores import DeviceStream
from pipeline.explain.spans import span_windows
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_log
from pipeline.scoring.examples import ExampleFile, Examples, KeptExample, Room, no_student
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings

__all__ = ["MOST_TOLD", "ExampleWatch", "TurnValues", "cut_example", "given_again", "other_shape"]

log = logging.getLogger(__name__)

TurnValues = Callable[
    [tuple[str, str, str], NDArray[np.float32], Sequence[str]], NDArray[np.float32]
]
"""Turns readings of a device; see `pipeline.scoring.mounting.Mountings.turn_values`."""
_EVERY_S = 0.4
_SEARCHED_BYTES = 1_000_000_000
MOST_TOLD = 200
"""Labels without effect that are told."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last turn was about; nothing is done before it changes."""

    ends: tuple[int, ...]
    students: tuple[tuple[str, str], ...]


class ExampleWatch:
    """Keeps the examples of a gateway as its labels say."""

    def __init__(
        self,
        log_file: SqliteLog,
        path: Path,
        file: ExampleFile,
        examples: Examples,
        running: Mapping[str, Student],
        settings: PipelineSettings,
        turn: TurnValues,
    ) -> None:
        """Prepare.

        Args:
            log_file: The log; asked whether there are new labels.
            path: Its file; read beside it.
            file: The examples.
            examples: The anchors that follow from them.
            running: Stream to the student that scores it now.
            settings: Settings by which streams are windowed.
            turn: Turns readings of a device that is mounted otherwise, as scoring does.
        """
        self._log = log_file
        self._path = path
        self._file = file
        self._examples = examples
        self._running = running
        self._settings = settings
        self._turn = turn
        self._done: _Seen | None = None
        self._tried: dict[str, tuple[int, tuple[int, int]]] = {}
        self._without: dict[str, str] = {}

    def status(self) -> dict[str, Any]:
        """Return what `/health` shows."""
        return self._examples.status(self._without)

    def start(self) -> None:
        """Make the anchors that held at the last stop, before the first window is scored."""
        self._examples.refresh()

    async def run(self) -> None:
        """Follow labels, file and students until cancelled; work is done in threads."""
        while True:
            try:
                await asyncio.to_thread(self.follow)
            except (LogError, ExamplesError, OSError) as exc:
                log.warning("the examples stay as they are: %s", exc)
            except Exception:  # scoring goes on without what is new
                log.exception("following the examples failed; please report this")
            await asyncio.sleep(_EVERY_S)

    def follow(self) -> None:
        """Do what is due; cheap if nothing has changed.

        Raises:
            LogError: The log cannot be read; call it again.
            ExamplesError: The file of the examples cannot be read or written.
        """
        seen = self._seen()
        if seen != self._done:
            self._follow_labels()
            self._done = seen
        self._examples.refresh()
        self._examples.tell(self._without)

    def _seen(self) -> _Seen:
        count = self._log.topic_partitions(LABELS) or 0
        ends = tuple(self._log.end_offset(LABELS, partition) for partition in range(count))
        return _Seen(ends, tuple(self._examples.students()))

    def _follow_labels(self) -> None:
        found = current_labels(self._records())
        labels = {"/".join((*address, name)): one for (address, name), one in found.items()}
        wanted = {
            key: one for key, one in labels.items() if one.label.example and not one.label.revoked
        }
        kept = self._file.read()
        gone = [key for key in kept if key in labels and key not in wanted]
        room = Room(each for key, each in kept.items() if key not in gone)
        self._tried = {key: each for key, each in self._tried.items() if key in wanted}
        without, new = {}, []
        for key, record in sorted(wanted.items(), key=lambda each: (each[1].recv_ms, each[0])):
            student = self._running.get(record.address.stream)
            if student is None:
                without[key] = no_student(record.address.stream)
                continue
            shape = (student.manifest.window.length, len(student.manifest.channels))
            known = kept.get(key)
            if known is not None and known.recv_ms == record.recv_ms:
                if known.shape == shape:
                    continue
                if self._tried.get(key) == (record.recv_ms, shape):
                    without[key] = other_shape(known, student.manifest)
                    continue
            if known is not None and known.is_cut_for(record.label, shape):
                # The same span given again: the log may have its readings no more.
                again = given_again(known, record)
                room.take(again)
                new.append(again)
                continue
            why, most = room.of(key, shape)
            example = None
            if not why:
                source, settings = LogFile(self._path), self._settings
                example = cut_example(
                    source, key, record, student.manifest, settings, most, self._turn
                )
            if example is None:
                without[key] = why
            elif example.fault and known is not None and known.recv_ms == record.recv_ms:
                self._tried[key] = (record.recv_ms, shape)  # its windows stay for their student
                without[key] = other_shape(known, student.manifest)
            else:
                room.take(example)
                new.append(example)
        if new or gone:
            self._file.change(new, gone)
        self._without = dict(islice(without.items(), MOST_TOLD))

    def _records(self) -> list[LabelRecord]:
        found = []
        for record in peek_log(self._path, LABELS):
            try:
                found.append(decode_label_record(record.value or b""))
            except RefusedMessage as exc:
                log.warning("left out: %s", exc.detail)
        return found


def cut_example(
    source: LogSource,
    key: str,
    record: LabelRecord,
    manifest: Manifest,
    settings: PipelineSettings,
    most: int,
    turn: TurnValues | None = None,
) -> KeptExample:
    """Cut the windows of a label from the readings in the log.

    Args:
        source: The log.
        key: Key of the example.
        record: The label.
        manifest: Manifest of the student.
        settings: Settings by which streams are windowed.
        most: Windows wanted at most.
        turn: Turns readings of a device that is mounted otherwise.

    Returns:
        The example, with a fault in place of windows where the log has not enough readings.

    Raises:
        LogError, LogUnavailable: The log cannot be read.
    """
    site, device, stream = record.address
    label = record.label
    shape = (manifest.window.length, len(manifest.channels))
    windows, fault = np.empty((0, *shape), dtype=np.float32), ""
    try:
        windows = span_windows(
            source,
            DeviceStream(site, device, stream),
            manifest.channel_names,
            stream_plan(manifest, settings).spec,
            (label.from_ms, label.to_ms),
            most=most,
            max_bytes=_SEARCHED_BYTES,
        )
        if turn is not None:
            windows = turn((site, device, stream), windows, manifest.channel_names)
    except ReadingsGone as exc:
        fault = str(exc)
    for_all, span_ms = label.example == "stream", (label.from_ms, label.to_ms)
    return KeptExample(key, for_all, label.label, record.recv_ms, shape, windows, fault, span_ms)


def given_again(known: KeptExample, record: LabelRecord) -> KeptExample:
    """The same windows, as the label that was received later says."""
    label = record.label
    for_all = label.example == "stream"
    return replace(known, for_all=for_all, label=label.label, recv_ms=record.recv_ms)


def other_shape(kept: KeptExample, manifest: Manifest) -> str:
    """Why windows of one shape have no effect with a student of another."""
    return (
        f"its windows have {kept.shape[0]} readings of {kept.shape[1]} channels, those of "
        f"{manifest.name} v{manifest.version} have {manifest.window.length} of "
        f"{len(manifest.channels)}, and the log has the readings no more: mark a recent span"
    )

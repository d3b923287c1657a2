"""Examples of a gateway follow its labels: cut for new ones, forgotten with revoked ones.

A label says itself that it is an example (`ingest.labels`), so the page, MQTT and `kpstream label`
need nothing else, and what holds follows from the labels in the log: their order, a label that
comes twice, and a restart change nothing. The windows are cut when the label arrives, while the log
has the readings, and again for a student with windows of another shape.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusedMessage
from ingest.labels import LabelRecord, current_labels, decode_label_record
from ingest.topics import LABELS
from models.session import Student
from pipeline.errors import ExamplesError, LogError, ReadingsGone
from pipeline.explain.logscan import LogFile
from pipeline.explain.scores import DeviceStream
from pipeline.explain.spans import span_windows
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_log
from pipeline.scoring.examples import MOST_WINDOWS, ExampleFile, Examples, KeptExample
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings

__all__ = ["ExampleWatch", "TurnValues"]

log = logging.getLogger(__name__)

TurnValues = Callable[
    [tuple[str, str, str], NDArray[np.float32], Sequence[str]], NDArray[np.float32]
]
"""Turns readings of a device; see `pipeline.scoring.mounting.Mountings.turn_values`."""
_EVERY_S = 0.4
_SEARCHED_BYTES = 1_000_000_000


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

    def status(self) -> dict[str, Any]:
        """Return what `/health` shows."""
        return self._examples.status()

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

    def _seen(self) -> _Seen:
        count = self._log.topic_partitions(LABELS) or 0
        ends = tuple(self._log.end_offset(LABELS, partition) for partition in range(count))
        running = [(stream, student.digest) for stream, student in [*self._running.items()]]
        return _Seen(ends, tuple(sorted(running)))

    def _follow_labels(self) -> None:
        found = current_labels(self._records())
        labels = {"/".join((*address, name)): one for (address, name), one in found.items()}
        wanted = {
            key: one for key, one in labels.items() if one.label.example and not one.label.revoked
        }
        kept = self._file.read()
        gone = [key for key in kept if key in labels and key not in wanted]
        new = [
            example
            for key, record in sorted(wanted.items())
            if (example := self._cut(key, record, kept.get(key))) is not None
        ]
        if new or gone:
            self._file.change(new, gone)

    def _records(self) -> list[LabelRecord]:
        found = []
        for record in peek_log(self._path, LABELS):
            try:
                found.append(decode_label_record(record.value or b""))
            except RefusedMessage as exc:
                log.warning("left out: %s", exc.detail)
        return found

    def _cut(self, key: str, record: LabelRecord, kept: KeptExample | None) -> KeptExample | None:
        """The example of a label; None if it is kept already, or no student runs yet."""
        site, device, stream = record.address
        student = self._running.get(stream)
        if student is None:
            return None
        manifest, label = student.manifest, record.label
        shape = (manifest.window.length, len(manifest.channels))
        if kept is not None and kept.recv_ms == record.recv_ms and kept.shape == shape:
            return None
        windows, fault = np.empty((0, *shape), dtype=np.float32), ""
        try:
            windows = span_windows(
                LogFile(self._path),
                DeviceStream(site, device, stream),
                manifest.channel_names,
                stream_plan(manifest, self._settings).spec,
                (label.from_ms, label.to_ms),
                most=MOST_WINDOWS,
                max_bytes=_SEARCHED_BYTES,
            )
            windows = self._turn((site, device, stream), windows, manifest.channel_names)
        except ReadingsGone as exc:
            fault = str(exc)
        for_all = label.example == "stream"
        return KeptExample(key, for_all, label.label, record.recv_ms, shape, windows, fault)

"""The recorder: takes what is new in the log, and commits it to the folder in files of some size.

`Recorder.turn` reads every partition from its position to its end. Readings wait in memory until
they fill the buffer, or until the oldest of them has waited for `flush_ms`; labels are committed
with every turn, because people wait for them. What waits is in the log and below no committed
position, so a kill loses nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ingest.blocks import decode_messages
from ingest.clock import steady_ms as process_steady_ms
from ingest.errors import RefusedMessage
from ingest.labels import LabelRecord, decode_label_record
from ingest.messages import Batch, Unreadable
from ingest.topics import LABELS
from pipeline.recording.folder import RecordingFolder
from pipeline.recording.rows import Rows
from pipeline.recording.source import Place, Record, Source

__all__ = ["RecordCounters", "Recorder"]

log = logging.getLogger(__name__)

_MOST_PARTS = 500
"""Files that one commit writes; so many streams and channel sets are made up by somebody."""
_MOST_LABELS = 1000
"""Labels read before a commit."""


@dataclass(slots=True)
class RecordCounters:
    """Counters since the start.

    Attributes:
        readings: Readings in files.
        labels: Records of labels in the file of labels.
        files: Files written.
        missing: Records that the log had deleted before they were read.
        unreadable: Messages and labels in the log that cannot be read.
    """

    readings: int = 0
    labels: int = 0
    files: int = 0
    missing: int = 0
    unreadable: int = 0


class Recorder:
    """Records a log into a folder; used by one thread.

    Attributes:
        counters: See `RecordCounters`.
    """

    def __init__(
        self,
        source: Source,
        folder: RecordingFolder,
        *,
        flush_ms: int,
        buffer_bytes: int,
        steady_ms: Callable[[], int] = process_steady_ms,
    ) -> None:
        """Prepare; nothing is read before `turn`.

        Args:
            source: The log.
            folder: The folder; its positions say where to begin.
            flush_ms: Milliseconds for which readings wait for their file.
            buffer_bytes: Memory that they may use meanwhile.
            steady_ms: Monotonic milliseconds.
        """
        self.counters = RecordCounters()
        self._source = source
        self._folder = folder
        self._flush_ms = flush_ms
        self._buffer_bytes = buffer_bytes
        self._steady_ms = steady_ms
        self._identity = folder.source
        self._positions = dict(folder.positions)
        self._rows = Rows()
        self._waiting_since_ms: int | None = None
        self._labels: list[LabelRecord] = []
        self._is_stopping = False

    def turn(self) -> int:
        """Take what is new in the log, and commit what is due; returns the records taken.

        Raises:
            RecordingUnavailable: The log cannot be read, or the folder not be written. Nothing is
                lost; call it again later.
        """
        self._commit_full()  # first what a failed commit has left
        ends = self._source.ends()
        if ends.identity != self._identity:
            self._begin(ends.identity)
        taken = 0
        for place, (first, end) in ends.offsets.items():
            at = self._start(place, first, end)
            if at < end and not self._is_stopping:
                taken += self._take(place, at, end)
        if self._labels:
            self._commit_labels()
        self._commit_due()
        return taken

    def stop(self) -> None:
        """Let a turn in progress end after the record that it works on; any thread."""
        self._is_stopping = True

    def flush(self) -> None:
        """Commit everything that waits.

        Raises:
            RecordingUnavailable: As `turn`.
        """
        if self._labels:
            self._commit_labels()
        if self._rows.readings or self._positions != self._folder.positions:
            self._folder.commit(self._rows.parts(), (), self._identity, self._positions)
            self.counters.readings += self._rows.readings
            self.counters.files += len(self._rows)
            self._rows = Rows()
        self._waiting_since_ms = None

    # -- from the log -----------------------------------------------------------------------

    def _begin(self, identity: str) -> None:
        """Begin with another log: the first one of this folder, or a new one at its place."""
        self.flush()  # what was read belongs to the positions of the former log
        if self._identity:
            log.warning(
                "the log is another one than that recorded into %s so far; recording goes on with "
                "its oldest record",
                self._folder.path,
            )
        self._identity, self._positions = identity, {}

    def _start(self, place: Place, first: int, end: int) -> int:
        """Return the offset at which to go on in a partition."""
        at = self._positions.get(place.name)
        if at is None:
            at = first
        elif at > end:
            log.warning(
                "%s ends at %d, and %d was recorded: the log has lost its end; recording goes on "
                "there",
                place.name,
                end,
                at,
            )
            at = end
        elif at < first and place.topic != LABELS:  # labels are replaced by newer ones
            self._note_missing(place, first - at)
            at = first
        self._positions[place.name] = at
        return at

    def _take(self, place: Place, at: int, end: int) -> int:
        taken = 0
        for record in self._source.read(place, at, end):
            if place.topic == LABELS:
                self._take_label(record)
            else:
                if record.offset > at:
                    self._note_missing(place, record.offset - at)
                self._take_readings(record)
            at = record.offset + 1
            self._positions[place.name] = at
            taken += 1
            self._commit_full()
            if self._is_stopping:
                return taken
        if at < end:
            if place.topic != LABELS:
                self._note_missing(place, end - at)
            self._positions[place.name] = end
        return taken

    def _take_readings(self, record: Record) -> None:
        for item in decode_messages(record.value):
            if isinstance(item, Batch):
                self._rows.add(item)
            elif isinstance(item, Unreadable):
                self._note_unreadable(item.detail)
        if self._waiting_since_ms is None:
            self._waiting_since_ms = self._steady_ms()

    def _take_label(self, record: Record) -> None:
        try:
            self._labels.append(decode_label_record(record.value))
        except RefusedMessage as exc:
            self._note_unreadable(exc.detail)

    def _note_missing(self, place: Place, records: int) -> None:
        self.counters.missing += records
        log.warning(
            "%d records of %s had left the log before they were recorded; a recorder that runs all "
            "the time, or more room (KPSTREAM_GATEWAY_LOG_HOURS, _LOG_MAX_MB), prevents that",
            records,
            place.name,
        )

    def _note_unreadable(self, detail: str) -> None:
        self.counters.unreadable += 1
        if self.counters.unreadable == 1:
            log.warning("a record of the log cannot be read and is left out: %.300s", detail)

    # -- to the folder ----------------------------------------------------------------------

    def _commit_full(self) -> None:
        rows = self._rows
        if rows.size_bytes >= self._buffer_bytes or len(rows) >= _MOST_PARTS:
            self.flush()
        elif len(self._labels) >= _MOST_LABELS:
            self._commit_labels()

    def _commit_due(self) -> None:
        since_ms = self._waiting_since_ms
        if since_ms is not None and self._steady_ms() - since_ms >= self._flush_ms:
            self.flush()

    def _commit_labels(self) -> None:
        """Commit the labels, with their own positions only: readings still wait."""
        own = {name: at for name, at in self._positions.items() if name.startswith(f"{LABELS}/")}
        former = self._folder.positions if self._folder.source == self._identity else {}
        self._folder.commit((), self._labels, self._identity, {**former, **own})
        self.counters.labels += len(self._labels)
        self._labels = []

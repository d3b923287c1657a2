"""Examples of a site follow its labels, on every worker.

Devices move between workers, and an example may hold for all devices of a stream. So every worker
has all examples, and the log has what must outlive workers and readings:

1. Every worker reads the topics `labels` and `examples`, whose records hold the windows.
2. Where the windows of a label are missing, the worker that has the partition of its device cuts
   them from the readings in Kafka and appends them to `examples`. It takes them, like all others,
   when it reads them there.
3. What holds is kept in `examples.json` in the folder of the worker, and anchors follow from it as
   on a gateway. A worker that starts reads the topics before it scores.

So neither a rebalance nor a new worker changes an answer. Windows of a revoked label are deleted
from the topic by its compaction, and from the file at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from deploy.processes.exampling import MOST_TOLD, cut_example, given_again, other_shape
from ingest.errors import IngestError, RefusedMessage
from ingest.labels import LabelRecord, decode_label_record, later_of
from ingest.topics import EXAMPLES, LABELS, MAX_RECORD_BYTES, device_key, partition_of
from models.session import Student
from pipeline.errors import ExamplesError, LogError
from pipeline.explain.logscan import LogSource
from pipeline.scoring.examples import (
    ExampleFile,
    Examples,
    KeptExample,
    Room,
    decode_example,
    encode_example,
    no_student,
)
from pipeline.settings import PipelineSettings

__all__ = ["AppendExample", "ExampleRow", "ForwardReader", "SiteExamples"]

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_MOST_CUT = 20
"""Labels whose windows are cut before other work goes on."""
_MOST_LABELS = 20_000
"""Labels that are or were examples: ten times as many as can hold."""
_MOST_BYTES = MAX_RECORD_BYTES // 2
"""Bytes of the windows of one record; base64 takes a third more."""
_CLOSE_S = 2.0
_WAITS = "the worker that has its device cuts its windows"


class ForwardReader(Protocol):
    """Reads partitions of the log forwards; see `ingest.kafkareader.KafkaForwardReader`."""

    def bounds(self, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        """First offset and that of the next record of each partition."""

    def read(
        self, topic: str, partition: int, offset: int, end: int
    ) -> Iterator[tuple[int, bytes | None]]:
        """Offsets and values from one offset to another."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A record for the topic `examples`.

    Attributes:
        partition: That of the device.
        key: Key of the example.
        value: The example; None deletes it.
    """

    partition: int
    key: bytes
    value: bytes | None


AppendExample = Callable[[ExampleRow], Awaitable[None]]
"""Appends a row, and returns when Kafka has it; raises `LogUnavailable`."""


class SiteExamples:
    """Keeps the examples of one worker as the labels of its site say.

    Attributes:
        anchors: The anchors that follow from them.
    """

    def __init__(
        self,
        folder: Path,
        running: Mapping[str, Student],
        settings: PipelineSettings,
        connect: Callable[[], ForwardReader],
        search: Callable[[], AbstractContextManager[LogSource]],
    ) -> None:
        """Prepare; nothing is read.

        Args:
            folder: Folder of the worker.
            running: Stream to the student that scores it now.
            settings: Settings by which streams are windowed, with the number of partitions.
            connect: Connects to Kafka, to follow topics.
            search: Connects to Kafka, to search readings backwards.
        """
        self._file = ExampleFile(folder)
        self.anchors = Examples(self._file, running)
        self._running = running
        self._settings = settings
        self._connect = connect
        self._search = search
        self._reader: ForwardReader | None = None
        self._positions: dict[tuple[str, int], int] = {}
        self._labels: dict[str, LabelRecord] = {}
        self._found: dict[str, KeptExample] = {}
        self._gone: set[str] = set()
        self._tried: dict[str, tuple[int, tuple[int, int]]] = {}
        self._without: dict[str, str] = {}
        self._done: object = None
        self._lock = threading.Lock()

    def status(self) -> dict[str, Any]:
        """Return what `/health` shows."""
        return self.anchors.status(self._without)

    def start(self) -> None:
        """Take what the topics have, before the first window is scored; without Kafka, the file."""
        try:
            self.follow(())
        except (IngestError, LogError, ExamplesError, OSError) as exc:
            log.warning("the examples are those of the last stop: %s", exc)
            self.anchors.refresh()

    def close(self) -> None:
        """Disconnect, unless a thread is still at work after two seconds; idempotent."""
        if self._lock.acquire(timeout=_CLOSE_S):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    async def run(self, owned: Callable[[], Collection[int]], append: AppendExample) -> None:
        """Follow topics and students until cancelled; work is done in threads.

        Args:
            owned: Returns the partitions of this worker.
            append: Appends to the topic `examples`.
        """
        told = ""
        while True:
            rows: list[ExampleRow] = []
            try:
                rows = await asyncio.to_thread(self.follow, owned())
                for row in rows:
                    await append(row)
                told = ""
            except (IngestError, LogError, ExamplesError, OSError) as exc:
                if str(exc) != told:  # Kafka may be away for hours
                    log.warning("the examples stay as they are: %s", exc)
                told = str(exc)
                if rows:
                    await asyncio.to_thread(self._read_again)
                rows = []
            except Exception:  # scoring goes on without what is new
                log.exception("following the examples failed; please report this")
            await asyncio.sleep(0 if rows else _EVERY_S)

    def follow(self, owned: Collection[int]) -> list[ExampleRow]:
        """Do what is due; cheap if nothing has changed.

        Args:
            owned: Partitions of this worker.

        Returns:
            Rows to be appended; they hold once they have been read from the topic.

        Raises:
            LogUnavailable: Kafka does not answer; call it again.
            LogError: The readings cannot be read; call it again.
            ExamplesError: The file of the examples cannot be read or written.
        """
        with self._lock:
            return self._follow(owned)

    def _follow(self, owned: Collection[int]) -> list[ExampleRow]:
        try:
            self._read()
        except IngestError:
            self._disconnect()
            raise
        seen = (dict(self._positions), self.anchors.students(), frozenset(owned))
        rows: list[ExampleRow] = []
        if seen != self._done:
            self._done = None
            rows, is_all = self._follow_labels(owned)
            self._done = seen if is_all and not rows else None
        self.anchors.refresh()
        self.anchors.tell(self._without)
        return rows

    def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _read_again(self) -> None:
        """Forget what was read of the examples, because a row was not taken."""
        with self._lock:
            self._found.clear()
            self._gone.clear()
            self._positions = {
                place: at for place, at in self._positions.items() if place[0] != EXAMPLES
            }
            self._done = None

    def _read(self) -> None:
        if self._reader is None:
            self._reader = self._connect()
        for topic, take in ((LABELS, self._take_label), (EXAMPLES, self._take_example)):
            bounds = self._reader.bounds(topic, self._settings.partitions)
            for partition, (first, end) in bounds.items():
                place = (topic, partition)
                at = self._positions.get(place, 0)
                if at > end:  # the topic was made anew
                    at = 0
                for offset, value in self._reader.read(topic, partition, max(first, at), end):
                    if value is not None:
                        take(value)
                    self._positions[place] = offset + 1
                self._positions[place] = end

    def _take_label(self, value: bytes) -> None:
        try:
            record = decode_label_record(value)
        except RefusedMessage as exc:
            log.warning("left out: %s", exc.detail)
            return
        key = "/".join((*record.address, record.label.id))
        known = self._labels.get(key)
        if known is not None:
            self._labels[key] = later_of(known, record)
        elif record.label.example or (record.label.revoked and record.label.kind == "span"):
            self._make_room()  # a revocation need not say that the label was an example
            self._labels[key] = record

    def _make_room(self) -> None:
        """Forget revoked labels, then those given first, whose windows stay as they are."""
        if len(self._labels) < _MOST_LABELS:
            return
        log.warning("more than %d labels are or were examples", _MOST_LABELS)
        ordered = sorted(
            self._labels.items(), key=lambda each: (not each[1].label.revoked, each[1].recv_ms)
        )
        self._labels = dict(ordered[_MOST_LABELS // 2 :])

    def _take_example(self, value: bytes) -> None:
        try:
            example = decode_example(value)
        except ExamplesError as exc:
            log.warning("left out: %s", exc)
            return
        self._found[example.key] = example

    def _follow_labels(self, owned: Collection[int]) -> tuple[list[ExampleRow], bool]:
        """Rows to be appended, and whether no label waits for another turn."""
        held, without = {}, {}
        gone = {key for key in self._found if not self._is_wanted(key)}
        for key in gone:
            del self._found[key]
        # A label that was an example, was none, and is one again must not be deleted.
        left = (key for key in self._gone | gone if not self._is_wanted(key))
        self._gone = set(islice(left, _MOST_LABELS))
        mine = {key for key in self._gone if self._partition(key) in owned}
        rows = [ExampleRow(self._partition(key), key.encode(), None) for key in sorted(mine)]
        wanted = {key: each for key, each in self._labels.items() if self._is_wanted(key)}
        self._tried = {key: each for key, each in self._tried.items() if key in wanted}
        received = {key: each.recv_ms for key, each in self._found.items()}
        received |= {key: each.recv_ms for key, each in wanted.items()}
        room, cut = Room(()), 0
        for key in sorted(received, key=lambda each: (received[each], each)):
            record, known = wanted.get(key), self._found.get(key)
            if known is not None and record is not None:
                span_ms = (record.label.from_ms, record.label.to_ms)
                known = given_again(known, record) if known.span_ms == span_ms else None
            shape = self._shape(key)
            if record is not None and shape is not None and self._is_missing(key, record, shape):
                why, most = room.of(key, shape)
                most = min(most, _MOST_BYTES // (4 * shape[0] * shape[1]))
                if not why and not most:
                    why = f"a window has more than {_MOST_BYTES / 1e6:.0f} MB"
                if why or self._partition(key) not in owned or cut >= _MOST_CUT:
                    without[key] = why or _WAITS
                else:
                    cut += 1
                    example = self._cut(key, record, most)
                    if example.fault and known is not None and len(known.windows):
                        self._tried[key] = (record.recv_ms, shape)
                    else:
                        rows.append(
                            ExampleRow(self._partition(key), key.encode(), encode_example(example))
                        )
            if known is None:
                if shape is None:
                    without[key] = no_student(_stream(key))
                continue
            why, most = room.of(key, known.shape)
            if why or most < len(known.windows):
                without[key] = why or "the examples have no more room: revoke some"
                continue
            room.take(known)
            held[key] = known
            if shape is None:
                without[key] = no_student(_stream(key))
            elif shape != known.shape:
                student = self._running[known.stream]
                without[key] = other_shape(known, student.manifest)
        self._keep(held)
        self._gone -= mine
        self._without = dict(islice(without.items(), MOST_TOLD))
        return rows, cut < _MOST_CUT

    def _keep(self, held: Mapping[str, KeptExample]) -> None:
        """Bring the file in line with what holds."""
        kept = self._file.read()
        put = [each for key, each in held.items() if _differ(kept.get(key), each)]
        gone = kept.keys() - held.keys()
        if put or gone:
            self._file.change(put, gone)

    def _is_wanted(self, key: str) -> bool:
        """Whether a label is an example; what the topic of the labels has lost goes on."""
        record = self._labels.get(key)
        return record is None or bool(record.label.example and not record.label.revoked)

    def _is_missing(self, key: str, record: LabelRecord, shape: tuple[int, int]) -> bool:
        found = self._found.get(key)
        if found is None:
            return True
        if found.is_cut_for(record.label, shape):
            return False
        is_told = bool(found.fault) and found.recv_ms == record.recv_ms and found.shape == shape
        return not is_told and self._tried.get(key) != (record.recv_ms, shape)

    def _shape(self, key: str) -> tuple[int, int] | None:
        student = self._running.get(_stream(key))
        if student is None:
            return None
        return student.manifest.window.length, len(student.manifest.channels)

    def _partition(self, key: str) -> int:
        site, device, _, _ = key.split("/")
        return partition_of(device_key(site, device), self._settings.partitions)

    def _cut(self, key: str, record: LabelRecord, most: int) -> KeptExample:
        manifest = self._running[record.address.stream].manifest
        with self._search() as source:
            return cut_example(source, key, record, manifest, self._settings, most)


def _stream(key: str) -> str:
    return key.split("/")[2]


def _differ(one: KeptExample | None, other: KeptExample) -> bool:
    if one is None:
        return True
    names = ("recv_ms", "span_ms", "shape", "label", "for_all", "fault")
    return any(getattr(one, name) != getattr(other, name) for name in names)

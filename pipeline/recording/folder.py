"""The folder of recordings: files and positions that change together, whatever is killed when.

A commit has four steps, each durable before the next:

1. The new files are written into `.staging`.
2. `labels.jsonl` is replaced, if labels have changed. Labels may be ahead of the positions, because
   reading their records again changes nothing.
3. **`.positions.json` is replaced: the commit.** It has the positions behind the new records, and
   under which name each staged file belongs.
4. The files are moved there.

A start after a kill moves the files that the positions name and deletes the other staged ones. So a
file that was written before step 3 is forgotten and its records are read again, and one that was
written after it gets its name.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ingest.durable.mark import sync_folder
from ingest.errors import RefusedMessage
from ingest.labels import (
    LabelRecord,
    current_labels,
    decode_label_record,
    encode_label_record,
    later_of,
)
from ingest.secrettext import error_text
from ingest.statefile import open_regular, read_regular, replace_file
from ingest.topics import Address
from pipeline.errors import RecordingUnavailable, RecordingUnusable
from pipeline.recording.positions import (
    POSITIONS_FILE,
    RecordedPositions,
    read_positions,
    without_positions,
    write_positions,
)
from pipeline.recording.rows import PartKey, PartRows

__all__ = ["LABELS_FILE", "Positions", "RecordingFolder", "part_folder"]

log = logging.getLogger(__name__)

LABELS_FILE = "labels.jsonl"
_STAGING = ".staging"
_LOCK = ".lock"
_BLOCK = 4096
_MOST_LABELS = 100_000
_LABELS_BYTES = 64 * 1024**2

Positions = Mapping[str, int]
"""`topic/partition` to the offset of the next record that is not recorded yet."""
WritePart = Callable[[Path, PartRows], int]


class RecordingFolder:
    """One folder of recordings, written by one process.

    Attributes:
        source: Identity of the log that the positions are in; "" for none.
        positions: See `Positions`.
        deleted_files: Files that the bound on the size has deleted.
    """

    def __init__(
        self,
        path: Path,
        write_part: WritePart,
        *,
        max_bytes: int,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the folder, create it if it is missing, and finish what a kill interrupted.

        Args:
            path: The folder.
            write_part: Writes one file (`pipeline.recording.parquetfile.write_part`).
            max_bytes: Size of all files above which the oldest day is deleted.
            on_step: Told the name of each step of a commit before it, for tests.

        Raises:
            RecordingUnusable: Another process records into it, or its positions are damaged.
            RecordingUnavailable: It cannot be read or written.
        """
        self._path = path
        self._write_part = write_part
        self._max_bytes = max_bytes
        self._on_step = on_step
        self._lock: IO[Any] | None = None
        self.source = ""
        self.positions: dict[str, int] = {}
        self.deleted_files = 0
        self._next_part = 0
        self._moves: dict[str, str] = {}
        self._labels: dict[tuple[Address, str], LabelRecord] = {}
        self._files: dict[str, dict[Path, int]] = {}  # day -> file -> bytes on the disk
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._locked()
            self._read_positions()
            self._read_labels()
            self._finish_moves()
            self._find_files()
        except OSError as exc:
            self.close()
            raise _unavailable(path, exc) from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RecordingFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk of all files of readings."""
        return sum(sum(files.values()) for files in self._files.values())

    @property
    def labels(self) -> int:
        """Number of labels, revoked ones included."""
        return len(self._labels)

    def close(self) -> None:
        """Release the folder; idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def commit(
        self,
        parts: Iterable[PartRows],
        labels: Iterable[LabelRecord],
        source: str,
        positions: Positions,
    ) -> None:
        """Keep rows and labels, and move the positions behind them; all of it or nothing.

        Raises:
            RecordingUnavailable: Nothing has changed; try again.
        """
        staging = self._path / _STAGING
        moves: dict[str, str] = {}
        number = self._next_part
        changed = self._changed(labels)
        merged = self._labels
        try:
            self._finish_moves()  # of a commit whose last step failed
            staging.mkdir(mode=0o700, exist_ok=True)
            for rows in parts:
                self._on_step("stage")
                name = f"part-{number:08d}.parquet"
                moves[name] = str(part_folder(rows.key) / name)
                number += 1
                self._write_part(staging / name, rows)
            sync_folder(staging)
            self._on_step("labels")
            if changed:
                merged = self._write_labels({**self._labels, **changed})
            self._on_step("positions")
            write_positions(self._path, RecordedPositions(source, positions, number, moves))
            sync_folder(self._path)
        except (OSError, RecordingUnavailable) as exc:
            for name in moves:
                with suppress(OSError):
                    (staging / name).unlink(missing_ok=True)
            raise _unavailable(self._path, exc) from exc
        self.source, self.positions, self._next_part = source, dict(positions), number
        self._labels, self._moves = merged, moves
        try:
            self._finish_moves()
            self._keep_bound()
        except OSError as exc:
            # Committed: the next commit or the next start moves the files.
            log.warning("recordings: %s", _unavailable(self._path, exc))

    def finish(self) -> None:
        """Give the files of a commit whose last step failed their names, before the folder is left.

        Raises:
            RecordingUnavailable: Files are still without their names. They are recorded, and the
                next start tries again.
        """
        try:
            self._finish_moves()
        except OSError as exc:
            staging = self._path / _STAGING
            message = (
                f"{len(list(staging.iterdir()))} files of readings are recorded, but wait in "
                f"{staging} for their names ({error_text(exc)}): move away what is in their way, "
                "and run the command again"
            )
            raise RecordingUnavailable(message) from exc

    # -- opening ----------------------------------------------------------------------------

    def _locked(self) -> IO[Any]:
        lock = os.fdopen(open_regular(self._path / _LOCK, os.O_RDWR | os.O_CREAT), "r+b")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.close()
            message = f"another process records into {self._path}: stop it, or use another folder"
            raise RecordingUnusable(message) from exc
        return lock

    def _read_positions(self) -> None:
        found = read_positions(self._path)
        if found is None:
            self._check_is_new()
            return
        self.source, self.positions = found.source, dict(found.positions)
        self._next_part, self._moves = found.next_part, dict(found.moves)

    def _check_is_new(self) -> None:
        if next(self._path.glob("*/*/part-*.parquet"), None) is not None:
            reason = f"{self._path} has files of readings, but no {POSITIONS_FILE}"
            raise without_positions(self._path, reason)

    def _read_labels(self) -> None:
        try:
            lines = read_regular(self._path / LABELS_FILE, _LABELS_BYTES).splitlines()
        except FileNotFoundError:
            return
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(decode_label_record(line))
            except RefusedMessage as exc:
                message = (
                    f"line {number} of {self._path / LABELS_FILE} is damaged ({exc.detail}): mend "
                    "or remove the line"
                )
                raise RecordingUnusable(message) from exc
        self._labels = current_labels(records)

    def _find_files(self) -> None:
        for file in self._path.glob("*/*/part-*.parquet"):
            self._note_file(file)

    # -- the steps of a commit --------------------------------------------------------------

    def _changed(self, labels: Iterable[LabelRecord]) -> dict[tuple[Address, str], LabelRecord]:
        changed = {}
        for name, record in current_labels(labels).items():
            known = self._labels.get(name)
            if known is None or (later_of(known, record) != known):
                changed[name] = record
        return changed

    def _write_labels(
        self, labels: dict[tuple[Address, str], LabelRecord]
    ) -> dict[tuple[Address, str], LabelRecord]:
        """Replace the file of labels; returns those that it has."""
        records = sorted(labels.values(), key=lambda record: (record.recv_ms, record.label.id))
        for record in records[: max(0, len(records) - _MOST_LABELS)]:
            log.warning(
                "recordings: more than %d labels; label %s of %s, the oldest, is dropped",
                _MOST_LABELS,
                record.label.id,
                "/".join(record.address),
            )
            del labels[record.address, record.label.id]
        lines = [encode_label_record(record) for record in records[-_MOST_LABELS:]]
        replace_file(self._path / LABELS_FILE, b"".join(line + b"\n" for line in lines))
        sync_folder(self._path)
        return labels

    def _finish_moves(self) -> None:
        """Move the committed files to their names, and delete the other staged ones."""
        staging = self._path / _STAGING
        folders = set()
        for name, place in self._moves.items():
            final = self._path / place
            if (staging / name).exists():
                self._on_step("move")
                final.parent.mkdir(parents=True, exist_ok=True)
                (staging / name).replace(final)
                folders.add(final.parent)
                self._note_file(final)
        for folder in folders:
            sync_folder(folder)
            sync_folder(folder.parent)
        if folders:
            sync_folder(self._path)
        self._moves = {}
        if staging.exists():
            for left in staging.iterdir():
                left.unlink()

    # -- the bound --------------------------------------------------------------------------

    def _note_file(self, file: Path) -> None:
        size = -(-file.stat().st_size // _BLOCK) * _BLOCK
        self._files.setdefault(file.parent.name, {})[file] = size

    def _keep_bound(self) -> None:
        """Delete the oldest day while the files are too large; of the only day, its oldest."""
        while self.size_bytes > self._max_bytes and self._files:
            day = min(self._files)
            files = self._files[day]
            gone = sorted(files, key=lambda file: file.name)
            if len(self._files) == 1:
                gone = gone[: max(1, len(gone) // 10)]
            size = sum(files[file] for file in gone)
            for file in gone:
                self._on_step("delete")
                file.unlink(missing_ok=True)
                del files[file]
                for folder in (file.parent, file.parent.parent):
                    with suppress(OSError):  # not empty
                        folder.rmdir()
            if not files:
                del self._files[day]
            self.deleted_files += len(gone)
            log.warning(
                "recordings in %s reached %d MB (KPSTREAM_RECORD_MAX_MB): %s of %s are deleted, "
                "%d files, %.1f MB",
                self._path,
                self._max_bytes // 1_000_000,
                "the oldest readings" if files else "the readings",
                day,
                len(gone),
                size / 1e6,
            )


def part_folder(key: PartKey) -> Path:
    """Return the folder of a file, below that of the recordings.

    A stream may be called like the file of labels; no name begins with a minus sign.

    >>> str(part_folder(PartKey("engine", "2026-11-29", ("T24",))))
    'engine/2026-11-29'
    >>> str(part_folder(PartKey("labels.jsonl", "2026-11-29", ("T24",))))
    '-labels.jsonl/2026-11-29'
    """
    stream = f"-{key.stream}" if key.stream == LABELS_FILE else key.stream
    return Path(stream) / key.day


def _unavailable(path: Path, exc: Exception) -> RecordingUnavailable:
    text = error_text(exc)
    free = ""
    with suppress(OSError):
        free = f", {shutil.disk_usage(path).free / 1e6:,.0f} MB free"
    return RecordingUnavailable(f"cannot record into {path}: {text}{free}")

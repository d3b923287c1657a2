"""Check of the content of a log: its pages, and the number of records of each partition.

A small file is checked before it is opened, a large one in the background, because that takes
minutes on a slow disk. Both raise the same errors: what refuses the start of a small log ends the
confirmations of a large one. Nothing that a reader did meanwhile is lost unnoticed, because readers
check each record and never step over one that is missing (`pipeline.log.reader`). Whether every
record is intact is not part of it, because that takes longer; `kpstream doctor` asks for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from pipeline.errors import LogCorrupt, LogError
from pipeline.log.file import FILE_ERRORS, connect, damaged_log, file_error, within
from pipeline.log.reader import peek_log
from pipeline.log.tables import FORMAT

__all__ = ["ContentCheck", "check_counts", "check_pages", "check_records"]

log = logging.getLogger(__name__)

_RECORDS = (
    "SELECT records, (SELECT count(*) FROM records WHERE id >= ?1 << 40 AND id < ?1 + 1 << 40)"
    " FROM slots WHERE slot = ?1"
)
_TOTALS = "SELECT (SELECT ifnull(sum(records), 0) FROM slots), (SELECT count(*) FROM records)"


class ContentCheck:
    """Checks the content of an open log in a thread of its own.

    Damage counts at once. A file that cannot be read for another reason is tried again, because
    that may pass.

    Args:
        path: The log.
        fail: Called with the error, if there is one.
        pauses_s: Seconds before each further try, after an error that is no damage.
    """

    def __init__(
        self,
        path: Path,
        fail: Callable[[LogError], None],
        pauses_s: Sequence[float] = (1.0, 10.0, 60.0),
    ) -> None:
        self._path = path
        self._fail = fail
        self._pauses_s = pauses_s
        self._thread = threading.Thread(target=self._run, name="log-check", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the check has not ended yet."""
        return self._thread.is_alive()

    def _run(self) -> None:
        error = self._find()
        for pause_s in self._pauses_s:
            if error is None or isinstance(error, LogCorrupt):
                break
            log.warning("cannot check the log, next try in %g s: %s", pause_s, error)
            time.sleep(pause_s)
            error = self._find()
        if error is not None:
            log.error("%s", error)
            self._fail(error)

    def _find(self) -> LogError | None:
        try:
            check_pages(self._path)
            check_counts(self._path)
        except LogError as exc:
            return exc
        return None


def check_pages(path: Path) -> None:
    """Check the file for damaged pages (``PRAGMA quick_check``); reads the whole file.

    Raises:
        LogCorrupt: A page is damaged, or the check does not end; the message has the first finding
            and what to do.
        LogError: The file cannot be read for another reason, see `pipeline.log.file.file_error`.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db, within(db, path):
            (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if finding != "ok":
        raise damaged_log(path, finding)


def check_counts(path: Path) -> None:
    """Check that every partition has as many records as its row says, and none is outside.

    Pages that were only partly copied from a write-ahead file that is gone differ here, and so does
    a record whose damaged number is that of another partition. Each query sees one moment, so a
    writer may be at work. A log of the old format has no numbers to rely on and passes.

    Raises:
        LogCorrupt: The numbers differ, or counting does not end.
        LogError: The file cannot be read for another reason, see `pipeline.log.file.file_error`.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db, within(db, path):
            if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                return
            for slot, topic, partition in db.execute(
                "SELECT slot, topic, partition FROM slots"
            ).fetchall():
                records, found = db.execute(_RECORDS, (slot,)).fetchone()
                if found != records:
                    raise damaged_log(
                        path,
                        f"{topic}[{partition}] has {found} records and should have {records}",
                    )
            total, found = db.execute(_TOTALS).fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if found != total:
        raise damaged_log(path, f"{found - total} records belong to no partition")


def check_records(path: Path) -> None:
    """Check every record against its checksum; reads the whole file, also beside a gateway.

    Raises:
        LogCorrupt: A record does not match its checksum.
        LogError: The file cannot be read for another reason, see `pipeline.log.file.file_error`.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db, within(db, path):
            topics = [row[0] for row in db.execute("SELECT name FROM topics")]
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    for topic in topics:
        for _ in peek_log(path, topic):
            pass

"""The first page of a log, made anew when its header or its stored schema is damaged.

SQLite finds every table through this page, and one flipped bit there may hide all of them. Yet the
page has nothing that only this log knows: the tables of a format are always the same, and SQLite
keeps their first pages together at the beginning of a file, in the order of their creation. So the
page of an empty log fits, and the rows of the log prove which one.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingest.durable.wal import HEADER, frames_of, read_wal, wal_path
from pipeline.errors import LogCorrupt, LogError
from pipeline.log.file import FILE_ERRORS, PAGE_BYTES, connect, file_error
from pipeline.log.state import is_topic_row
from pipeline.log.tables import (
    FORMAT,
    check_format,
    check_page_count,
    check_schema,
    create_old_tables,
    create_tables,
    read_identity,
    topic_crc,
    upgrade_tables,
)

__all__ = ["readable_log", "remove_log"]

_PAGES_AT = 28  # of the header: pages of the file, then the first free page and their number


@contextmanager
def readable_log(path: Path) -> Iterator[Path]:
    """Lend a log whose tables can be found: the log itself, or a copy with another first page.

    The copy is removed at the end; it needs as much room on the disk as the log. If no first page
    fits, the log itself is lent, and reading it tells what is wrong.

    Args:
        path: The log; its write-ahead file is mended (`ingest.durable.walrepair`).

    Raises:
        LogError: The file belongs to another program or a newer version, or cannot be read.
    """
    if _is_sound(path):
        yield path
        return
    copy, empty = (path.with_name(path.name + end) for end in (".readable", ".empty"))
    try:
        try:
            remove_log(copy)
            _copy_pages(path, copy)
            fits = _is_sound(copy) or any(_fits(copy, page) for page in _first_pages(empty))
        except OSError as exc:
            raise file_error(path, exc) from exc
        yield copy if fits else path
    finally:
        remove_log(copy)
        remove_log(empty)


def remove_log(path: Path) -> None:
    """Remove a log with its write-ahead file, if it is there."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _is_sound(path: Path) -> bool:
    """Whether header and stored schema are those of a log.

    Raises:
        LogError: The file belongs to another program or a newer version, or cannot be read.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db:
            check_schema(db, path, check_format(db, path))
            check_page_count(db, path, read_wal(path))
    except LogCorrupt:
        return False
    return True


def _copy_pages(path: Path, copy: Path) -> None:
    """Copy the file with the committed pages of its write-ahead file, as a checkpoint does."""
    shutil.copyfile(path, copy)
    count = read_wal(path).valid_frames
    if not count:
        return
    with wal_path(path).open("rb") as wal, copy.open("r+b") as file:
        page_bytes = HEADER.unpack(wal.read(HEADER.size))[2]
        uncommitted: dict[int, bytes] = {}
        for _, frame in zip(range(count), frames_of(wal, page_bytes), strict=False):
            uncommitted[frame.head[0]] = frame.page
            if frame.head[1]:
                for number, page in uncommitted.items():
                    file.seek((number - 1) * page_bytes)
                    file.write(page)
                file.truncate(frame.head[1] * page_bytes)
                uncommitted.clear()


def _first_pages(empty: Path) -> Iterator[bytes]:
    """The first page of an empty log: made by this version, upgraded, compacted, and old."""
    for has_upgrade, has_vacuum in ((False, False), (True, False), (True, True), (None, False)):
        remove_log(empty)
        with closing(connect(empty, durability="full")) as db:
            if has_upgrade is False:
                create_tables(db, empty)
            else:
                create_old_tables(db)
                if has_upgrade:
                    upgrade_tables(db)
            if has_vacuum:
                db.execute("VACUUM")
        with empty.open("rb") as file:
            yield file.read(PAGE_BYTES)


def _fits(copy: Path, page: bytes) -> bool:
    """Put a first page into the copy; returns whether the rows of the log can be read with it."""
    pages = copy.stat().st_size // PAGE_BYTES
    page = page[:_PAGES_AT] + pages.to_bytes(4, "big") + bytes(8) + page[_PAGES_AT + 12 :]
    with copy.open("r+b") as file:
        file.write(page)
    try:
        with closing(connect(copy, durability="full", read_only=True)) as db:
            version = check_format(db, copy)
            check_schema(db, copy, version)
            return _has_own_rows(db, version)
    except (LogError, *FILE_ERRORS):
        return False


def _has_own_rows(db: sqlite3.Connection, version: int) -> bool:
    """Whether identity, topics and records are where the first page says they are.

    Raises:
        sqlite3.Error: They are not.
    """
    slots = db.execute("SELECT topic, records FROM slots").fetchall()
    names = {name for name, _ in slots}
    if any(records for _, records in slots):
        if db.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None:
            return False
    topics = db.execute("SELECT * FROM topics").fetchall()
    if version == FORMAT:
        read_identity(db)
        return not names or any(
            is_topic_row(name, *settings) and topic_crc(name, partitions, *settings) == crc
            for name, partitions, *settings, crc in topics
        )
    return names == {row[0] for row in topics}

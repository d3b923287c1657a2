"""A reader of dead letters, from the log file of a gateway or from the Kafka of a site."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from deploy.commands.backfill import Progress
from deploy.commands.sitelog import fetch_records
from deploy.settings.settings import SiteSettings
from deploy.stack.topics import changelog_topic
from ingest.deadletter import DeadLetter, decode_dead_letter
from ingest.errors import IngestError, RefusedMessage
from ingest.topics import DEAD_LETTERS
from pipeline.errors import LogError, SnapshotError
from pipeline.log.reader import peek_log
from pipeline.windows.rows import decode_row

__all__ = [
    "DeadLetters",
    "read_dead_letters",
    "read_progress",
    "read_site_dead_letters",
    "read_site_progress",
]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters in a log.

    Attributes:
        dead_letters: One dead letter per id, in the order of the first refusal.
        times: Id to number of refusals; a redelivery counts again.
        unreadable: Records of the topic that are not dead letters.
    """

    dead_letters: list[DeadLetter]
    times: dict[str, int]
    unreadable: int


def read_dead_letters(log_path: Path, topic: str = DEAD_LETTERS) -> DeadLetters:
    """Read the dead letters (or late readings) from a log file; the gateway may be running.

    Raises:
        click.ClickException: The log does not exist or cannot be read.
    """
    try:
        return _group_by_id(record.value for record in peek_log(log_path, topic))
    except FileNotFoundError as exc:
        msg = f"no log at {log_path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(msg) from exc
    except LogError as exc:
        raise click.ClickException(str(exc)) from exc


def read_site_dead_letters(site: SiteSettings, topic: str = DEAD_LETTERS) -> DeadLetters:
    """Read the dead letters (or late readings) from the Kafka of a site.

    Raises:
        click.ClickException: Kafka does not answer, or a TLS file is unusable.
    """
    try:
        return _group_by_id(value for _, value in asyncio.run(fetch_records(site, topic)))
    except IngestError as exc:
        raise click.ClickException(str(exc)) from exc


def read_progress(log_path: Path, app_id: str) -> Progress:
    """Read how far each device has come from the window state in a log file.

    Raises:
        click.ClickException: The log does not exist or cannot be read.
    """
    try:
        records = peek_log(log_path, changelog_topic(app_id))
        return _progress((record.key or b"", record.value) for record in records)
    except (FileNotFoundError, LogError) as exc:
        raise click.ClickException(str(exc)) from exc


def read_site_progress(site: SiteSettings, app_id: str) -> Progress:
    """Read how far each device has come from the window state in Kafka.

    Raises:
        click.ClickException: Kafka does not answer, or a TLS file is unusable.
    """
    try:
        return _progress(asyncio.run(fetch_records(site, changelog_topic(app_id))))
    except IngestError as exc:
        raise click.ClickException(str(exc)) from exc


def _progress(rows: Iterable[tuple[bytes, bytes | None]]) -> Progress:
    found: dict[tuple[str, str, str], int] = {}
    for key, value in rows:
        name = key.partition(b"#")[0].decode("utf-8", "replace").split("/")
        if value is None or len(name) != 3:
            continue
        site, device, stream = name
        with suppress(SnapshotError):
            newest_ms = decode_row(name, value).last_event_ms
            found[site, device, stream] = max(newest_ms, found.get((site, device, stream), 0))
    return found


def _group_by_id(values: Iterable[bytes | None]) -> DeadLetters:
    first: dict[str, DeadLetter] = {}
    times: dict[str, int] = {}
    unreadable = 0
    for value in values:
        if value is None:
            continue
        try:
            letter = decode_dead_letter(value)
        except RefusedMessage:
            unreadable += 1
            continue
        known = letter.id
        first.setdefault(known, letter)
        times[known] = times.get(known, 0) + 1
    dead_letters = sorted(first.values(), key=lambda dead_letter: dead_letter.recv_ms)
    return DeadLetters(dead_letters, times, unreadable)

"""Where dead letters are read: in a gateway's log file, or in the Kafka of a site."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from deploy.settings.settings import SiteSettings
from deploy.stack.tlsconfig import kafka_tls
from ingest.deadletter import DeadLetter, decode_dead_letter
from ingest.errors import IngestError, RefusedMessage
from ingest.topics import DEAD_LETTERS
from pipeline.errors import LogError
from pipeline.log.reader import peek_log

__all__ = ["ReadLetters", "read_letters", "read_site_letters"]


@dataclass(frozen=True, slots=True)
class ReadLetters:
    """What a log holds of dead letters.

    Attributes:
        letters: One per id, in the order in which they were refused first.
        times: id -> how often it was refused (a redelivery counts again).
        unreadable: Records of the topic that are no dead letters.
    """

    letters: list[DeadLetter]
    times: dict[str, int]
    unreadable: int


def read_letters(log_path: Path) -> ReadLetters:
    """Read the dead letters from the log file, whether a gateway runs or not.

    Raises:
        click.ClickException: There is no log, or it cannot be read.
    """
    try:
        return _sorted(record.value for record in peek_log(log_path, DEAD_LETTERS))
    except FileNotFoundError as exc:
        msg = f"no log at {log_path}: no gateway has run with this state folder (--state-dir)"
        raise click.ClickException(msg) from exc
    except LogError as exc:
        raise click.ClickException(str(exc)) from exc


def read_site_letters(site: SiteSettings) -> ReadLetters:
    """Read the dead letters from a site's Kafka.

    Raises:
        click.ClickException: Kafka does not answer, or a file for TLS can't be used.
    """
    try:
        return _sorted(asyncio.run(_fetch(site)))
    except IngestError as exc:
        raise click.ClickException(str(exc)) from exc


async def _fetch(site: SiteSettings) -> list[bytes | None]:
    from ingest.kafka import KafkaEndpoint, KafkaProbe, read_until

    endpoint = KafkaEndpoint(site.kafka, kafka_tls(site, as_operator=True))
    probe = KafkaProbe(endpoint)
    try:
        first = await probe.first_offsets(DEAD_LETTERS, range(site.partitions))
        end = await probe.end_offsets(DEAD_LETTERS, range(site.partitions))
    finally:
        await probe.close()
    last = {partition: end[partition] - 1 for partition in end if end[partition] > first[partition]}
    values: list[bytes | None] = []
    if last:
        async for records in read_until(endpoint, DEAD_LETTERS, last):
            values += [value for _, _, value in records]
    return values


def _sorted(values: Iterable[bytes | None]) -> ReadLetters:
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
    letters = sorted(first.values(), key=lambda letter: letter.recv_ms)
    return ReadLetters(letters, times, unreadable)

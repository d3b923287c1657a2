"""A reader of dead letters, from the log file of a gateway or from the Kafka of a site."""

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

__all__ = ["DeadLetters", "read_dead_letters", "read_site_dead_letters"]


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


def read_dead_letters(log_path: Path) -> DeadLetters:
    """Read the dead letters from a log file; the gateway may be running.

    Raises:
        click.ClickException: The log does not exist or cannot be read.
    """
    try:
        return _group_by_id(record.value for record in peek_log(log_path, DEAD_LETTERS))
    except FileNotFoundError as exc:
        msg = f"no log at {log_path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(msg) from exc
    except LogError as exc:
        raise click.ClickException(str(exc)) from exc


def read_site_dead_letters(site: SiteSettings) -> DeadLetters:
    """Read the dead letters from the Kafka of a site.

    Raises:
        click.ClickException: Kafka does not answer, or a TLS file is unusable.
    """
    try:
        return _group_by_id(asyncio.run(_fetch(site)))
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

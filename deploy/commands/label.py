"""``kpstream label``: says over MQTT what happened to a device, and lists what was said."""

from __future__ import annotations

import asyncio
import getpass
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from deploy.commands.eventtime import TIME_HELP, epoch_ms
from deploy.commands.labelfile import WHOM, read_spans
from deploy.commands.labelsend import send_labels
from deploy.settings.brokeraddress import broker_settings
from deploy.settings.errors import exit_on_invalid_settings
from ingest.clock import now_ms
from ingest.errors import IngestError, RefusedMessage
from ingest.labels import (
    ExampleFor,
    Label,
    LabelKind,
    LabelRecord,
    current_labels,
    decode_label,
    decode_label_record,
    encode_label,
    encode_label_record,
)
from ingest.settings import IngestSettings
from ingest.topics import LABELS, Address, parse_topic
from pipeline.explain.scores import utc

__all__ = ["label"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_MOST_SHOWN = 50
"""Bad lines of a file that are shown."""


@click.group()
def label() -> None:
    """Say what happened to a device, so that a student can learn from it.

    DEVICE is SITE/DEVICE/STREAM. A label is published over MQTT and acknowledged by the broker; the
    bridge writes it to the log. See docs/labels.md.
    """


def _giving(command: _Command) -> _Command:
    """The options of every command that gives a label."""
    options = (
        click.argument("device"),
        click.option("--by", help="Who says so; default: your user name."),
        click.option(
            "--id", "label_id", help="Id of the label, to correct it; default: a new one."
        ),
        click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: of the settings."),
    )
    for option in options:
        command = option(command)
    return command


_at = click.option("--at", metavar="TIME", help=f"When: {TIME_HELP}; default: now.")
_note = click.option(
    "--note", default="", help="What failed, or was replaced; up to 80 characters."
)


@label.command("failed")
@_at
@_note
@_giving
def failed_command(at: str | None, note: str, **given: Any) -> None:
    """Say that DEVICE failed."""
    _give("failed", (at, None, None), note, **given)


@label.command("replaced")
@_at
@_note
@_giving
def replaced_command(at: str | None, note: str, **given: Any) -> None:
    """Say that DEVICE, or the part of it that wears, was replaced."""
    _give("replaced", (at, None, None), note, **given)


@label.command("span")
@click.option("--from", "since", metavar="TIME", required=True, help=f"Beginning: {TIME_HELP}.")
@click.option("--to", "until", metavar="TIME", required=True, help="End, which is not part of it.")
@click.option("--name", required=True, help="What it did, such as `climbing`.")
@click.option(
    "--example",
    type=click.Choice(["device", "all"]),
    help="From now on, call windows like these so: of DEVICE, or of all devices of the stream.",
)
@_giving
def span_command(
    since: str, until: str, name: str, example: Literal["device", "all"] | None, **given: Any
) -> None:
    """Say what DEVICE did from one time to another."""
    _give("span", (None, since, until), name, WHOM[example or ""], **given)


@label.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--example",
    type=click.Choice(["device", "all"]),
    help="From now on, call windows like these so: of their device, or of all devices of the "
    "stream.",
)
@click.option("--dry-run", is_flag=True, help="Only check the file.")
@click.option("--by", help="Who says so; default: your user name.")
@click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: of the settings.")
def import_command(
    file: Path, example: str | None, dry_run: bool, by: str | None, mqtt: str | None
) -> None:
    """Give the spans in FILE: CSV with a header, or JSON lines.

    Columns are device (SITE/DEVICE/STREAM, or site, device and stream), from, to and activity; id,
    by and example may be there. If one line is wrong, nothing is published. The same file again
    gives the same labels, so nothing counts twice.
    """
    settings = _settings(mqtt)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            found = read_spans(
                lines,
                by=_by(by),
                example=example or "",
                now_ms=now_ms(),
                future_ms=settings.future_ms,
            )
    except UnicodeDecodeError as exc:
        msg = f"{file} is no text in UTF-8: {exc.reason} at byte {exc.start}"
        raise click.ClickException(msg) from exc
    for fault in found.faults[:_MOST_SHOWN]:
        click.echo(f"{file}:{fault.line}: {fault.why}", err=True)
    if found.faults:
        more = len(found.faults) - _MOST_SHOWN
        also = f" ({more} more are not shown)" if more > 0 else ""
        msg = f"lines that are no labels: {len(found.faults)}{also}. Nothing was published"
        raise click.ClickException(msg)
    count = len(found.labels)
    if found.repeated:
        click.echo(f"lines that repeat an earlier one: {found.repeated}")
    if dry_run or not count:
        click.echo(f"{file}: labels {count}, all right; nothing was published")
        return
    confirmed, problem = asyncio.run(send_labels(settings, found.labels))
    if problem:
        msg = (
            f"{problem}. {confirmed} of {count} labels are confirmed: give the file again, and "
            "those that have arrived count once"
        )
        raise click.ClickException(msg)
    click.echo(f"{file}: labels published and confirmed: {count}")


def _of_scores(command: _Command) -> _Command:
    for option in (
        click.option("--to", "until", metavar="TIME", help="End of the span, instead of --at."),
        click.option("--from", "since", metavar="TIME", help="Beginning of a span of scores."),
        click.option("--at", metavar="TIME", help=f"Time of the score: {TIME_HELP}; default: now."),
    ):
        command = option(command)
    return command


@label.command("confirmed")
@_of_scores
@_giving
def confirmed_command(at: str | None, since: str | None, until: str | None, **given: Any) -> None:
    """Say that the scores of DEVICE at a time, or over a span, are right."""
    _give("confirmed", (at, since, until), "", **given)


@label.command("wrong")
@_of_scores
@click.option("--right", default="", help="What would be right, if you know it.")
@_giving
def wrong_command(
    at: str | None, since: str | None, until: str | None, right: str, **given: Any
) -> None:
    """Say that the scores of DEVICE at a time, or over a span, are wrong."""
    _give("wrong", (at, since, until), right, **given)


def _reading(command: _Command) -> _Command:
    """The options of the commands that read the log."""
    for option in (
        click.option(
            "--state-dir",
            type=click.Path(path_type=Path),
            help="State folder; default: of the settings.",
        ),
        click.option("--kafka", is_flag=True, help="Read the Kafka of the site in the settings."),
    ):
        command = option(command)
    return command


@label.command("revoke")
@click.argument("device")
@click.argument("label_id", metavar="ID")
@click.option("--by", help="Who says so; default: your user name.")
@click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: of the settings.")
@_reading
def revoke_command(
    device: str,
    label_id: str,
    by: str | None,
    mqtt: str | None,
    kafka: bool,
    state_dir: Path | None,
) -> None:
    """Revoke the label ID of DEVICE, for good.

    The label is looked up in the log of the gateway or of the site.
    """
    settings, who = _settings(mqtt), _by(by)
    address = _address(device)
    found = current_labels(_read(kafka, state_dir)).get((address, label_id))
    if found is None:
        msg = (
            f"the log has no label {label_id!r} of {device}: see `kpstream label list`. Elsewhere, "
            "publish the label again with revoked: true (docs/labels.md)"
        )
        raise click.ClickException(msg)
    if found.label.revoked:
        click.echo(f"label {label_id} of {device} is revoked already")
        return
    _publish(settings, address, replace(found.label, revoked=True, by=who))


@label.command("list")
@click.argument("device", required=False)
@click.option("--revoked", "with_revoked", is_flag=True, help="With those that were revoked.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@_reading
def list_command(
    device: str | None, with_revoked: bool, as_json: bool, kafka: bool, state_dir: Path | None
) -> None:
    """List the labels in the log, of one DEVICE or of all, oldest first."""
    records = current_labels(_read(kafka, state_dir)).values()
    address = None if device is None else _address(device)
    chosen = [
        record
        for record in sorted(records, key=lambda record: record.label.from_ms)
        if (with_revoked or not record.label.revoked) and address in (None, record.address)
    ]
    for record in chosen:
        click.echo(encode_label_record(record) if as_json else _line(record))
    if not as_json:
        click.echo({0: "no labels", 1: "1 label"}.get(len(chosen), f"{len(chosen)} labels"))


def _give(
    kind: LabelKind,
    times: tuple[str | None, str | None, str | None],
    text: str,
    example: ExampleFor = "",
    *,
    device: str,
    by: str | None,
    label_id: str | None,
    mqtt: str | None,
) -> None:
    """Check a label like the bridge does, and publish it."""
    settings = _settings(mqtt)
    address = _address(device)
    at, since, until = times
    if (since is None) != (until is None) or (at is not None and since is not None):
        msg = "give --at, or --from and --to"
        raise click.UsageError(msg)
    if since is not None and until is not None:
        from_ms, to_ms = epoch_ms(since, "--from"), epoch_ms(until, "--to")
        if from_ms >= to_ms:
            msg = f"--from {since} is not before --to {until}"
            raise click.UsageError(msg)
    else:
        from_ms = to_ms = now_ms() if at is None else epoch_ms(at, "--at")
    known = label_id or f"{kind}-{secrets.token_hex(4)}"
    given = Label(known, kind, from_ms, to_ms, text, by=_by(by), example=example)
    try:
        decode_label(encode_label(given)).check_past(now_ms(), settings.future_ms)
    except RefusedMessage as exc:
        raise click.UsageError(exc.detail) from exc
    _publish(settings, address, given)


def _publish(settings: IngestSettings, address: Address, given: Label) -> None:
    what = "revoked" if given.revoked else _what(given)
    _, problem = asyncio.run(send_labels(settings, [(address, given)]))
    if problem:
        msg = (
            f"{problem}. Give it again with --id {given.id}, so that it counts once even if it has "
            "arrived"
        )
        raise click.ClickException(msg)
    click.echo(f"{'/'.join(address)}: {what} (label {given.id})")


def _read(kafka: bool, state_dir: Path | None) -> Iterable[LabelRecord]:
    """The records of labels in a log; those that are no labels are left out.

    Raises:
        click.ClickException: The log cannot be read.
    """
    from deploy.settings.settings import GatewaySettings, SiteSettings
    from pipeline.errors import LogError
    from pipeline.log.reader import peek_log

    values: list[bytes | None]
    if kafka:
        from deploy.commands.sitelog import fetch_records

        with exit_on_invalid_settings():
            site = SiteSettings()
        try:
            values = [value for _, value in asyncio.run(fetch_records(site, LABELS))]
        except IngestError as exc:
            raise click.ClickException(str(exc)) from exc
    else:
        with exit_on_invalid_settings():
            gateway = (
                GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
            )
        try:
            values = [record.value for record in peek_log(gateway.log_path, LABELS)]
        except FileNotFoundError as exc:
            msg = f"no log at {gateway.log_path}: no gateway has used this folder; see --state-dir"
            raise click.ClickException(msg) from exc
        except LogError as exc:
            raise click.ClickException(str(exc)) from exc
    found = []
    for value in values:
        try:
            found.append(decode_label_record(value or b""))
        except RefusedMessage as exc:
            click.echo(f"left out: {exc.detail}", err=True)
    return found


def _settings(mqtt: str | None) -> IngestSettings:
    with exit_on_invalid_settings():
        settings = IngestSettings(**broker_settings(mqtt))  # type: ignore[arg-type]
    if not settings.labels_prefix:
        msg = "the bridge takes no labels: KPSTREAM_INGEST_LABELS_PREFIX is empty"
        raise click.ClickException(msg)
    return settings


def _address(device: str) -> Address:
    try:
        return parse_topic(f"{LABELS}/{device}", LABELS)
    except RefusedMessage as exc:
        msg = f"{device!r} is not SITE/DEVICE/STREAM, such as plant-7/press-2/engine"
        raise click.UsageError(msg) from exc


def _by(by: str | None) -> str:
    if by is not None:
        if not _is_unicode(by):
            msg = f"--by {by!r:.80} is no UTF-8: set the terminal to UTF-8"
            raise click.UsageError(msg)
        return by
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return ""
    return user if _is_unicode(user) else ""


def _is_unicode(text: str) -> bool:
    """Whether it is text, and not bytes of another encoding that Python has passed on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(record: LabelRecord) -> str:
    label = record.label
    by = f", by {label.by}" if label.by else ""
    revoked = ", revoked" if label.revoked else ""
    return f"{'/'.join(record.address)}: {_what(label)} (label {label.id}{by}{revoked})"


def _what(label: Label) -> str:
    """A label in words."""
    if label.from_ms == label.to_ms:
        when = f"at {utc(label.from_ms)}"
    else:
        when = f"from {utc(label.from_ms)} to {utc(label.to_ms)}"
    if label.kind == "span":
        whom = {"": "", "device": ", an example", "stream": ", an example for all devices"}
        return f"{label.label} {when}{whom[label.example]}"
    text = {"confirmed": "score confirmed", "wrong": "score wrong"}.get(label.kind, label.kind)
    more = f" ({'right: ' if label.kind == 'wrong' else ''}{label.label})" if label.label else ""
    return f"{text} {when}{more}"

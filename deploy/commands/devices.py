"""``kpstream devices``: what people say about devices - an alarm is known, or one is out of use."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deploy.settings.settings import GatewaySettings
    from pipeline.console.notes import NoteKind

__all__ = ["devices"]

_STATE_DIR = click.option(
    "--state-dir", type=click.Path(path_type=Path), help="State folder of the gateway."
)


@click.group()
def devices() -> None:
    """Acknowledge alarms of devices, and take devices out of use, on the page of this gateway."""


def _of_a_device(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and the options that name one stream of a device."""
    for option in (
        click.argument("device"),
        click.option("--stream", help="Stream of the device; needed if it has several."),
        click.option("--site", help="Site; needed if several have a device of this name."),
        _STATE_DIR,
    ):
        command = option(command)
    return command


_BY = click.option("--by", help="Who says so; default: the user of this shell.")
_TEXT = click.option("--note", "text", default="", help="Why, in a few words.")


@devices.command()
@_of_a_device
@_BY
@_TEXT
def acknowledge(device: str, by: str | None, text: str, **where: Any) -> None:
    """Say that somebody looks after DEVICE, or SITE/DEVICE/STREAM.

    It then sorts behind the devices that nobody has looked at. This ends by itself when the device
    needs attention no more, or more than it did.
    """
    _put("acknowledged", device, by, text, **where)


@devices.command()
@_of_a_device
@_BY
@_TEXT
def retire(device: str, by: str | None, text: str, **where: Any) -> None:
    """Take DEVICE out of use: the page no longer counts it, and shows it on request only.

    Its scores stay where they are. It is back by itself when it sends again.
    """
    _put("retired", device, by, text, **where)


@devices.command()
@_of_a_device
def restore(device: str, stream: str | None, site: str | None, state_dir: Path | None) -> None:
    """End what was said about DEVICE: acknowledged or retired."""
    from pipeline.console.notes import DeviceNotes

    settings = _settings(state_dir)
    with _errors():
        notes = DeviceNotes(settings.state_dir)
        known = [
            each
            for each in notes.known()
            if _fits(each, device) and stream in (None, each[2]) and site in (None, each[0])
        ]
        if len(known) != 1:
            found = ", ".join("/".join(each) for each in known) or "none"
            message = f"one device with a note has to fit {device!r}, found: {found}"
            raise click.ClickException(message)
        note = notes.remove(known[0])
    if note is not None:
        click.echo(f"{'/'.join(known[0])} is no longer {note.kind}")


@devices.command("list")
@_STATE_DIR
def list_command(state_dir: Path | None) -> None:
    """List the devices that are acknowledged or retired, newest first."""
    from pipeline.console.notes import DeviceNotes
    from pipeline.explain.scores import utc

    settings = _settings(state_dir)
    with _errors():
        known = DeviceNotes(settings.state_dir).known()
    found = sorted(known.items(), key=lambda item: -item[1].at_ms)
    for device, note in found:
        why = f": {note.text}" if note.text else ""
        click.echo(f"{'/'.join(device)}  {note.kind} {utc(note.at_ms)} by {note.by}{why}")
    if not found:
        click.echo("no device is acknowledged or retired")


def _put(
    kind: NoteKind,
    device: str,
    by: str | None,
    text: str,
    *,
    stream: str | None,
    site: str | None,
    state_dir: Path | None,
) -> None:
    from ingest.clock import now_ms
    from ingest.topics import are_names
    from pipeline.console.notes import DeviceNotes, Note
    from pipeline.explain.scores import DeviceStream, find_streams
    from pipeline.settings import PipelineSettings
    from pipeline.stores.resultsfile import ResultsFile

    settings = _settings(state_dir)
    path = PipelineSettings().results_path(settings.state_dir)
    if not path.is_file():
        message = f"no results at {path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(message)
    with _errors():
        whole = tuple(device.split("/"))
        if len(whole) == 3 and are_names(whole):  # which need not have a score
            streams = [DeviceStream(*whole)]
        else:
            results = ResultsFile(path, read_only=True)
            try:
                streams = find_streams(results, device, site=site, stream=stream)
            finally:
                results.close()
        if len(streams) != 1:
            names = ", ".join("/".join(each) for each in streams)
            message = f"{device!r} is one of {names}: say --site or --stream"
            raise click.ClickException(message)
        where = (streams[0].site, streams[0].device, streams[0].stream)
        note = Note(kind, now_ms(), by or getpass.getuser(), text)
        DeviceNotes(settings.state_dir).put(where, note)
    click.echo(f"{'/'.join(where)} is {kind}")


def _fits(device: tuple[str, str, str], text: str) -> bool:
    return text in (device[1], "/".join(device[:2]), "/".join(device))


def _settings(state_dir: Path | None) -> GatewaySettings:
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings

    with exit_on_invalid_settings():
        return GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)


@contextmanager
def _errors() -> Iterator[None]:
    from pipeline.errors import PipelineError

    try:
        yield
    except PipelineError as exc:
        raise click.ClickException(str(exc)) from exc

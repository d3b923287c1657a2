"""``kpstream devices``: what people say about devices - an alarm is known, or one is out of use."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.gatewaydevice import gateway_settings, only_known, showing_errors

if TYPE_CHECKING:
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

    settings = gateway_settings(state_dir)
    with showing_errors():
        notes = DeviceNotes(settings.state_dir)
        where = only_known(notes.known(), "a note", device, site, stream)
        note = notes.remove(where)
    if note is not None:
        click.echo(f"{'/'.join(where)} is no longer {note.kind}")


@devices.command("list")
@_STATE_DIR
def list_command(state_dir: Path | None) -> None:
    """List the devices that are acknowledged or retired, newest first."""
    from pipeline.console.notes import DeviceNotes
    from pipeline.explain.scores import utc

    settings = gateway_settings(state_dir)
    with showing_errors():
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

    settings = gateway_settings(state_dir)
    path = PipelineSettings().results_path(settings.state_dir)
    if not path.is_file():
        message = f"no results at {path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(message)
    with showing_errors():
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

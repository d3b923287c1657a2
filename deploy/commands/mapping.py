"""``kpstream map``: try and draft the mapping files that describe devices as they are.

Messages come from standard input or a file, one a line (`ingest.mapping.recorded` lists the forms),
from the broker, or from the dead letters of a gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from deploy.settings.brokeraddress import device_endpoint
from deploy.settings.errors import exit_on_invalid_settings
from ingest.clock import now_ms

if TYPE_CHECKING:
    from ingest.mapping.compiled import CompiledMapping
    from ingest.mapping.recorded import BadLine, RecordedMessage

__all__ = ["mapping"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_SECONDS = click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    help="Listen to the broker for so many seconds, instead of reading standard input.",
)
_MQTT = click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings.")


@click.group("map")
def mapping() -> None:
    """Try, draft and copy mapping files, which describe devices as they are."""


@mapping.command("list", short_help="List the mapping files that ship with kpstream.")
def list_command() -> None:
    """List the mapping files that ship with kpstream; `kpstream map copy` copies one."""
    from ingest.mapping.ready import about, ready_names

    names = ready_names()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:<{width}}  {about(name)}")


@mapping.command("copy", short_help="Copy a mapping file that ships with kpstream.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def copy_command(name: str, folder: Path) -> None:
    """Copy the mapping file NAME of `kpstream map list` into FOLDER.

    FOLDER is that of KPSTREAM_INGEST_MAPPINGS. An existing file is never overwritten.
    """
    from ingest.errors import MappingInvalid
    from ingest.mapping.ready import ready_path

    try:
        text = ready_path(name).read_text(encoding="utf-8")
    except MappingInvalid as exc:
        raise click.ClickException(str(exc)) from exc
    path = folder / f"{name}.toml"
    _write_new(path, text)
    click.echo(f"{path}: edit site and device names, then: kpstream map try {path}")


@mapping.command("try", short_help="Show what messages become with a mapping file.")
@click.argument("file", type=_FILE)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="FILTER",
    help="Listen to this MQTT filter; repeatable. Default with --seconds: topics of the mapping.",
)
@_SECONDS
@_MQTT
@click.option("--dead-letters", is_flag=True, help="Read the dead letters of the gateway.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="State folder of it.")
@click.option("--registry", type=click.Path(path_type=Path), help="Registry folder of students.")
@click.option(
    "--last", type=click.IntRange(1), default=20, show_default=True, help="Messages to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def try_command(
    file: Path,
    topics: tuple[str, ...],
    seconds: float | None,
    mqtt: str | None,
    dead_letters: bool,
    state_dir: Path | None,
    registry: Path | None,
    last: int,
    as_json: bool,
) -> None:
    """Show what messages become with the mapping FILE; nothing is published or stored.

    Messages come from standard input, one a line: as `mosquitto_sub -v` or `mosquitto_sub -F %j`
    prints them, or as JSON with topic, payload (or payload_base64, payload_hex) and recv_ms. With
    --topic or --seconds they come from the broker, with --dead-letters from the log of a gateway.

    Exit code 1 if a message is refused, or if none becomes a reading.
    """
    from deploy.commands.mapstudents import read_students
    from deploy.commands.maptryview import trial_json, trial_lines
    from ingest.mapping.trial import try_mapping

    compiled = _compiled(file)
    if dead_letters:
        items: Iterable[RecordedMessage | BadLine] = _dead_letters(compiled, state_dir)
    elif topics or seconds:
        items = _heard(topics or compiled.filters, seconds, mqtt)
    else:
        items = _read(click.get_binary_stream("stdin"), compiled)
    trial = try_mapping(compiled, items, now_ms())
    root, future_ms = _gateway(state_dir, registry)
    students, faults = read_students(root)
    for fault in faults:
        click.echo(fault, err=True)
    if as_json:
        import orjson

        found = trial_json(compiled, trial, students)
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    else:
        for line in trial_lines(compiled, trial, students, last, future_ms):
            click.echo(line)
    if trial.refused or not any(stream.readings for stream in trial.streams):
        raise SystemExit(1)


@mapping.command("draft", short_help="Write a first mapping file from messages.")
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@_SECONDS
@_MQTT
@click.option(
    "--messages",
    "source",
    type=click.File("rb"),
    help="Read messages from this file (-: standard input), instead of listening to the broker.",
)
@click.option("--out", type=_FILE, help="Write the draft to this new file, not to the terminal.")
def draft_command(
    filters: tuple[str, ...],
    seconds: float | None,
    mqtt: str | None,
    source: IO[bytes] | None,
    out: Path | None,
) -> None:
    """Write a first mapping file for the messages on the topics of FILTER.

    It listens to the broker for --seconds (30 by default), or reads --messages. The draft reads the
    messages that it was made from; its comments, and the lines after it, say what it could not
    know. An existing file is never overwritten.
    """
    from ingest.mapping.draftplan import NothingToDraft
    from ingest.mapping.drafttext import draft_mapping

    if source is None and not filters:
        msg = "give a topic filter to listen to, such as 'tele/#', or --messages FILE"
        raise click.UsageError(msg)
    messages = _heard(filters, seconds, mqtt) if source is None else _recorded(source, filters)
    try:
        draft = draft_mapping(messages)
    except NothingToDraft as exc:
        raise click.ClickException(str(exc)) from exc
    if out is None:
        click.echo(draft.text, nl=False)
        return
    _write_new(out, draft.text)
    click.echo(f"{out}: reads {len(draft.messages)} of {len(messages)} messages")
    for sentence in draft.unknown:
        click.echo(f"  check: {sentence}")
    click.echo(f"next: kpstream map try {out} --seconds 30")


# -- where messages come from ---------------------------------------------------------------


def _read(stream: IO[bytes], compiled: CompiledMapping) -> Iterable[RecordedMessage | BadLine]:
    from ingest.mapping.recorded import read_recorded

    if stream.isatty():
        msg = (
            "give messages on standard input (mosquitto_sub -v ... | kpstream map try FILE), or "
            "--seconds 30 to listen to the broker, or --dead-letters"
        )
        raise click.UsageError(msg)
    return read_recorded(_lines(stream), lambda topic: compiled.match(topic) is not None)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield lines until the end or Ctrl-C, so that an endless `mosquitto_sub` can be watched."""
    from deploy.commands.maplisten import MOST_MESSAGES

    try:
        yield from islice(stream, MOST_MESSAGES)
        if next(stream, None) is not None:
            click.echo(f"only the first {MOST_MESSAGES} lines are read", err=True)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _recorded(source: IO[bytes], filters: Sequence[str]) -> list[RecordedMessage]:
    """Return the messages of a file on the topics of `filters`, or all of them."""
    from ingest.mapping.recorded import BadLine, read_recorded
    from ingest.topicfilters import takes_topic

    found = []
    for item in read_recorded(_lines(source)):
        if isinstance(item, BadLine):
            click.echo(f"line {item.line}: no message: {item.detail}", err=True)
        elif not filters or any(takes_topic(each, item.topic) for each in filters):
            found.append(item)
    return found


def _heard(
    filters: Sequence[str], seconds: float | None, mqtt: str | None
) -> list[RecordedMessage]:
    from deploy.commands.maplisten import heard

    def say(text: str) -> None:
        click.echo(text, err=True)

    return heard(device_endpoint(mqtt, "map"), filters, seconds or 30.0, say)


def _dead_letters(compiled: CompiledMapping, state_dir: Path | None) -> list[RecordedMessage]:
    """Return the messages of this mapping's topics that the bridge of a gateway has refused."""
    from deploy.commands.dead_letter_reader import read_dead_letters
    from deploy.settings.settings import GatewaySettings
    from ingest.mapping.recorded import RecordedMessage

    with exit_on_invalid_settings():
        settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
    found = []
    cut = 0
    for letter in read_dead_letters(settings.log_path).dead_letters:
        if letter.source != "bridge" or compiled.match(letter.mqtt_topic) is None:
            continue
        if letter.detail.endswith(" bytes kept)"):
            cut += 1
            continue
        found.append(RecordedMessage(letter.mqtt_topic, letter.raw, letter.recv_ms))
    if cut:
        click.echo(f"{cut} dead letters are shortened and left out", err=True)
    return found


# -- files and settings ---------------------------------------------------------------------


def _compiled(file: Path) -> CompiledMapping:
    from ingest.errors import MappingInvalid
    from ingest.mapping.compiled import compile_mapping
    from ingest.mapping.file import read_mapping_file

    try:
        return compile_mapping(read_mapping_file(file))
    except MappingInvalid as exc:
        raise click.ClickException(str(exc)) from exc


def _gateway(state_dir: Path | None, registry: Path | None) -> tuple[Path, int]:
    """Return the registry of the gateway, and how far ahead an event time may be (ms)."""
    from deploy.settings.settings import GatewaySettings
    from ingest.settings import IngestSettings

    with exit_on_invalid_settings():
        settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
        return registry or settings.registry_path, IngestSettings().future_ms


def _write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet, and its folder.

    Raises:
        click.ClickException: It exists, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        msg = f"{path} exists and stays as it is: choose another name, or move it away"
        raise click.ClickException(msg) from exc
    except OSError as exc:
        msg = f"cannot write {path}: {exc.strerror}"
        raise click.ClickException(msg) from exc

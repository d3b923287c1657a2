"""``kpstream dead-letters``: list refused messages, publish them again, delete them.

A running gateway locks its log, but `list` only reads the file and needs no lock. `replay`
publishes messages over MQTT, like any device. A message is accepted if the reason of its refusal no
longer applies, such as a missing model or a wrong clock. Otherwise it is refused again under the
same id, so a replay never duplicates a dead letter. A dead letter of the scoring stage contains
every event time, so its message may be longer than allowed; it is then published in parts.

A message of a mapped device goes through the mapping file as it is now and is published in our own
form (`deploy.commands.remapping`).

A dead letter of a *store* is not a message but a point, as a line of InfluxDB's line protocol. It
is written to InfluxDB again with the settings of the store.

The dead letters of a site are in Kafka (`--site`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import orjson

from deploy.commands.backfill import Lateness, backfilled, find_late
from deploy.commands.dead_letter_reader import (
    DeadLetters,
    read_dead_letters,
    read_progress,
    read_site_dead_letters,
    read_site_progress,
)
from deploy.commands.printable import printable
from deploy.commands.remapping import remapped
from deploy.commands.replayed import note_replayed, read_replayed
from deploy.settings.brokeraddress import device_endpoint
from deploy.settings.errors import exit_on_invalid_settings
from ingest.deadletter import DeadLetter, decode_dead_letter
from ingest.errors import RefusalReason, RefusedMessage
from ingest.mqtt.endpoint import Endpoint
from ingest.patience import Patience
from ingest.payloads import MAX_PAYLOAD_BYTES, encode_payload
from ingest.stopping import EXIT_CODE, stop_on_signals, until_stopped
from ingest.topics import DEAD_LETTERS, LATE
from pipeline.errors import LogError
from pipeline.log.purge import purge

__all__ = ["dead_letters"]


# -- commands -------------------------------------------------------------------------------


def _chosen(command: Any) -> Any:
    """Add the options that both commands share: filters, and where to read."""
    reasons = click.Choice([reason.value for reason in RefusalReason])
    for option in (
        click.option("--device", metavar="SITE/DEVICE", help="Only dead letters of this device."),
        click.option(
            "--reason",
            type=reasons,
            multiple=True,
            help="Only dead letters with this reason; repeatable.",
        ),
        click.option(
            "--state-dir", type=click.Path(path_type=Path), help="State folder of the gateway."
        ),
        click.option("--late", "of_late", is_flag=True, help="The late readings instead."),
        click.option(
            "--site",
            "of_site",
            is_flag=True,
            help="Read from the Kafka of the site in the settings.",
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """List, replay or delete refused messages and late readings."""


@dead_letters.command("list")
@_chosen
@click.option(
    "--last", type=click.IntRange(1), default=50, show_default=True, help="Number to show."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print all of them, one JSON object per line."
)
def list_command(
    state_dir: Path | None,
    of_late: bool,
    of_site: bool,
    reason: tuple[str, ...],
    device: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Show refused messages, newest last, and their number per reason."""
    found = _read(state_dir, of_site, of_late=of_late)
    replayed = read_replayed(_state_dir(state_dir, of_site))
    selected = _filtered(found.dead_letters, reason, device)
    if as_json:
        for dead_letter in selected:
            again = replayed.get(dead_letter.id)
            click.echo(_as_json(dead_letter, found.times[dead_letter.id], again))
        return
    _print_list(selected[-last:], found, replayed)
    if not selected:
        click.echo("no dead letters")
        return
    counts: dict[str, int] = {}
    for dead_letter in selected:
        counts[dead_letter.reason.value] = counts.get(dead_letter.reason.value, 0) + 1
    by_reason = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    shown = f", the last {last} shown" if len(selected) > last else ""
    click.echo(f"{len(selected)} dead letters ({by_reason}){shown}")
    if found.unreadable:
        click.echo(f"{found.unreadable} records of the topic are not dead letters")


@dead_letters.command("replay")
@_chosen
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="ID",
    help="Only this dead letter, by its id or the start of its id; repeatable.",
)
@click.option("--all", "everything", is_flag=True, help="Replay all of them.")
@click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings.")
@click.option("--dry-run", is_flag=True, help="Only print what would be published.")
@click.option(
    "--backfill",
    "as_backfill",
    is_flag=True,
    help="Give old readings windows of their own, under the device name <device>.backfill-<time>.",
)
@click.option("--anyway", is_flag=True, help="Publish readings that will be late, too.")
def replay_command(
    state_dir: Path | None,
    of_late: bool,
    of_site: bool,
    reason: tuple[str, ...],
    device: str | None,
    ids: tuple[str, ...],
    everything: bool,
    mqtt: str | None,
    dry_run: bool,
    as_backfill: bool,
    anyway: bool,
) -> None:
    """Publish refused messages to their topic again; write refused points to InfluxDB again.

    The broker or InfluxDB confirms each of them. Readings that would be late, because their device
    has gone on sending, are named first; choose `--backfill` or `--anyway` for them.
    """
    if not (everything or ids or reason or device):
        msg = "choose dead letters with --id, --reason, --device or --all"
        raise click.UsageError(msg)
    selected = _filtered(_read(state_dir, of_site, of_late=of_late).dead_letters, reason, device)
    if ids:
        selected = [dead_letter for dead_letter in selected if dead_letter.id.startswith(ids)]
    points = [dead_letter for dead_letter in selected if _is_point(dead_letter)]
    fit = [dead_letter for dead_letter in selected if _can_publish(dead_letter)]
    if cut := len(selected) - len(fit) - len(points):
        click.echo(
            f"{cut} cannot be published again: shortened, unreadable, no topic, or Sparkplug "
            "(which is valid only in sequence; its node sends all values in a new birth)"
        )
    fit, replayed_ids = remapped(fit)
    if as_backfill:
        fit, left_out = backfilled(fit)
        if left_out:
            click.echo(f"{left_out} hold no readings that could be windowed, and stay")
    elif late := _would_be_late(fit, state_dir, of_site):
        for each in late:
            click.echo(printable(str(each)))
        if not (anyway or dry_run):
            msg = "late readings are not scored: choose --backfill to score them, or --anyway"
            raise click.UsageError(msg)
    if dry_run or not (fit or points):
        click.echo(f"{len(fit)} would be published" if fit else "nothing to publish")
        if points:
            click.echo(f"{len(points)} points would be written to InfluxDB")
        return
    done = True
    if fit:
        endpoint = device_endpoint(mqtt, "dead-letters")
        confirmed, stopped = asyncio.run(_publish(fit, endpoint))
        where = f"{endpoint.host}:{endpoint.port}"
        stop_text = "stopped: " if stopped else ""
        click.echo(f"{stop_text}{confirmed} of {len(fit)} published again to {where}")
        done = confirmed == len(fit)
        if stopped and not done:
            raise SystemExit(EXIT_CODE)
        if done:
            how = "backfill" if as_backfill else "replay"
            note_replayed(_state_dir(state_dir, of_site), replayed_ids, how)
        for name in sorted({dead_letter.mqtt_topic for dead_letter in fit if as_backfill}):
            click.echo(printable(f"scored as {name}"))
    if points:
        stored = _write(points)
        click.echo(f"{stored} of {len(points)} points written to InfluxDB")
        done = done and stored == len(points)
    click.echo(
        "they stay in the list (column replayed) until `purge`; a new refusal counts under the "
        "same id (column times)"
    )
    if not done:
        raise SystemExit(1)


@dead_letters.command("purge")
@_chosen
@click.option("--replayed", "only_replayed", is_flag=True, help="Only those published again.")
@click.option("--all", "everything", is_flag=True, help="Delete all of them.")
def purge_command(
    state_dir: Path | None,
    of_late: bool,
    of_site: bool,
    reason: tuple[str, ...],
    device: str | None,
    only_replayed: bool,
    everything: bool,
) -> None:
    """Delete dead letters or late readings for good; the gateway must be stopped."""
    if of_site:
        msg = "Kafka deletes them by age (30 days, late readings 7); `purge` is for gateways"
        raise click.UsageError(msg)
    if not (everything or only_replayed or reason or device):
        msg = "choose dead letters with --reason, --device, --replayed or --all"
        raise click.UsageError(msg)
    selected = _filtered(_read(state_dir, of_site, of_late=of_late).dead_letters, reason, device)
    if only_replayed:
        again = read_replayed(_state_dir(state_dir, of_site))
        selected = [dead_letter for dead_letter in selected if dead_letter.id in again]
    ids = {dead_letter.id for dead_letter in selected}
    topic = LATE if of_late else DEAD_LETTERS
    try:
        deleted = purge(_log_path(state_dir), topic, lambda value: _id_of(value) in ids)
    except LogError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{len(ids)} dead letters deleted ({deleted} records)")


def _id_of(value: bytes) -> str:
    try:
        return decode_dead_letter(value).id
    except RefusedMessage:
        return ""


def _would_be_late(fit: list[DeadLetter], state_dir: Path | None, of_site: bool) -> list[Lateness]:
    from deploy.settings.settings import SiteSettings
    from pipeline.settings import PipelineSettings

    if not fit:
        return []
    with exit_on_invalid_settings():
        pipeline = PipelineSettings()
        site = SiteSettings() if of_site else None
    if site is not None:
        progress = read_site_progress(site, pipeline.app_id)
    else:
        progress = read_progress(_log_path(state_dir), pipeline.app_id)
    return find_late(fit, progress, pipeline.lateness_ms)


def _write(selected: list[DeadLetter]) -> int:
    """Write points with the settings of the store; returns how many InfluxDB accepted."""
    from pipeline.errors import SinkError
    from pipeline.settings import PipelineSettings
    from pipeline.stores.influx import InfluxSink, influx_connection

    with exit_on_invalid_settings():
        settings = PipelineSettings()
    if settings.influx_url is None:
        msg = "replaying points needs InfluxDB: set KPSTREAM_PIPELINE_INFLUX_URL and _TOKEN"
        raise click.ClickException(msg)
    lines = [dead_letter.raw.decode() for dead_letter in selected]
    try:
        sink = InfluxSink(influx_connection(settings), settings.influx_bucket)
        try:
            refused = sink.writing(lines)()
        finally:
            sink.close()
    except SinkError as exc:
        raise click.ClickException(str(exc)) from exc
    for line in refused[:10]:
        click.echo(printable(f"refused again, {line.reason}: {line.detail[:300]}"))
    return len(lines) - len(refused)


async def _publish(selected: list[DeadLetter], endpoint: Endpoint) -> tuple[int, bool]:
    """Publish dead letters; returns how many the broker confirmed, and whether a signal ended it.

    Raises:
        click.ClickException: No broker accepts the connection.
    """
    from ingest.errors import MqttError
    from ingest.mqtt.publisher import Publisher

    def say(text: str) -> None:
        click.echo(printable(text))

    further = 0  # messages beyond one per dead letter

    async def send(publisher: Publisher) -> None:
        nonlocal further
        if not await publisher.connection.wait_connected():
            where = f"{endpoint.host}:{endpoint.port}"
            msg = f"not connected to {where}: {publisher.waiting}; to choose another, use --mqtt"
            raise click.ClickException(msg)
        for dead_letter in selected:
            topic, sent = dead_letter.mqtt_topic, 0
            largest = publisher.largest_payload_bytes(topic)
            most = MAX_PAYLOAD_BYTES if largest is None else min(MAX_PAYLOAD_BYTES, largest)
            try:
                for part in _parts(dead_letter.raw, most):
                    await publisher.publish(topic, part)
                    sent += 1
                    further += sent > 1
            except MqttError as exc:
                further += bool(sent)  # it does not count: a part is missing
                if publisher.failure is not None:
                    break
                # else the broker announced that it does not take this one
                say(f"{dead_letter.id}: {exc}")
        try:
            await publisher.flush()
        except MqttError as exc:
            say(f"given up: {exc}")

    stop, patient_s = stop_on_signals(), Patience().most_s
    async with Publisher(endpoint, in_flight=100, gives_up_s=patient_s, on_wait=say) as publisher:
        is_done = await until_stopped(send(publisher), stop)
        if not is_done:
            await publisher.settle()
    return max(0, publisher.confirmed_total - further), not is_done


def _parts(raw: bytes, most: int) -> Iterator[bytes]:
    """Split a body into messages that bridge and broker accept; all but a batch stays whole.

    Args:
        raw: The body.
        most: Bytes of the largest message.
    """
    if len(raw) <= most:
        yield raw
        return
    try:
        body = orjson.loads(raw)
        ts_ms, values = body["ts"], body["values"]
        half = len(ts_ms) // 2
        columns = [{name: c[part] for name, c in values.items()} for part in _halves(half)]
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        half = 0
    if half == 0:
        yield raw
        return
    for part, chosen in zip(_halves(half), columns, strict=True):
        yield from _parts(encode_payload(ts_ms[part], chosen), most)


def _halves(at: int) -> tuple[slice, slice]:
    return slice(None, at), slice(at, None)


def _filtered(
    selected: list[DeadLetter], reasons: tuple[str, ...], device: str | None
) -> list[DeadLetter]:
    return [
        dead_letter
        for dead_letter in selected
        if (not reasons or dead_letter.reason.value in reasons)
        and (device is None or f"/{device}/" in dead_letter.mqtt_topic)
    ]


def _is_point(dead_letter: DeadLetter) -> bool:
    return dead_letter.source == "store" and dead_letter.reason is not RefusalReason.unreadable


def _can_publish(dead_letter: DeadLetter) -> bool:
    if dead_letter.source == "store":
        return False
    topic = dead_letter.mqtt_topic
    whole = not dead_letter.detail.endswith(" bytes kept)")
    alone = bool(topic) and not topic.startswith("spBv1.0/")
    return whole and alone and not set("+#\x00\ufffd") & set(topic)


def _as_json(dead_letter: DeadLetter, times: int, replayed: tuple[int, str] | None) -> str:
    replayed_ms, how = replayed or (None, None)
    return orjson.dumps(
        {
            "id": dead_letter.id,
            "reason": dead_letter.reason.value,
            "detail": dead_letter.detail,
            "mqtt_topic": dead_letter.mqtt_topic,
            "recv_ms": dead_letter.recv_ms,
            "source": dead_letter.source,
            "times": times,
            "replayed_ms": replayed_ms,
            "replayed_as": how,
            "raw": dead_letter.raw.decode("utf-8", "backslashreplace"),
        }
    ).decode()


def _print_list(
    selected: list[DeadLetter], found: DeadLetters, replayed: dict[str, tuple[int, str]]
) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console()
    for dead_letter in selected:
        when = datetime.fromtimestamp(dead_letter.recv_ms / 1000, timezone.utc)
        times = found.times[dead_letter.id]
        again = replayed.get(dead_letter.id, (0, ""))[1]
        facts = (
            f"{when:%Y-%m-%d %H:%M:%S}",
            dead_letter.id[:8],
            dead_letter.reason.value,
            "" if times == 1 else f"received {times} times",
            f"replayed {again}" if again else "",
        )
        # As Text: rich markup and terminal escapes in a message are shown and not executed.
        console.print(Text("  ".join(filter(None, facts)), style="bold"))
        for line in (dead_letter.mqtt_topic, dead_letter.detail[:300]):
            if line:
                console.print(Padding(Text(printable(line), overflow="fold"), (0, 0, 0, 2)))


def _read(state_dir: Path | None, of_site: bool, *, of_late: bool) -> DeadLetters:
    from deploy.settings.settings import SiteSettings

    topic = LATE if of_late else DEAD_LETTERS
    if of_site:
        with exit_on_invalid_settings():
            site = SiteSettings()
        return read_site_dead_letters(site, topic)
    return read_dead_letters(_log_path(state_dir), topic)


def _log_path(state_dir: Path | None) -> Path:
    from deploy.settings.settings import GatewaySettings

    with exit_on_invalid_settings():
        settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
    return settings.log_path


def _state_dir(state_dir: Path | None, of_site: bool) -> Path:
    from deploy.settings.settings import SiteSettings

    if not of_site:
        return _log_path(state_dir).parent
    with exit_on_invalid_settings():
        return SiteSettings().state_dir

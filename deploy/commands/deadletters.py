"""``kpstream dead-letters``: look at what was refused, and publish it again.

The gateway holds its log locked. Looking needs no lock: `list` reads the file beside it. Publishing
again goes the way every reading goes, over MQTT: what was refused for a reason that is gone (a
model that was missing, a clock that was set) is taken now, and the rest is refused again under the
same id, so that a replay never makes two dead letters out of one. (But what is longer by now than a
message may be goes in parts: a letter of the windows has every event time written out.)

What a *store* has refused is no message but a point, a line of InfluxDB's line protocol: it is
written to InfluxDB again, with the settings of the store.

The letters of a site are in Kafka (`--site`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import orjson

from deploy.commands.dead_letter_reader import ReadLetters, read_letters, read_site_letters
from deploy.settings.brokeraddress import device_endpoint
from ingest.deadletter import DeadLetter
from ingest.errors import RefusalReason
from ingest.mqtt.endpoint import Endpoint
from ingest.payloads import MAX_PAYLOAD_BYTES, encode_payload

__all__ = ["dead_letters"]

_CONNECT_S = 10.0


# -- commands -------------------------------------------------------------------------------


def _chosen(command: Any) -> Any:
    """The options by which both commands choose, and where they read."""
    reasons = click.Choice([reason.value for reason in RefusalReason])
    for option in (
        click.option("--device", metavar="SITE/DEVICE", help="Only letters of this device."),
        click.option("--reason", type=reasons, multiple=True, help="Only letters with a reason."),
        click.option(
            "--state-dir", type=click.Path(path_type=Path), help="The gateway's state folder."
        ),
        click.option(
            "--site", "of_site", is_flag=True, help="Of the site whose Kafka the settings name."
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """List or replay refused messages."""


@dead_letters.command("list")
@_chosen
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, all of them.")
def list_letters(
    state_dir: Path | None,
    of_site: bool,
    reason: tuple[str, ...],
    device: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Show what was refused, newest last, and how many per reason."""
    found = _read(state_dir, of_site)
    letters = _filtered(found.letters, reason, device)
    if as_json:
        for letter in letters:
            click.echo(_as_json(letter, found.times[letter.id]))
        return
    _print_table(letters[-last:], found)
    if not letters:
        click.echo("no dead letters")
        return
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter.reason.value] = counts.get(letter.reason.value, 0) + 1
    by_reason = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    shown = f", the last {last} shown" if len(letters) > last else ""
    click.echo(f"{len(letters)} dead letters ({by_reason}){shown}")
    if found.unreadable:
        click.echo(f"{found.unreadable} records of the topic are no dead letters")


@dead_letters.command("replay")
@_chosen
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this letter (or its start).")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--mqtt", metavar="HOST:PORT", help="Broker; default: as the settings say.")
@click.option("--dry-run", is_flag=True, help="Only say what would be published.")
def replay_letters(
    state_dir: Path | None,
    of_site: bool,
    reason: tuple[str, ...],
    device: str | None,
    ids: tuple[str, ...],
    everything: bool,
    mqtt: str | None,
    dry_run: bool,
) -> None:
    """Publish the raw bytes again to the topic they came by; write refused points again.

    The broker, or InfluxDB, confirms each.
    """
    if not (everything or ids or reason or device):
        msg = "say which: --id, --reason, --device, or --all"
        raise click.UsageError(msg)
    letters = _filtered(_read(state_dir, of_site).letters, reason, device)
    if ids:
        letters = [letter for letter in letters if letter.id.startswith(ids)]
    points = [letter for letter in letters if _is_point(letter)]
    fit = [letter for letter in letters if _can_publish(letter)]
    if cut := len(letters) - len(fit) - len(points):
        click.echo(
            f"{cut} cannot be published again: cut to size, unreadable, no topic, or Sparkplug,"
            " which means something in its place only (its node tells its values in a new birth)"
        )
    if dry_run or not (fit or points):
        click.echo(f"{len(fit)} would be published" if fit else "nothing to publish")
        if points:
            click.echo(f"{len(points)} points would be written to InfluxDB")
        return
    done = True
    if fit:
        endpoint = device_endpoint(mqtt, "dead-letters")
        confirmed = asyncio.run(_publish(fit, endpoint))
        where = f"{endpoint.host}:{endpoint.port}"
        click.echo(f"{confirmed} of {len(fit)} published again to {where}")
        done = confirmed == len(fit)
    if points:
        stored = _write(points)
        click.echo(f"{stored} of {len(points)} points written to InfluxDB")
        done = done and stored == len(points)
    click.echo("they stay listed; one that is refused again is refused under the same id (times)")
    if not done:
        raise SystemExit(1)


def _write(letters: list[DeadLetter]) -> int:
    """Write points again, with the settings of the store; how many InfluxDB took."""
    from pipeline.errors import SinkError
    from pipeline.settings import PipelineSettings
    from pipeline.stores.influx import InfluxSink, influx_connection

    settings = PipelineSettings()
    if settings.influx_url is None:
        msg = "refused points are written to InfluxDB: set KPSTREAM_PIPELINE_INFLUX_URL and _TOKEN"
        raise click.ClickException(msg)
    lines = [letter.raw.decode() for letter in letters]
    try:
        sink = InfluxSink(influx_connection(settings), settings.influx_bucket)
        try:
            refused = sink.writing(lines)()
        finally:
            sink.close()
    except SinkError as exc:
        raise click.ClickException(str(exc)) from exc
    for line in refused[:10]:
        click.echo(_harmless(f"refused again, {line.reason}: {line.detail[:300]}"))
    return len(lines) - len(refused)


async def _publish(letters: list[DeadLetter], endpoint: Endpoint) -> int:
    from ingest.mqtt.publisher import Publisher

    async with Publisher(endpoint, in_flight=100) as publisher:
        try:
            await asyncio.wait_for(publisher.connection.connected.wait(), _CONNECT_S)
        except asyncio.TimeoutError as exc:
            why = publisher.connection.error or "no answer"
            where = f"{endpoint.host}:{endpoint.port}"
            msg = f"no MQTT broker takes us at {where}: {why}; name another with --mqtt"
            raise click.ClickException(msg) from exc
        whole = 0
        for letter in letters:
            parts = list(_parts(letter.raw))
            whole += 1 - len(parts)
            for part in parts:
                await publisher.publish(letter.mqtt_topic, part)
        await publisher.flush()
        return publisher.confirmed_total + whole


def _parts(raw: bytes) -> Iterator[bytes]:
    """A body as messages that a bridge takes; what is no batch stays as it is."""
    if len(raw) <= MAX_PAYLOAD_BYTES:
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
        yield from _parts(encode_payload(ts_ms[part], chosen))


def _halves(at: int) -> tuple[slice, slice]:
    return slice(None, at), slice(at, None)


def _filtered(
    letters: list[DeadLetter], reasons: tuple[str, ...], device: str | None
) -> list[DeadLetter]:
    return [
        letter
        for letter in letters
        if (not reasons or letter.reason.value in reasons)
        and (device is None or f"/{device}/" in letter.mqtt_topic)
    ]


def _is_point(letter: DeadLetter) -> bool:
    return letter.source == "store" and letter.reason is not RefusalReason.unreadable


def _can_publish(letter: DeadLetter) -> bool:
    if letter.source == "store":
        return False
    topic = letter.mqtt_topic
    whole = not letter.detail.endswith(" bytes kept)")
    alone = bool(topic) and not topic.startswith("spBv1.0/")
    return whole and alone and not set("+#\x00\ufffd") & set(topic)


def _as_json(letter: DeadLetter, times: int) -> str:
    return orjson.dumps(
        {
            "id": letter.id,
            "reason": letter.reason.value,
            "detail": letter.detail,
            "mqtt_topic": letter.mqtt_topic,
            "recv_ms": letter.recv_ms,
            "source": letter.source,
            "times": times,
            "raw": letter.raw.decode("utf-8", "backslashreplace"),
        }
    ).decode()


def _print_table(letters: list[DeadLetter], found: ReadLetters) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not letters:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("received (UTC)", "id", "times", "reason", "topic", "detail"):
        table.add_column(title, overflow="fold" if title == "detail" else "ellipsis")
    for letter in letters:
        when = datetime.fromtimestamp(letter.recv_ms / 1000, timezone.utc)
        row = (
            f"{when:%Y-%m-%d %H:%M:%S}",
            letter.id[:8],
            str(found.times[letter.id]),
            letter.reason.value,
            letter.mqtt_topic,
            letter.detail[:300],
        )
        # Text: what a stranger sent is shown, not obeyed (rich markup, terminal escapes).
        table.add_row(*(Text(_harmless(cell)) for cell in row))
    Console().print(table)


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _read(state_dir: Path | None, of_site: bool) -> ReadLetters:
    from deploy.settings.settings import GatewaySettings, SiteSettings

    if of_site:
        return read_site_letters(SiteSettings())
    settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
    return read_letters(settings.log_path)

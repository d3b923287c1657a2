"""``kpstream models``: list, add, publish, promote and roll back students in the registry."""

from __future__ import annotations

import heapq
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from deploy.commands.modelextend import extend
from deploy.commands.modelrulings import COMMANDS, failing, show_accepted, show_rulings
from deploy.commands.modelstress import stress
from deploy.settings.errors import exit_on_invalid_settings
from deploy.settings.settings import GatewaySettings
from ingest.clock import now_ms
from models import acceptance
from models.acceptance import publish_stable
from models.artifact import read_artifact, write_artifact
from models.drafting import Facts, Incomplete, draft_of
from models.errors import ModelError, VersionMissing
from models.manifest import Manifest
from models.pointer import HISTORY_FILE, Move, count_damaged_moves
from models.registry import Registry
from models.rulings import (
    RULINGS_FILE,
    Ruling,
    count_damaged_rulings,
    list_rulings,
    read_rulings,
)
from models.tasks.contract import Subject
from models.tasks.registry import find_task
from models.trial import try_student
from models.zoo import STARTERS, list_zoo, zoo_manifest, zoo_path

__all__ = ["models"]

_REPLACE = click.option(
    "--replace", is_flag=True, help="Retire the student that scores its stream now."
)


@click.group()
@click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    help="Registry folder; default: that of the gateway.",
)
@click.pass_context
def models(ctx: click.Context, registry: Path | None) -> None:
    """List, add, publish, promote, roll back, hold or pin students."""
    with exit_on_invalid_settings():
        ctx.obj = Registry(registry or GatewaySettings().registry_path)


@models.command(name="list", short_help="List students, their versions, and which is stable.")
@click.pass_obj
def list_models(registry: Registry) -> None:
    """List models and their versions, and who scores each stream and why."""
    names = registry.names()
    for entry in registry.odd_entries():
        click.echo(f"skipped: {entry}", err=True)
    if not names:
        click.echo(f"{registry.root} is empty; a gateway adds the starter students when it starts")
    for name in names:
        try:
            pointer = registry.read_stable(name)
            fault = None if pointer is None else registry.history_gap(name, pointer)
        except ModelError as exc:
            pointer, fault = None, str(exc)
        if fault is not None:
            click.echo(f"{name}: {fault}", err=True)
        stable = None if pointer is None else pointer.version
        rejected = read_rulings(registry.folder(name)).rejected
        for version in registry.list_versions(name):
            mark = "stable" if version == stable else "rejected" if version in rejected else ""
            click.echo(f"{name:<24} v{version:<5} {mark:<8} {_headline(registry, name, version)}")
        show_rulings(registry, name)
    _show_scorers(registry)


@models.command(short_help="List the students that ship with kpstream.")
@click.pass_obj
def zoo(registry: Registry) -> None:
    """List the students that ship with kpstream, and mark those in the registry."""
    here = set(registry.names())
    for name in list_zoo():
        manifest = zoo_manifest(name)
        mark = "added" if name in here else "starter" if name in STARTERS else ""
        click.echo(
            f"{name:<25} {mark:<8} {manifest.stream:<12} {manifest.onnx.size_bytes:>7} bytes  "
            f"{_measures(manifest)}"
        )


@models.command(short_help="Add a student that ships with kpstream.")
@click.argument("name")
@_REPLACE
@click.pass_obj
def add(registry: Registry, name: str, replace: bool) -> None:
    """Add student NAME of `kpstream models zoo` and make it stable.

    Only one student can score a stream. --replace retires the current one. A gateway switches to
    the new student when it restarts, because its open windows belong to the old one.
    """
    with failing():
        accepted = publish_stable(registry, zoo_path(name), replace=replace)
    show_accepted(name, accepted)


@models.command(short_help="Make a version stable; a lower one is a rollback.")
@click.argument("name")
@click.argument("version", type=int)
@_REPLACE
@click.pass_obj
def promote(registry: Registry, name: str, version: int, replace: bool) -> None:
    """Make VERSION of NAME stable; a lower version than the current one is a rollback.

    It is tried first as a gateway does, and refused if a gateway would not run it.
    """
    with failing():
        accepted = acceptance.promote(registry, name, version, replace=replace)
    show_accepted(name, accepted)


@models.command()
@click.argument("name")
@click.pass_obj
def retire(registry: Registry, name: str) -> None:
    """Stop using student NAME; nothing is deleted.

    A running gateway keeps it until it stops. `kpstream models add` or `publish` brings a student
    for the stream.
    """
    with failing():
        aside = acceptance.retire(registry, name)
    click.echo(f"{name} is retired: {aside}")


@models.command(short_help="Add a folder with a student as the next version.")
@click.argument("artifact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--stable/--no-stable", default=False, help="Also make it stable.")
@_REPLACE
@click.pass_obj
def publish(registry: Registry, artifact: Path, stable: bool, replace: bool) -> None:
    """Add ARTIFACT (a folder with model.onnx and manifest.json) as the next version.

    With --stable it is tried first as a gateway does, and refused if a gateway would not run it.
    """
    with failing():
        if stable:
            name = read_artifact(artifact).manifest.name
            show_accepted(name, publish_stable(registry, artifact, replace=replace))
        else:
            name, version = read_artifact(artifact).manifest.name, registry.publish(artifact)
            click.echo(
                f"{name} is published as v{version}; `kpstream models promote {name} {version}` "
                "makes it stable"
            )


@models.command(short_help="Make a student from an ONNX file of any tool.")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Name of the student, such as rul-pumps.")
@click.option("--task", default="", help="Task; default: that of the graph's outputs.")
@click.option("--stream", default="", help="Stream that it scores.")
@click.option(
    "--channel", "channels", multiple=True, metavar="NAME:UNIT", help="A column of the window."
)
@click.option("--label", "labels", multiple=True, help="A class, in the order of the output.")
@click.option("--unit", default="", help="Unit of a number, such as cycles or hours.")
@click.option(
    "--subject",
    type=click.Choice(["machine", "person"]),
    help="What wears the sensors; default: a person for an activity, else a machine.",
)
@click.option("--most", type=float, help="Largest number that the graph gives.")
@click.option("--rate-hz", type=float, help="Readings per second; default: no rate.")
@click.option("--hop", type=click.IntRange(0), default=0, help="Readings between two windows.")
@click.option("--gap-ms", type=click.IntRange(1), help="Longest gap inside a window.")
@click.option("--licence", default="", help="Licence of the student.")
@click.option("--data", default="unknown", help="What it was trained on, in words.")
def init(
    model: Path,
    folder: Path,
    name: str,
    task: str,
    stream: str,
    channels: tuple[str, ...],
    labels: tuple[str, ...],
    unit: str,
    subject: Subject | None,
    most: float | None,
    rate_hz: float | None,
    hop: int,
    gap_ms: int | None,
    licence: str,
    data: str,
) -> None:
    """Make a student in FOLDER from MODEL, an ONNX file of any tool.

    Shapes, opset, digest and size come from the graph; what it does not say are options. Everything
    that is missing, or that a gateway would refuse, is listed at once with the step that mends it.
    """
    pairs = []
    for text in channels:
        channel, colon, channel_unit = text.partition(":")
        if not colon or not channel or not channel_unit:
            message = f"--channel {text!r}: write NAME:UNIT, such as T24:R; 1 for no unit"
            raise click.UsageError(message)
        pairs.append((channel, channel_unit))
    facts = Facts(
        name=name,
        task=task,
        stream=stream,
        channels=tuple(pairs),
        labels=labels,
        unit=unit,
        subject=subject,
        most=most,
        rate_hz=rate_hz,
        hop=hop,
        gap_ms=gap_ms,
        licence=licence,
        data=data,
    )
    try:
        onnx_bytes = model.read_bytes()
        draft = draft_of(onnx_bytes, facts, now_ms=now_ms())
        with TemporaryDirectory() as trying:  # a student that fails leaves nothing behind
            trial = try_student(write_artifact(Path(trying) / "student", draft, onnx_bytes))
        artifact = write_artifact(folder, draft, onnx_bytes)
    except Incomplete as exc:
        message = f"{model} is no student yet:\n{exc}"
        raise click.UsageError(message) from exc
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    manifest = artifact.manifest
    click.echo(
        f"{folder}: {manifest.name}, task {manifest.task}, windows of {manifest.window.length} "
        f"readings of {len(manifest.channels)} channels ({trial})\n"
        "The graph takes raw units: no scaling is written. There is no interval, and there are no "
        "metrics: add measured ones to manifest.json.\n"
        f"Next: kpstream models publish {folder} --stable"
    )


@models.command(short_help="Show who moved the stable version, and when.")
@click.argument("name")
@click.pass_obj
def history(registry: Registry, name: str) -> None:
    """Show who changed the stable version of NAME, held, pinned or rejected it, and when."""
    with failing():
        if name not in registry.names() and not registry.history(name):
            known = ", ".join(registry.names()) or "nothing"
            msg = f"the registry has no {name!r}; it has: {known}"
            raise VersionMissing(msg)
    folder = registry.folder(name)
    for file, damaged in (
        (HISTORY_FILE, count_damaged_moves(folder)),
        (RULINGS_FILE, count_damaged_rulings(folder)),
    ):
        if damaged:
            click.echo(f"{folder / file}: damaged lines that are left out: {damaged}", err=True)
    events: list[Move | Ruling] = [*registry.history(name)]
    for event in heapq.merge(events, list_rulings(folder), key=lambda one: one.ts_ms):
        at = datetime.fromtimestamp(event.ts_ms / 1000, timezone.utc)
        click.echo(f"{at:%Y-%m-%d %H:%M:%S}Z  {event.what:<9} {_described(event)}  {event.who}")


def _described(event: Move | Ruling) -> str:
    if isinstance(event, Move):
        before = "-" if event.previous is None else f"v{event.previous}"
        return f"{before} -> v{event.version}"
    version = "-" if event.version is None else f"v{event.version}"
    return f"{version} ({event.reason})" if event.reason else version


for _command in (extend, stress, *COMMANDS):
    models.add_command(_command)


def _show_scorers(registry: Registry) -> None:
    """Who would score each stream on a gateway that starts now, and what would be refused."""
    from pipeline.scoring.scorers import find_scorers

    found = find_scorers(registry)
    for one in found.scorers:
        click.echo(f"stream {one.stream}: {one.name} v{one.version} scores: {one.why}")
    for refused in found.refused:
        title = refused.name if refused.version is None else f"{refused.name} v{refused.version}"
        click.echo(f"{title} is refused: {refused.reason}", err=True)


def _headline(registry: Registry, name: str, version: int) -> str:
    try:
        manifest = registry.read(name, version).manifest
    except ModelError as exc:
        return f"refused: {exc}"
    return f"{manifest.task:<9} {manifest.lineage.method:<18} {_measures(manifest)}"


def _measures(manifest: Manifest) -> str:
    """The first three measures in the order of the task, so the headline measure comes first."""
    metrics = manifest.metrics.get("test") or next(iter(manifest.metrics.values()), {})
    order = [measure.name for measure in find_task(manifest.task).measures]
    names = sorted(metrics, key=lambda name: [*order, name].index(name))
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names[:3])

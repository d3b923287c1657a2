"""``kpstream centre publish|release|pause|resume|abort``: students on their way to the gateways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre
from deploy.commands.centreplan import begun, plan_options, read_plan
from deploy.rollout.release import ReleaseIndex
from models.acceptance import require_releasable
from models.artifact import read_artifact
from models.errors import ArtifactMissing

if TYPE_CHECKING:
    from models.artifact import Artifact

__all__ = ["abort", "pause", "publish", "release", "resume"]

_REGISTRY = click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    help="Registry folder; default: KPSTREAM_CENTRE_REGISTRY_DIR, or that of the gateway here.",
)
_REASON = click.option("--reason", default="by hand", show_default=True, help="Why, for people.")


@click.command()
@click.argument("source", metavar="FOLDER|NAME")
@click.argument("version", type=click.IntRange(1), required=False)
@_REGISTRY
@pass_centre
def publish(centre: CentreContext, source: str, version: int | None, registry: Path | None) -> None:
    """Sign the files of a student, without releasing it yet.

    A FOLDER holds model.onnx and manifest.json; NAME VERSION is a student of a registry.
    """
    if version is None:
        artifact = read_artifact(source)
    else:
        artifact = _registered(centre, registry, source, version)
    _publish(centre, artifact)


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@_REGISTRY
@plan_options
@click.option("--step-windows", type=click.IntRange(0), help="Windows of each gateway in a step.")
@click.option("--shadow-seconds", type=click.IntRange(0), help="Shortest time in shadow.")
@click.option("--shadow-windows", type=click.IntRange(0), help="Windows compared in shadow.")
@click.option("--probation-seconds", type=click.IntRange(0), help="Time the old student watches.")
@pass_centre
def release(
    centre: CentreContext,
    /,
    name: str,
    version: int,
    registry: Path | None,
    plan_file: Path | None,
    replace: bool,
    **options: Any,
) -> None:
    """Begin to release VERSION of student NAME, step by step.

    A version that is not published yet is taken from the registry. One that the registry rejects,
    or over which it holds or pins another one, is refused. The same command again changes nothing.
    """
    from deploy.rollout.changes import add_release, find_release
    from deploy.rollout.inventory import known_gateways

    plan = read_plan(plan_file, options)
    require_releasable(centre.registry(registry), name, version)
    digest = _published_digest(centre, name, version)
    if digest is None:
        artifact = _registered(centre, registry, name, version)
        _publish(centre, artifact)
        digest = artifact.digest
    gateways = known_gateways(centre.folder / "inventory")

    def change(index: ReleaseIndex) -> ReleaseIndex:
        return add_release(
            index,
            name=name,
            version=version,
            digest=digest,
            plan=plan,
            now_s=now_s(),
            gateways=gateways,
            replace=replace,
        )

    index = centre.write_index(change)
    click.echo(begun(find_release(index, name)))


@click.command()
@click.argument("name")
@_REASON
@pass_centre
def pause(centre: CentreContext, name: str, reason: str) -> None:
    """Stop the release of NAME, a student or `software`, at its step."""
    from deploy.rollout.changes import pause_release

    _change(centre, name, lambda index: pause_release(index, name, reason))


@click.command()
@click.argument("name")
@click.option(
    "--max-failed",
    type=click.IntRange(0),
    help="New limit; without it, the failures that paused the release pause it again.",
)
@pass_centre
def resume(centre: CentreContext, name: str, max_failed: int | None) -> None:
    """Let the paused release of NAME or of `software` go on; the time of its step begins again."""
    from deploy.rollout.changes import resume_release

    _change(centre, name, lambda index: resume_release(index, name, now_s(), max_failed))


@click.command()
@click.argument("name")
@_REASON
@pass_centre
def abort(centre: CentreContext, name: str, reason: str) -> None:
    """End the release of NAME or of `software`; its gateways go back to what ran before it."""
    from deploy.rollout.changes import abort_release

    _change(centre, name, lambda index: abort_release(index, name, reason))


def _change(
    centre: CentreContext, name: str, change: Callable[[ReleaseIndex], ReleaseIndex]
) -> None:
    from deploy.rollout.changes import find_release

    found = find_release(centre.write_index(change), name)
    why = f": {found.reason}" if found.reason else ""
    click.echo(f"Release {found.number}: {found.title} is {found.state}{why}")


def _publish(centre: CentreContext, artifact: Artifact) -> None:
    manifest = artifact.manifest
    centre.unlock()
    is_new = centre.repository.publish(artifact)
    click.echo(
        f"{manifest.name} v{manifest.version} is {'published' if is_new else 'there already'} "
        f"(digest {artifact.digest[:12]})"
    )


def _published_digest(centre: CentreContext, name: str, version: int) -> str | None:
    """Digest of the signed manifest of a version; None if it is not published."""
    from deploy.rollout.repository import student_targets

    target = centre.repository.state().targets.targets.get(
        f"{student_targets(name, version)}/manifest.json"
    )
    return None if target is None else target.hashes["sha256"]


def _registered(centre: CentreContext, folder: Path | None, name: str, version: int) -> Artifact:
    registry = centre.registry(folder)
    try:
        return registry.read(name, version)
    except ArtifactMissing as exc:
        message = (
            f"the registry {registry.root} has no {name} v{version}: see `kpstream models list`, "
            "add it with `kpstream models publish FOLDER`, or name another registry with --registry"
        )
        raise click.ClickException(message) from exc

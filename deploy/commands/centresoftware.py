"""``kpstream centre publish-bundle|release-software``: the software on its way to the gateways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre
from deploy.commands.centreplan import begun, plan_options, read_plan
from deploy.rollout.release import SOFTWARE, ReleaseIndex

__all__ = ["publish_bundle", "release_software"]


@click.command("publish-bundle")
@click.argument(
    "files",
    metavar="FILE...",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    nargs=-1,
    required=True,
)
@pass_centre
def publish_bundle(centre: CentreContext, files: tuple[Path, ...]) -> None:
    """Sign offline bundles (`make bundle`), one FILE for each architecture and Python.

    Every file of a bundle is checked first. The same command again changes nothing.
    """
    centre.unlock()
    for path in files:
        target, is_new = centre.repository.publish_bundle(path)
        click.echo(f"{target} is {'published' if is_new else 'there already'}")


@click.command("release-software")
@click.argument("version")
@plan_options
@pass_centre
def release_software(
    centre: CentreContext,
    /,
    version: str,
    plan_file: Path | None,
    replace: bool,
    **options: Any,
) -> None:
    """Begin to release VERSION of kpstream itself, step by step.

    All bundles of this version that are published take part; publish those of every kind of machine
    first. `kpstream centre pause|resume|abort software` work as for a student.
    """
    from deploy.rollout.changes import add_software, find_release
    from deploy.rollout.inventory import known_gateways
    from deploy.rollout.software import bundles_of

    plan = read_plan(plan_file, options)
    bundles = bundles_of(centre.repository.state(), version)
    gateways = known_gateways(centre.folder / "inventory")

    def change(index: ReleaseIndex) -> ReleaseIndex:
        return add_software(
            index,
            version=version,
            bundles=bundles,
            plan=plan,
            now_s=now_s(),
            gateways=gateways,
            replace=replace,
        )

    click.echo(begun(find_release(centre.write_index(change), SOFTWARE)))

"""``kpstream fleet``: install and upgrade many gateways over ssh."""

from __future__ import annotations

import sys
from pathlib import Path

import click

__all__ = ["fleet"]


@click.group()
def fleet() -> None:
    """Install and upgrade many gateways over ssh."""


@fleet.command()
@click.argument("inventory", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Look at every host, and change none.")
@click.option("--limit", multiple=True, metavar="NAME", help="Only this host; repeatable.")
@click.option("--group", "groups", multiple=True, help="Only hosts of this group; repeatable.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Most hosts at a time.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What is done; default: INVENTORY.state.json beside the inventory.",
)
@click.option(
    "--ssh-config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration file of ssh; default: yours.",
)
def apply(
    inventory: Path,
    dry_run: bool,
    limit: tuple[str, ...],
    groups: tuple[str, ...],
    parallel: int,
    state: Path | None,
    ssh_config: Path | None,
) -> None:
    """Bring every host of INVENTORY (TOML) to its bundle and settings.

    A host that has both already is left alone, so the same command continues an interrupted one.
    It uses ssh with your keys and asks for no password; host keys must be known. Exit code 1: a
    host failed or fell back.
    """
    from deploy.fleet.errors import FleetError
    from deploy.fleet.inventory import read_inventory
    from deploy.fleet.passes import Pass, Result
    from deploy.fleet.ssh import Ssh

    def show(result: Result) -> None:
        click.echo(f"{result.outcome:<14} {result.name:<{width}}  {result.detail}")

    try:
        chosen = read_inventory(inventory).limited(limit, groups)
        width = max((len(host.name) for host in chosen.hosts), default=0)
        state = state or inventory.with_name(f"{inventory.name}.state.json")
        run = Pass(chosen, Ssh(config=ssh_config), state, dry_run=dry_run)
        results = run.run(parallel=parallel, on_result=show)
    except (FleetError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    counts = {outcome: 0 for outcome in ("installed", "unchanged", "would install")}
    failed = 0
    for result in results:
        if result.is_failed:
            failed += 1
        else:
            counts[result.outcome] += 1
    words = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    click.echo(", ".join([*words, f"{failed} failed"]))
    sys.exit(1 if failed else 0)

"""``kpstream examples``: which labels are examples of an activity, and what comes of them."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.commands.gatewaydevice import gateway_settings, showing_errors

__all__ = ["examples"]


@click.command()
@click.option("--state-dir", type=click.Path(path_type=Path), help="State folder of the gateway.")
def examples(state_dir: Path | None) -> None:
    """List the labels that are examples of an activity on this gateway.

    A label becomes an example on the page, or by `kpstream label span --example device` (or
    `all`); `kpstream label revoke` takes it back. See docs/examples.md.
    """
    from pipeline.scoring.examples import ExampleFile

    settings = gateway_settings(state_dir)
    with showing_errors():
        file = ExampleFile(settings.state_dir)
        found, told = file.read(), file.told()
    for key, each in sorted(found.items()):
        where, name = key.rsplit("/", 1)
        whom = f"for all devices of {each.stream}" if each.for_all else "for this device"
        why = each.fault or told.get(key, "")
        what = f"{len(each.windows)} windows" if not why else f"no effect: {why}"
        click.echo(f"{where}: {each.label}, {what}, {whom} (label {name})")
    left_out = sorted((key, why) for key, why in told.items() if key not in found)
    for key, why in left_out:
        where, name = key.rsplit("/", 1)
        click.echo(f"{where}: no effect: {why} (label {name})")
    if not found and not left_out:
        click.echo("no label of this gateway is an example")

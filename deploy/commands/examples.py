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
        found = ExampleFile(settings.state_dir).read()
    for key, each in sorted(found.items()):
        where, name = key.rsplit("/", 1)
        whom = f"for all devices of {each.stream}" if each.for_all else "for this device"
        what = f"{len(each.windows)} windows" if not each.fault else f"no effect: {each.fault}"
        click.echo(f"{where}: {each.label}, {what}, {whom} (label {name})")
    if not found:
        click.echo("no label of this gateway is an example")

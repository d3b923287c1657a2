"""``kpstream log``: repair a gateway's log, or accept what it has lost."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["log"]

_PATH = click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def log() -> None:
    """Repair a gateway's log, or accept what it has lost; stop the gateway first.

    PATH is the file of the log; without it, that of the gateway's settings.
    """


@log.command()
@_PATH
def repair(path: Path | None) -> None:
    """Restore every readable record; ends with an error if confirmed ones are missing."""
    _repair(path, accept_loss=False)


@log.command(name="accept-loss")
@_PATH
def accept_loss(path: Path | None) -> None:
    """Repair, and go on without the confirmed records that are nowhere: lists and counts them."""
    _repair(path, accept_loss=True)


def _repair(path: Path | None, *, accept_loss: bool) -> None:
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings
    from pipeline.errors import LogError
    from pipeline.log.repair import repair_log, report_text

    if path is None:
        with exit_on_invalid_settings():
            path = GatewaySettings().log_path
    try:
        report = repair_log(path, accept_loss=accept_loss)
    except LogError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        message = f"cannot read or write beside {path}: {exc}"
        raise click.ClickException(message) from exc
    click.echo(report_text(report), nl=False)

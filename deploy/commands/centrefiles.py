"""``kpstream centre export|import|serve``: the static files of the repository."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre

__all__ = ["export", "import_", "serve"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("folder", type=_FOLDER)
@pass_centre
def export(centre: CentreContext, folder: Path) -> None:
    """Copy the repository to FOLDER, such as one on a USB stick; no key leaves the centre.

    A gateway reads it with KPSTREAM_ROLLOUT_URL=FOLDER. An earlier copy is brought up to date.
    """
    from deploy.rollout.transfer import export_repository

    outcome = export_repository(centre.repository.folder, folder)
    click.echo(f"{folder} {'was' if outcome == 'same' else 'is'} up to date")


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="For a new mirror: the centre's first root, which came by a way that you trust.",
)
@pass_centre
def import_(centre: CentreContext, folder: Path, root: Path | None) -> None:
    """Take over the repository in FOLDER if it is newer; what is taken over is verified.

    For a mirror at an offline site, which has no keys, and for a centre put back from a backup.
    """
    from deploy.rollout.metadata import expired_roles
    from deploy.rollout.transfer import import_repository

    outcome = import_repository(centre.repository.folder, folder, root)
    state = centre.repository.state()
    text = {
        "same": "is what is here already",
        "newer": "is newer: taken over",
        "repaired": "is taken over in the place of a repository that did not verify",
    }
    click.echo(f"{folder} {text[outcome]} (timestamp version {state.timestamp.version})")
    expired = expired_roles(state, now_s())
    if expired:
        click.echo(
            f"Expired, so that gateways take nothing new: {', '.join(expired)}. Renew them at the "
            "centre (`kpstream centre refresh`), and carry a new copy.",
            err=True,
        )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8780, show_default=True)
@pass_centre
def serve(centre: CentreContext, host: str, port: int) -> None:
    """Serve the repository over HTTP, for trials; for good, use a web server with TLS."""
    from deploy.rollout.staticserver import StaticServer

    centre.repository.index()  # a folder without a centre is an error now, not at the first request
    with StaticServer(centre.repository.folder.repository, host, port) as server:
        address, bound = server.server_address[:2]
        shown = f"[{address!s}]" if ":" in str(address) else str(address)
        click.echo(f"http://{shown}:{bound} serves {server.folder}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")

"""``kpstream models stress``: what a student answers when sensors are not as in training.

`deploy` does not import `training`, so the command runs as a program of its own.
"""

from __future__ import annotations

import subprocess
import sys

import click

from models.registry import Registry

__all__ = ["stress"]


@click.command(
    short_help="Measure a student under noise, gaps, failing channels and more.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def stress(registry: Registry, arguments: tuple[str, ...]) -> None:
    """Measure a student under stress on labelled data of your own; --help shows the options."""
    command = [sys.executable, "-m", "training.stress", *arguments]
    if not any(each.split("=")[0] == "--registry" for each in arguments):
        command += ["--registry", str(registry.root)]
    sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own program

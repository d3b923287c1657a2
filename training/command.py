"""The console command `train-redistill`: training by itself, or one of its subcommands.

train-redistill --data dataset.toml --publish
train-redistill init --from recordings/pump
train-redistill schedule --kind cron -- --data dataset.toml --publish
"""

from __future__ import annotations

import sys

import click

from training.init import init
from training.redistill import redistill
from training.schedule import schedule

__all__ = ["SUBCOMMANDS", "main"]

SUBCOMMANDS: dict[str, click.Command] = {"init": init, "schedule": schedule}
"""Commands by the first word; without one of them, it is training itself."""


def main() -> None:
    """Run the console command."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in SUBCOMMANDS:
        SUBCOMMANDS[word](args=sys.argv[2:], prog_name=f"train-redistill {word}")
    redistill(prog_name="train-redistill")

"""A group of commands whose modules are imported when they are called.

So ``--help`` is fast, and a command whose extra is missing says how to install it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from deploy.commands.importing import without_collections
from ingest.extras import install_command

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group over a table of commands.

    Args:
        table: Command -> (module, attribute, line of text in the overview).
        extras: Command -> extra that it needs, if that is not `extra`.
        extra: Extra that the other commands need.
    """

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str, str]],
        extras: Mapping[str, str] | None = None,
        extra: str = "gateway",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self._extras = extras or {}
        self._extra = extra

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if the table does not have it."""
        if cmd_name not in self._table:
            return None
        module, attribute, _ = self._table[cmd_name]
        try:
            with without_collections():
                command: Any = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as exc:
            message = (
                f"{cmd_name} needs the package {exc.name!r}, which is not installed; "
                f"run: {install_command(self._extras.get(cmd_name, self._extra))}"
            )
            raise click.ClickException(message) from exc
        assert isinstance(command, click.Command)  # noqa: S101 - true for the tables
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; an error shows no secret, and invalid settings become a message."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as exc:
            from deploy.settings.errors import exit_on_invalid_settings
            from deploy.settings.secretoutput import hide_secrets_in_output
            from ingest.secrettext import hide_secrets

            hide_secrets_in_output()
            with exit_on_invalid_settings():
                if isinstance(exc, click.ClickException):
                    exc.message = hide_secrets(exc.message)
                raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the lines of the table."""
        rows = [(name, text) for name, (_, _, text) in self._table.items()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

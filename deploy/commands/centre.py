"""``kpstream centre``: sign students and release them, in steps, to the gateways."""

from __future__ import annotations

import click

from deploy.commands.lazygroup import LazyGroup

__all__ = ["centre"]

# Command -> (module, attribute, line of text in the overview)
_COMMANDS: dict[str, tuple[str, str, str]] = {}


@click.group(cls=LazyGroup, table=_COMMANDS, extra="centre")
def centre() -> None:
    """Sign students and release them, in steps, to the gateways."""

"""Shared by `kpstream devices` and `mount`: settings of a gateway, and its devices by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deploy.settings.settings import GatewaySettings

__all__ = ["gateway_settings", "only_known", "showing_errors"]


def gateway_settings(state_dir: Path | None) -> GatewaySettings:
    """Return the settings of a gateway, with another state folder if one is given."""
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings

    with exit_on_invalid_settings():
        return GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)


@contextmanager
def showing_errors() -> Iterator[None]:
    """Turn errors of kpstream into the message and the exit code of a command."""
    from ingest.errors import IngestError
    from pipeline.errors import PipelineError

    try:
        yield
    except (PipelineError, IngestError) as exc:
        raise click.ClickException(str(exc)) from exc


def only_known(
    known: Iterable[tuple[str, str, str]],
    what: str,
    device: str,
    site: str | None,
    stream: str | None,
) -> tuple[str, str, str]:
    """Return the only one of the known devices that fits.

    Args:
        known: Site, device and stream of each.
        what: What all of them have, such as `a note`.
        device: DEVICE, SITE/DEVICE or SITE/DEVICE/STREAM.
        site: Only devices of this site.
        stream: Only this stream.

    Raises:
        click.ClickException: None fits, or several do.
    """
    fitting = [
        each
        for each in known
        if device in (each[1], "/".join(each[:2]), "/".join(each))
        and stream in (None, each[2])
        and site in (None, each[0])
    ]
    if len(fitting) != 1:
        found = ", ".join("/".join(each) for each in fitting) or "none"
        message = f"one device with {what} has to fit {device!r}, found: {found}"
        raise click.ClickException(message)
    return fitting[0]

"""``kpstream models rollback|hold|unhold|pin|unpin|readmit``: what people rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from models import acceptance
from models.acceptance import Accepted, stable_version
from models.errors import ModelError, VersionMissing
from models.registry import Registry
from models.rulings import Ruling, add_ruling, author, read_rulings

__all__ = ["COMMANDS", "failing", "show_accepted", "show_rulings"]

_REASON = click.option("--reason", default="", help="Why, for people.")


@contextmanager
def failing() -> Iterator[None]:
    """Turn a refusal into the error of a command."""
    try:
        yield
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def show_accepted(name: str, accepted: Accepted) -> None:
    """Tell what is stable now, and what was retired for it."""
    for other, aside in accepted.retired.items():
        click.echo(f"{other} is retired: {aside}")
    pointer = accepted.pointer
    click.echo(
        f"{name} v{pointer.version} is stable (digest {pointer.digest[:12]})"
        + (": restart the gateway" if accepted.retired else "")
    )


def show_rulings(registry: Registry, name: str) -> None:
    """Tell whether a name is held or pinned; nothing if it is neither."""
    rulings = read_rulings(registry.folder(name))
    if rulings.pinned is not None:
        click.echo(f"{name} is pinned to v{rulings.pinned.version} since {rulings.pinned.text}")
    if rulings.held is not None:
        click.echo(f"{name} is held since {rulings.held.text}")


@click.command(short_help="Go back to an earlier version, and reject the present one.")
@click.argument("name")
@click.argument("version", type=int, required=False)
@_REASON
@click.pass_obj
def rollback(registry: Registry, name: str, version: int | None, reason: str) -> None:
    """Make VERSION of NAME stable, by default the one that was stable before.

    The version that is left is rejected: a retraining publishes neither its bytes nor an equal
    student again, until `promote` or `readmit` names it.
    """
    with failing():
        now = stable_version(registry, name)
        if version is None:
            version = _version_before(registry, name, now)
        if now is None or version >= now:
            msg = f"v{version} of {name} is not below the stable version ({now}): use promote"
            raise VersionMissing(msg)
        show_accepted(name, acceptance.promote(registry, name, version))
        _rule(registry, name, "reject", now, reason or f"rolled back to v{version}")
    click.echo(f"{name} v{now} is rejected: no retraining publishes it or an equal one again")


@click.command(short_help="Publish nothing over the stable version.")
@click.argument("name")
@_REASON
@click.pass_obj
def hold(registry: Registry, name: str, reason: str) -> None:
    """Publish nothing over the stable version of NAME, by hand, by a retraining or by a release.

    A rollback to a lower version is possible.
    """
    with failing():
        _rule(registry, name, "hold", None, reason)
    show_rulings(registry, name)


@click.command(short_help="End a hold.")
@click.argument("name")
@_REASON
@click.pass_obj
def unhold(registry: Registry, name: str, reason: str) -> None:
    """End the hold of NAME."""
    with failing():
        was_held = read_rulings(registry.folder(name)).held is not None
        _rule(registry, name, "unhold", None, reason)
    click.echo(f"{name} is no longer held" if was_held else f"{name} was not held")


@click.command(short_help="Make a version stable, and keep it.")
@click.argument("name")
@click.argument("version", type=int)
@_REASON
@click.pass_obj
def pin(registry: Registry, name: str, version: int, reason: str) -> None:
    """Make VERSION of NAME stable, and let no other version take its place, in either direction."""
    with failing():
        if stable_version(registry, name) != version:
            show_accepted(name, acceptance.promote(registry, name, version))
        _rule(registry, name, "pin", version, reason)
    show_rulings(registry, name)


@click.command(short_help="End a pin.")
@click.argument("name")
@_REASON
@click.pass_obj
def unpin(registry: Registry, name: str, reason: str) -> None:
    """End the pin of NAME; the stable version stays."""
    with failing():
        was_pinned = read_rulings(registry.folder(name)).pinned is not None
        _rule(registry, name, "unpin", None, reason)
    click.echo(f"{name} is no longer pinned" if was_pinned else f"{name} was not pinned")


@click.command(short_help="Let a rejected version be published again.")
@click.argument("name")
@click.argument("version", type=int)
@_REASON
@click.pass_obj
def readmit(registry: Registry, name: str, version: int, reason: str) -> None:
    """Let VERSION of NAME, or an equal student, be published again; the stable version stays."""
    with failing():
        was_rejected = version in read_rulings(registry.folder(name)).rejected
        _rule(registry, name, "readmit", version, reason)
    was = "is no longer rejected" if was_rejected else "was not rejected"
    click.echo(f"{name} v{version} {was}")


COMMANDS = (rollback, hold, unhold, pin, unpin, readmit)


def _rule(registry: Registry, name: str, what: Any, version: int | None, reason: str) -> None:
    if name not in registry.names():
        msg = f"the registry has no {name!r}; it has: {', '.join(registry.names()) or 'nothing'}"
        raise VersionMissing(msg)
    ruling = Ruling(
        ts_ms=registry.now_ms(), who=author(), what=what, version=version, reason=reason[:500]
    )
    add_ruling(registry.folder(name), ruling)


def _version_before(registry: Registry, name: str, now: int | None) -> int:
    """The version that was stable before the present one, and is below it."""
    for move in reversed(registry.history(name)):
        if now is not None and move.version < now and move.version in registry.list_versions(name):
            return move.version
    msg = f"{name} has no earlier stable version to go back to"
    raise VersionMissing(msg)

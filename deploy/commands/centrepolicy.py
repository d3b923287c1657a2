"""``kpstream centre hold|pin|window``: what the centre asks of one gateway or group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from deploy.commands.centrecontext import CentreContext, pass_centre
from deploy.rollout.release import Policy

if TYPE_CHECKING:
    from deploy.rollout.release import ReleaseIndex

__all__ = ["hold", "pin", "policy_text", "window"]


def _owner(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--off", is_flag=True, help="Take it back."),
        click.option("--group", default="", help="The group."),
        click.option("--gateway", default="", help="The gateway."),
    ):
        command = option(command)
    return command


@click.command()
@_owner
@pass_centre
def hold(centre: CentreContext, gateway: str, group: str, off: bool) -> None:
    """Keep a gateway or a group at what it runs: it takes nothing new."""
    _write(centre, gateway, group, lambda policy: {**policy, "hold": not off})


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(1), required=False)
@_owner
@pass_centre
def pin(
    centre: CentreContext, name: str, version: int | None, gateway: str, group: str, off: bool
) -> None:
    """Keep student NAME of a gateway or group at VERSION."""
    if (version is None) != off:
        message = "give a VERSION, or --off to take the pin back"
        raise click.UsageError(message)

    def change(policy: dict[str, Any]) -> dict[str, Any]:
        others = {key: value for key, value in policy["pin"].items() if key != name}
        return {**policy, "pin": others if version is None else {**others, name: version}}

    _write(centre, gateway, group, change)


@click.command()
@click.argument("hours", metavar="HH:MM-HH:MM", required=False)
@_owner
@pass_centre
def window(centre: CentreContext, hours: str | None, gateway: str, group: str, off: bool) -> None:
    """Let new students take over in these hours (UTC) only; they may pass midnight."""
    if (hours is None) != off:
        message = "give the hours as HH:MM-HH:MM, or --off for any time"
        raise click.UsageError(message)
    _write(centre, gateway, group, lambda policy: {**policy, "window": hours or ""})


def _write(
    centre: CentreContext,
    gateway: str,
    group: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    from deploy.rollout.changes import set_policy

    if bool(gateway) == bool(group):
        message = "give either --gateway or --group"
        raise click.UsageError(message)

    def changed(index: ReleaseIndex) -> ReleaseIndex:
        return set_policy(
            index, gateway, group, lambda policy: Policy(**change(policy.model_dump()))
        )

    try:
        index = centre.write_index(changed)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the policy"
        advice = {
            "window": "write it as HH:MM-HH:MM, such as 22:00-04:00",
            "gateway": "a name has 1 to 64 of A-Z a-z 0-9 . _ -",
            "group": "a name has 1 to 64 of A-Z a-z 0-9 . _ -",
        }
        message = f"{place}: {advice.get(place, first['msg'])}"
        raise click.ClickException(message) from exc
    owner = f"gateway {gateway}" if gateway else f"group {group}"
    policy = next(
        (each for each in index.policies if (each.gateway, each.group) == (gateway, group)), None
    )
    click.echo(f"{owner}: {policy_text(policy)}")


def policy_text(policy: Policy | None) -> str:
    """What a policy asks, in words."""
    if policy is None:
        return "no policy"
    parts = ["hold"] if policy.hold else []
    parts += [f"{name} stays at v{version}" for name, version in sorted(policy.pin.items())]
    parts += [f"takes over at {policy.window} UTC only"] if policy.window else []
    return ", ".join(parts)

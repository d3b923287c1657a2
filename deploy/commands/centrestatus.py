"""``kpstream centre status``: releases, policies, keys, and what expires when."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre
from deploy.commands.centrepolicy import policy_text

if TYPE_CHECKING:
    from deploy.rollout.controller import Move
    from deploy.rollout.metadata import SignedState
    from deploy.rollout.release import AnyRelease

__all__ = ["status"]

_WARN_DAYS = {"root": 60, "targets": 7, "snapshot": 7, "timestamp": 1}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_centre
def status(centre: CentreContext, as_json: bool) -> None:
    """Show releases, policies, and when signed files expire; verifies the whole repository.

    Exit code 1: a signed file has expired.
    """
    from deploy.rollout.controller import next_move
    from deploy.rollout.inventory import Inventory

    state = centre.repository.state()
    known = Inventory(centre.repository.folder.inventory, now_s).known()
    gateways = [(each.gateway, each.group) for each in known]
    silent_s = centre.settings.silent_s
    roles = [_role(centre, state, role) for role in ("root", "targets", "snapshot", "timestamp")]
    releases = [
        _release(release, gateways, next_move(release, known, now_s(), silent_s))
        for release in state.index.rollouts
    ]
    if as_json:
        content = {
            "folder": str(centre.folder),
            "made_s": state.index.made_s,
            "roles": roles,
            "releases": releases,
            "policies": [policy.model_dump() for policy in state.index.policies],
            "gateways": len(gateways),
        }
        click.echo(json.dumps(content, indent=2))
    else:
        click.echo("\n".join(_lines(state, roles, releases, len(gateways))))
    if any(role["days_left"] < 0 for role in roles):
        sys.exit(1)


def _role(centre: CentreContext, state: SignedState, role: str) -> dict[str, Any]:
    from deploy.rollout.keys import key_path

    signed = getattr(state, role)
    keyids = state.root.roles[role].keyids
    folder = centre.repository.folder.keys
    left_s = signed.expires.timestamp() - now_s()
    return {
        "role": role,
        "version": signed.version,
        "expires": signed.expires.isoformat(),
        "days_left": int(left_s // 86_400),
        "threshold": state.root.roles[role].threshold,
        "keys": [keyid[:16] for keyid in keyids],
        "keys_here": sum(key_path(folder, role, keyid).exists() for keyid in keyids),
    }


def _release(release: AnyRelease, gateways: list[tuple[str, str]], move: Move) -> dict[str, Any]:
    from deploy.rollout.release import is_member

    members = [name for name, group in gateways if is_member(release, name, group)]
    standings = {member.gateway: member.standing for member in move.members}
    remark = release.reason or ("" if release.state == "complete" else move.reason)
    head = {"name": release.name, "title": release.title, **release.model_dump()}
    return {**head, "members": members, "standings": standings, "remark": remark}


def _lines(
    state: SignedState,
    roles: list[dict[str, Any]],
    releases: list[dict[str, Any]],
    gateways: int,
) -> list[str]:
    lines = [f"{'release':<8} {'student':<28} {'state':<9} {'step':<10} {'members':<12} since"]
    for each in releases:
        steps = each["plan"]["steps"]
        step = f"{each['step'] + 1}/{len(steps)} {steps[each['step']]['percent']} %"
        members = f"{len(each['members'])} of {gateways}"
        since = _moment(each["step_since_s"])
        head = f"{each['number']:<8} {each['title']:<28} {each['state']:<9}"
        lines.append(f"{head} {step:<10} {members:<12} {since}")
        if each["remark"]:
            lines.append(f"         {each['remark']}")
    if not releases:
        lines = ["no release yet"]
    for policy in state.index.policies:
        owner = f"gateway {policy.gateway}" if policy.gateway else f"group {policy.group}"
        lines.append(f"{owner}: {policy_text(policy)}")
    lines.append("")
    for role in roles:
        keys = f"{role['keys_here']} of {len(role['keys'])} keys here"
        lines.append(
            f"{role['role']:<10} version {role['version']:<6} {keys:<18} "
            f"expires {role['expires'][:10]}{_remark(role)}"
        )
    return lines


def _remark(role: dict[str, Any]) -> str:
    name, days = role["role"], role["days_left"]
    command = (
        "kpstream centre rotate root --same-keys" if name == "root" else "kpstream centre refresh"
    )
    if days < 0:
        return f"  EXPIRED: run `{command}`"
    if days < _WARN_DAYS[name]:
        return f"  expires soon: run `{command}`"
    return ""


def _moment(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, timezone.utc):%Y-%m-%d %H:%M}Z"

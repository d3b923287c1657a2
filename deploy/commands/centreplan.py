"""The plan of a release, from a file and from the options of a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from deploy.rollout.errors import first_fault
from deploy.rollout.release import AnyRelease, Plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["begun", "plan_options", "read_plan"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--plan",
        "plan_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Plan as TOML; the options below override it.",
    ),
    click.option("--steps", metavar="10,50,100", help="Shares of the gateways in per cent."),
    click.option("--step-seconds", type=click.IntRange(0), help="Shortest time of each step."),
    click.option(
        "--max-failed", type=click.IntRange(0), help="Failed gateways that do not pause it."
    ),
    click.option(
        "--group", "groups", multiple=True, help="Only gateways of this group; repeatable."
    ),
    click.option("--hold", multiple=True, metavar="GATEWAY", help="Not this gateway; repeatable."),
    click.option("--replace", is_flag=True, help="Also while another release is on its way."),
)


def plan_options(command: _Command) -> _Command:
    """Give a command the options of every plan."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def begun(release: AnyRelease) -> str:
    """A line about a release that has begun."""
    step, steps = release.step, release.plan.steps
    return (
        f"Release {release.number}: {release.title} is {release.state}, step {step + 1} of "
        f"{len(steps)} ({steps[step].percent} % of the gateways)"
    )


def read_plan(path: Path | None, options: dict[str, Any]) -> Plan:
    """The plan of a file, with the options of the command over it.

    Raises:
        click.ClickException: The file is no TOML, or the plan is invalid.
    """
    try:
        table: dict[str, Any] = {} if path is None else tomllib.loads(path.read_text("utf-8"))
        table |= {
            name: value
            for name, value in options.items()
            if name in Plan.model_fields and name != "steps" and value not in (None, ())
        }
        if options["steps"] is not None:
            table["steps"] = [{"percent": int(share)} for share in options["steps"].split(",")]
        steps = table.get("steps", [step.model_dump() for step in Plan().steps])
        for each, option in (("seconds", "step_seconds"), ("windows", "step_windows")):
            if options.get(option) is not None:
                steps = [{**step, each: options[option]} for step in steps]
        return Plan.model_validate({**table, "steps": steps})
    except ValidationError as exc:
        message = f"the plan is invalid: {first_fault(exc, 'the plan')}"
        raise click.ClickException(message) from exc
    except tomllib.TOMLDecodeError as exc:
        message = f"the plan {path} is not TOML: {exc}"
        raise click.ClickException(message) from exc
    except (ValueError, TypeError) as exc:
        message = f"the plan is invalid: {exc}; write shares as 10,50,100"
        raise click.ClickException(message) from exc

"""The command ``kpstream``; the module of a subcommand is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from ingest.extras import install_command

__all__ = ["main"]

# Command -> (module, attribute, line of text in the overview)
_COMMANDS = {
    "gateway": (
        "deploy.commands.gateway",
        "gateway",
        "Run the gateway: bridge, scoring, store, console.",
    ),
    "demo": (
        "deploy.commands.demo",
        "demo",
        "Run a broker, a gateway and a simulated fleet on this machine.",
    ),
    "site": ("deploy.commands.site", "site", "Install, run, show and stop a whole site."),
    "simulate": ("deploy.commands.gateway", "simulate", "Publish a simulated fleet to a broker."),
    "replay": ("deploy.commands.replay", "replay", "Publish a recorded data set over MQTT."),
    "dead-letters": (
        "deploy.commands.deadletters",
        "dead_letters",
        "List, replay or delete refused messages and late readings.",
    ),
    "log": (
        "deploy.commands.log",
        "log",
        "Repair a gateway's log, or accept what it has lost.",
    ),
    "explain": (
        "deploy.commands.explain",
        "explain",
        "Tell which channels moved a score of a device, and when.",
    ),
    "models": (
        "deploy.commands.models",
        "models",
        "List, add, publish, promote or roll back students.",
    ),
    "certs": (
        "deploy.commands.certs",
        "certs",
        "Make certificates for a trial of TLS on a site.",
    ),
    "dashboards": (
        "deploy.commands.dashboards",
        "dashboards",
        "Push, compare, fetch or render boards and alerts for Grafana.",
    ),
    "bridge": ("deploy.commands.bridge", "bridge", "Run a bridge of a site: MQTT to Kafka."),
    "worker": ("deploy.commands.worker", "worker", "Run a worker of a site: windows and scores."),
    "store": ("deploy.commands.store", "store", "Run a store of a site: Kafka to InfluxDB."),
    "doctor": (
        "deploy.doctor.command",
        "doctor",
        "Check broker, log, models, results, clock, disk.",
    ),
}

# Command -> extra that it needs, if that is not [gateway]
_EXTRAS = {"demo": "demo", "site": "site"}


class _LazyGroup(click.Group):
    """Imports a command's module when it is called, so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        try:
            command: Any = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as exc:
            message = (
                f"{cmd_name} needs the package {exc.name!r}, which is not installed; "
                f"run: {install_command(_EXTRAS.get(cmd_name, 'gateway'))}"
            )
            raise click.ClickException(message) from exc
        assert isinstance(command, click.Command)  # noqa: S101 - true for the table above
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
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup)
@click.version_option(package_name="kpstream")
def main() -> None:
    """Score MQTT sensor streams on a gateway with small ONNX students."""


if __name__ == "__main__":
    main()

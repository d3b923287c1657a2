"""The command ``kpstream``; the module of a subcommand is imported when it is called."""

from __future__ import annotations

import click

from deploy.commands.lazygroup import LazyGroup

__all__ = ["main"]

# Command -> (module, attribute, line of text in the overview)
_COMMANDS = {
    "gateway": (
        "deploy.commands.gateway",
        "gateway",
        "Run the gateway: bridge, scoring, store, console.",
    ),
    "gateway-update": (
        "deploy.commands.gatewayupdate",
        "gateway_update",
        "Install the software that the centre has released for this gateway.",
    ),
    "demo": (
        "deploy.commands.demo",
        "demo",
        "Run a broker, a gateway and a simulated fleet on this machine.",
    ),
    "site": ("deploy.commands.site", "site", "Install, run, show and stop a whole site."),
    "simulate": ("deploy.commands.gateway", "simulate", "Publish a simulated fleet to a broker."),
    "replay": ("deploy.commands.replay", "replay", "Publish a recorded data set over MQTT."),
    "map": (
        "deploy.commands.mapping",
        "mapping",
        "Try, draft and copy mapping files, for devices as they are.",
    ),
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
    "label": (
        "deploy.commands.label",
        "label",
        "Say what happened to a device: failed, replaced, a named span, a wrong score.",
    ),
    "record": (
        "deploy.commands.record",
        "record",
        "Keep raw readings and labels as files to train on.",
    ),
    "explain": (
        "deploy.commands.explain",
        "explain",
        "Tell which channels moved a score of a device, and when.",
    ),
    "devices": (
        "deploy.commands.devices",
        "devices",
        "Acknowledge alarms of devices, or take devices out of use.",
    ),
    "drift": (
        "deploy.commands.drift",
        "drift",
        "Tell which streams read something else than their students learned.",
    ),
    "examples": (
        "deploy.commands.examples",
        "examples",
        "List the labels that are examples of an activity.",
    ),
    "mount": (
        "deploy.commands.mount",
        "mount",
        "Measure how a motion sensor is worn, and turn its readings.",
    ),
    "models": (
        "deploy.commands.models",
        "models",
        "List, add, publish, promote or roll back students.",
    ),
    "centre": (
        "deploy.commands.centre",
        "centre",
        "Sign students and release them, in steps, to the gateways.",
    ),
    "bundle": (
        "deploy.commands.bundle",
        "bundle",
        "Make and check the offline bundle of a gateway.",
    ),
    "certs": (
        "deploy.commands.certs",
        "certs",
        "Make certificates for a trial of TLS on a site.",
    ),
    "fleet": ("deploy.commands.fleet", "fleet", "Install and upgrade many gateways over ssh."),
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
_EXTRAS = {"demo": "demo", "site": "site", "record": "record"}


@click.group(cls=LazyGroup, table=_COMMANDS, extras=_EXTRAS)
@click.version_option(package_name="kpstream")
def main() -> None:
    """Score MQTT sensor streams on a gateway with small ONNX students."""


if __name__ == "__main__":
    main()

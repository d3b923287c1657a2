"""`make chaos`: run the chaos ledger and write its table."""

from __future__ import annotations

import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import click

from deploy.stack.servers import INFLUX_VERSION, KAFKA_VERSION, find_servers
from tests.chaos.ledger import ChaosFailed, Outcome, run_chaos

_OUT = Path("docs/results/chaos.md")


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=50, help="Faults.")
@click.option("--devices", default=50, help="Devices, each with a message of 10 readings a second.")
@click.option("--seed", default=0, help="Of the faults and of what devices send twice.")
@click.option(
    "--longest-pause", default=60.0, help="Seconds of the longest pause; 10 the shortest."
)
@click.option("--out", type=click.Path(path_type=Path), default=_OUT, help="Where the table goes.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder of the site, kept.")
def main(
    rounds: int, devices: int, seed: int, longest_pause: float, out: Path, keep: Path | None
) -> None:
    """Kill and pause every part of a site; account for every reading and every window."""
    servers = find_servers()
    if servers.kafka_libs is None or servers.influxd is None or servers.java is None:
        click.echo("chaos: Kafka and InfluxDB are needed: run kpstream site install", err=True)
        sys.exit(2)
    with tempfile.TemporaryDirectory(prefix="kpstream-chaos-") as scratch:
        try:
            outcome = run_chaos(
                keep or Path(scratch),
                rounds=rounds,
                devices=devices,
                seed=seed,
                longest_pause_s=longest_pause,
                say=click.echo,
            )
        except ChaosFailed as exc:
            click.echo(f"chaos: the promise was NOT kept.\n{exc}", err=True)
            sys.exit(1)
    text = _table(outcome, f"--rounds {rounds} --devices {devices} --seed {seed}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    click.echo(text)


def _table(outcome: Outcome, options: str) -> str:
    """The result as Markdown."""
    account = outcome.account
    kills = sum(fault.kind == "kill" for fault, _ in outcome.faults)
    paused_s = [fault.pause_s for fault, _ in outcome.faults if fault.kind == "pause"]
    victims = sorted({fault.victim for fault, _ in outcome.faults})
    lines = [
        "# Chaos ledger",
        "",
        f'Written by `make chaos ARGS="{options}"`. What is done and what must hold: '
        "[delivery.md](../delivery.md).",
        "",
        f"Linux {platform.release()}, Python {platform.python_version()}, faust-streaming "
        f"{version('faust-streaming')}, aiokafka {version('aiokafka')}, Kafka {KAFKA_VERSION}, "
        f"InfluxDB {INFLUX_VERSION}.",
        "",
        "| | |",
        "|---|---|",
        f"| rounds | {len(outcome.faults)}: {kills} kills, {len(paused_s)} pauses of "
        f"{min(paused_s, default=0):.0f} to {max(paused_s, default=0):.0f} s |",
        f"| seconds | {outcome.seconds:.0f}, of these {outcome.settled_s:.0f} after the devices |",
        f"| devices | {outcome.devices} |",
        f"| readings sent | {account.readings:,} |",
        f"| messages sent twice on purpose | {outcome.sent_twice:,} |",
        f"| messages sent out of order on purpose | {outcome.sent_late:,} |",
        f"| messages sent again after a lost connection | {outcome.sent_again:,} |",
        f"| readings windowed | {account.windowed:,} |",
        f"| readings missing | {account.readings - account.windowed:,} |",
        f"| copies counted (duplicate + late) | {account.duplicate:,} + {account.late:,} |",
        f"| readings dead-lettered | {account.dead_lettered:,} |",
        f"| windows expected, each with exactly one point | {account.windows:,} |",
        f"| largest difference to the offline score | {account.furthest:.1e} |",
        "",
        "| program | killed | paused | started again |",
        "|---|---|---|---|",
    ]
    for victim in victims:
        done = [fault.kind for fault, _ in outcome.faults if fault.victim == victim]
        again = outcome.restarts.get(victim, 0)
        lines.append(f"| {victim} | {done.count('kill')} | {done.count('pause')} | {again} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

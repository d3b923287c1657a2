"""`make bench-site`: throughput and latency of bridge, worker, store and a whole site.

The processes are those of `kpstream bridge`, `worker` and `store`; the measured process has a core
of its own as far as two cores allow; the servers are real. CPU time is that of the whole process.
The benchmark prints targets and asserts nothing. It takes about five minutes, also with `--profile`
(needs py-spy), whose figures include the profiler.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deploy.stack.servers import find_servers
from ingest.mqtt.broker import mosquitto_program
from tests.bench.siteparts import measure_log, measure_pipeline, measure_store
from tests.bench.siterig import Rig
from tests.bench.sitetable import markdown, rows_of, shown

_PARTS = ("log-1", "log-10", "log-50", "store", "line")
_PAGE = Path("docs/results/site-bench.md")


@click.command(context_settings={"show_default": True})
@click.option("--only", multiple=True, type=click.Choice(_PARTS), help="This part; repeatable.")
@click.option("--scale", default=1.0, help="Of all amounts; 0.2 takes a good minute.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="The numbers, too.")
@click.option(
    "--out", type=click.Path(path_type=Path), help=f"Write the table here; whole runs: {_PAGE}"
)
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Folder for profiles, made with py-spy."
)
def main(
    only: tuple[str, ...],
    scale: float,
    json_file: Path | None,
    out: Path | None,
    profile: Path | None,
) -> None:
    """Measure a site: messages into Kafka, readings per worker, points into InfluxDB, latency."""
    servers = find_servers()
    if servers.kafka_libs is None or servers.influxd is None or servers.java is None:
        raise click.ClickException("Kafka and InfluxDB are needed: run kpstream site install")
    if mosquitto_program() is None:
        raise click.ClickException("mosquitto is needed: apt-get install mosquitto")
    os.environ["OMP_NUM_THREADS"] = "1"
    numbers: dict[str, Any] = {}
    screen = Console(width=150)
    with tempfile.TemporaryDirectory(prefix="kpstream-bench-") as folder:
        rig = Rig(Path(folder), scale, None if profile is None else profile.absolute())
        for name in only or _PARTS:
            with screen.status(f"measuring {name}"):
                found = _MEASURE[name](rig.below(name))
            numbers[name] = found
            screen.print(f"{name} done", style="dim")
    rows = rows_of(numbers)
    screen.print(shown(rows))
    is_whole = not only and scale == 1.0 and profile is None
    page = out or (_PAGE if is_whole else None)
    if page is not None:
        options = "" if is_whole else f' ARGS="--scale {scale:g} {" ".join(only)}"'
        page.write_text(markdown(rows, f"make bench-site{options}"))
        screen.print(f"written to {page}")
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, default=asdict, indent=2) + "\n")


_MEASURE: dict[str, Callable[[Rig], Any]] = {
    "log-1": lambda rig: measure_log(rig, 60_000, 1),
    "log-10": lambda rig: measure_log(rig, 60_000, 10),
    "log-50": lambda rig: measure_log(rig, 30_000, 50, two_workers=True),
    "store": lambda rig: measure_store(rig, 120_000, (1, 5, 50)),
    "line": lambda rig: measure_pipeline(rig, 40_000, 500.0, 20.0),
}


if __name__ == "__main__":
    main()

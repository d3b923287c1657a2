"""The figures of the site's benchmark as text: on the screen, and as a page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.table import Table

from deploy.stack.servers import INFLUX_VERSION, KAFKA_VERSION
from tests.bench.siteparts import Log, Pipeline
from tests.bench.siterig import Run

__all__ = ["Row", "markdown", "rows_of", "shown"]

_PACKAGES = ("faust-streaming", "aiokafka", "influxdb-client", "paho-mqtt", "onnxruntime", "orjson")
_COLUMNS = ("measured", "per second", "per CPU-second", "aim", "ratio", "beside")


class Row(NamedTuple):
    """One line of the table."""

    measured: str
    per_second: str = ""
    per_cpu_second: str = ""
    aim: str = ""
    ratio: str = ""
    beside: str = ""


def rows_of(numbers: Mapping[str, Any]) -> list[Row]:
    """The table of the measured parts."""
    logs = [numbers[name] for name in ("log-1", "log-10", "log-50") if name in numbers]
    rows: list[Row] = []
    for log in logs:
        aim = 8_000 if log.readings < 50 else None
        what = f"bridge: messages confirmed, of {log.readings}"
        bundled = f"{log.messages_per_record:.0f} messages a record"
        rows.append(_rate(what, log.bridge, aim, bundled))
    for log in logs:
        rows += _of_workers(log)
    for size, run in numbers.get("store", {}).items():
        what = f"store: points stored, {size} a record of the log"
        rows.append(_rate(what, run, 20_000))
    if "line" in numbers:
        rows += _of_pipeline(numbers["line"])
    return rows


def _of_workers(log: Log) -> Iterator[Row]:
    beside = f"{log.worker.cpu_seconds_per_million:.1f} CPU-s per million readings"
    aim = 100_000 if log.readings == 50 else None
    what = f"worker: readings to scores, {log.readings} a message"
    yield _rate(what, log.worker, aim, f"{beside}; {log.scores_per_record:.1f} scores a record")
    if log.workers is not None:
        two = log.workers
        faster = two.per_second / log.worker.per_second
        beside = (
            f"{two.cpu_seconds_per_million:.1f} CPU-s per million readings; x {faster:.2f}, the "
            "second beside Kafka"
        )
        yield _rate(f"two workers: readings, {log.readings} a message", two, None, beside)


def _of_pipeline(line: Pipeline) -> Iterator[Row]:
    limit = line.limit
    beside = f"{limit.per_second * 10:,.0f} readings/s; CPU-s of bridge, worker and store"
    yield _rate("whole line, nothing pinned: messages of 10", limit, None, beside)
    for at, share in zip(line.latencies, ("modest", "half its limit"), strict=True):
        requested, reached = at.rate
        yield Row(
            f"whole line, {share}: messages of 10",
            f"{reached:,.0f}",
            beside=f"{requested:,.0f} requested; {at.devices} devices; "
            f"{at.points:,} points in InfluxDB of {at.scores:,} scores; "
            f"{at.scores_per_record:.1f} scores a record; cores: "
            + ", ".join(f"{name} {used:.0%}" for name, used in at.cpu.items()),
        )
        ratio = f"{at.stored[1] / 1000:.2f}"
        yield _times("window's end to InfluxDB", at.stored, "p99 < 1,000", ratio)
        yield _times("window's end to Kafka", at.scored)
        yield _times("window's end to the answer of a query", at.seen, beside="of 5 devices")
    sizes = ", ".join(f"{name} {size:.0f}" for name, size in line.rss_mb.items())
    yield Row("RSS, MB", beside=sizes)


def _rate(what: str, run: Run, aim: int | None, beside: str = "") -> Row:
    aimed = ("", "") if aim is None else (f"{aim:,}", f"{run.per_cpu_second / aim:.2f}")
    beside = f"{beside}; " if beside else ""
    beside += f"Kafka {run.kafka_cpu_seconds / run.seconds:.0%} of a core, {run.rss_mb:.0f} MB"
    return Row(what, f"{run.per_second:,.0f}", f"{run.per_cpu_second:,.0f}", *aimed, beside)


def _times(
    what: str, found: tuple[float, float], aim: str = "", ratio: str = "", beside: str = ""
) -> Row:
    return Row(
        f"{what}: p50 / p99", f"{found[0]:,.0f} / {found[1]:,.0f} ms", "", aim, ratio, beside
    )


def shown(rows: Sequence[Row]) -> Table:
    """The table for the screen."""
    table = Table(title="a site, with real servers", title_justify="left", caption=_machine())
    table.add_column("measured", min_width=46)
    for name in _COLUMNS[1:-1]:
        table.add_column(name, justify="right")
    table.add_column("beside", ratio=1)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(rows: Sequence[Row], command: str) -> str:
    """The table as a page."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        "# Benchmark of a site",
        "",
        f"Written by `{command}` on {day}. What is measured is one process of `kpstream bridge`,",
        "`worker` or `store` on a core of its own; Kafka, InfluxDB, mosquitto and the load have",
        "the other core. Figures per CPU-second count all threads of the process, the system's",
        "part included, so they do not depend on the number of cores. Messages hold nine channels",
        "with four decimals of noise. Latency is of the whole line with nothing pinned, from the",
        "end of a window (event time): it has the 200 ms in it for which late readings are waited,",
        "and up to 200 ms more until a device sends its next message of ten readings.",
        "",
        _machine(),
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|---:|---:|---:|---:|---|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n" + _PROFILE


_PROFILE = """
## Where the time goes

`make bench-site ARGS="--profile FOLDER"` samples the stacks of what is measured (needs py-spy).
What it said when this was last looked into:

- **Bridge:** with fifty readings a message, a third of its time goes into checking the bodies
  (JSON, every number), a third into zstd, the rest into MQTT packets and asyncio. Before, gzip
  took four fifths: aiokafka drives it at level 9, 86 us for a message of ten readings where zstd
  takes 4 us for about the same size. That was 8,300 messages of ten readings per CPU-second, and
  1,500 of fifty.
- **Worker:** with ten readings a message, a third goes into reading bundles (JSON, checks), under a
  half into columns and windows, the rest into Faust and Kafka's client; the students take one or
  two per cent. The cost is by message: with one reading in it 33 us, with fifty 200 us.
- **Latency:** at half of the limit, p99 from a window's end to InfluxDB was 5.5 s, with a third of
  the machine idle. Faust waits up to a second when the buffers of partitions are nearly full, and
  the worker had nothing to do meanwhile; since then its agents take whole fetches, without Faust's
  buffers (`pipeline/log/kafkatransport.py`).
- **Store:** the cost is by record of the log: about 60 us in Faust (110 to 150 us before they were
  handed over without tasks: 6,600 to 8,900 single scores per CPU-second then, 15,500 to 17,400
  after), and about 10 us for a point in it. A quiet line writes two scores a record, a busy one
  five and more.
"""


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{model}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB, load "
        f"{os.getloadavg()[2]:.1f} over the last quarter of an hour, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, Kafka "
        f"{KAFKA_VERSION}, InfluxDB {INFLUX_VERSION}, {versions}."
    )

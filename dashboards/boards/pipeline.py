"""The pipeline board: readiness, speed, backlog and resources of the processes. Pure."""

from __future__ import annotations

from dashboards.queries import processes
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import PIPELINE_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    NO_PROCESS,
    READY_STATES,
    age,
    count,
    field_names,
    rate,
    series_name,
    span_ms,
)
from dashboards.visuals.views import AlertList, Column, Lines, Style, Table, Timeline

__all__ = ["pipeline_board"]

_NO_BACKLOG = "no process has reported a backlog in this time range"


def pipeline_board(limits: Limits) -> Board:
    """The board of all processes: readiness and throughput."""
    return Board(
        PIPELINE_UID,
        "kpstream: pipeline",
        "The processes of the pipeline: readiness, speed, backlog, resources.",
        [
            Row("Processes", _processes(limits)),
            Row("Speed", _speed()),
            Row("Lag", _backlog(limits)),
            Row("Resources", _resources()),
        ],
    )


def _processes(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "processes",
            "Processes, those not ready first",
            "The newest account of every process. A great age means that the process no longer "
            "reports: it has stopped, or was removed.",
            Table(
                (
                    Column("role", "Role"),
                    Column("gateway", "Process"),
                    Column("ready", "State", Style("", mappings=READY_STATES), cell="colour"),
                    Column("problems", "Problems"),
                    Column("up_s", "Up for", Style("", "s", decimals=0)),
                    Column("rss_bytes", "Memory", Style("", "bytes")),
                    Column(
                        "age_s",
                        "Age",
                        age(limits, "", limit_s=limits.process_s),
                        cell="colour",
                    ),
                )
            ),
            Style(NO_PROCESS),
            [processes.PROCESSES],
            16,
            8,
        ),
        Panel(
            "alerts",
            "Alerts",
            "Alerts of kpstream that are firing or pending; each says what to do.",
            AlertList(),
            Style("no alert"),
            (),
            8,
            8,
        ),
        Panel(
            "ready",
            "Ready",
            "Readiness of each process; a gap means that the process did not report.",
            Timeline(),
            Style(NO_PROCESS, mappings=READY_STATES, name=series_name("role", "gateway")),
            [processes.READY],
            24,
            7,
        ),
    ]


def _speed() -> list[Panel]:
    return [
        Panel(
            "rates",
            "From MQTT to InfluxDB",
            "Messages received and messages durable in the log; scores made and points confirmed "
            "by InfluxDB. Compare within each pair only, because messages carry several readings "
            "and windows overlap.",
            Lines(),
            rate(NO_PROCESS, "", ""),
            [processes.RATES],
            12,
            9,
            field_names(
                messages_received="messages received",
                messages_logged="messages in the log",
                scored="scores",
                stored="points stored",
            ),
        ),
        Panel(
            "latencies",
            "Latency of the last minute",
            "Half of all windows are faster than p50, 99 of 100 are faster than p99: from the "
            "event time or the receipt to the score, and from the event time to the stored point. "
            "The slowest process counts.",
            Lines(),
            span_ms("no latency in this time range"),
            [processes.LATENCIES],
            12,
            9,
        ),
    ]


def _backlog(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "backlog",
            "Backlog",
            "Records in the log that a group has not committed, over all partitions. The backlog "
            "may rise for a while; it must fall again.",
            Lines(),
            Style(_NO_BACKLOG, "suffix: records", minimum=0, name=series_name("group", "topic")),
            [processes.BACKLOG],
            12,
            8,
        ),
        Panel(
            "standing-still",
            "No progress",
            "How long the partition that has stalled longest has had a backlog and no progress.",
            Lines(show_thresholds=True),
            Style(
                _NO_BACKLOG,
                "ms",
                minimum=0,
                thresholds=((None, "green"), (1000 * limits.still_s, "red")),
                name=series_name("group", "topic"),
            ),
            [processes.STALLED],
            12,
            8,
        ),
        _partitions(limits),
    ]


def _partitions(limits: Limits) -> Panel:
    return Panel(
        "lag-table",
        "Partitions",
        "The process that reads each partition, and its backlog.",
        Table(
            (
                Column("group", "Group"),
                Column("topic", "Topic"),
                Column("number", "Partition", count("")),
                Column("gateway", "Process"),
                Column("end_offset", "End", count("")),
                Column("backlog", "Backlog", count("")),
                Column(
                    "still_ms",
                    "No progress",
                    Style(
                        "",
                        "ms",
                        thresholds=((None, "green"), (1000 * limits.still_s, "red")),
                        colour="thresholds",
                    ),
                    cell="colour",
                ),
                Column("age_s", "Age", age(limits, "", limit_s=limits.process_s)),
            )
        ),
        Style(_NO_BACKLOG),
        [processes.PARTITIONS],
        24,
        10,
    )


def _resources() -> list[Panel]:
    return [
        Panel(
            "cpu",
            "CPU",
            "CPU cores in use, by process.",
            Lines(stack="normal", fill=30),
            Style(NO_PROCESS, "suffix: cores", minimum=0, name=series_name("role", "gateway")),
            [processes.CPU],
            8,
            8,
        ),
        Panel(
            "memory",
            "Memory",
            "Resident memory, by process. It must not rise without end.",
            Lines(),
            Style(NO_PROCESS, "bytes", minimum=0, name=series_name("role", "gateway")),
            [processes.MEMORY],
            8,
            8,
        ),
        Panel(
            "log-fill",
            "Log of the gateways",
            "Share of its disk cap that the log of a gateway uses; a site on Kafka has no such "
            "log.",
            Lines(show_thresholds=True),
            Style(
                "no gateway with its own log",
                "percentunit",
                minimum=0,
                maximum=1,
                thresholds=((None, "green"), (0.7, "red")),
                name=series_name("role", "gateway"),
            ),
            [processes.LOG_FILL],
            8,
            8,
        ),
    ]

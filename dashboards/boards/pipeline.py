"""The board of the processes: ready or not, how fast, how far behind, what they use. Pure."""

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

_NO_LAG = "no process has reported its lag in this time range"


def pipeline_board(limits: Limits) -> Board:
    """How the processes are and whether they keep up."""
    return Board(
        PIPELINE_UID,
        "kpstream: pipeline",
        "The processes of the line: ready or not, how fast, how far behind, what they use.",
        [
            Row("Processes", _processes(limits)),
            Row("Speed", _speed()),
            Row("Lag", _lag(limits)),
            Row("Resources", _resources()),
        ],
    )


def _processes(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "processes",
            "Processes, those that are not ready first",
            "What every process says of itself. An old age means that it says nothing any more: "
            "it has died, or was taken away.",
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
            "Alerts of kpstream that fire or are about to; each says what to do.",
            AlertList(),
            Style("no alert"),
            (),
            8,
            8,
        ),
        Panel(
            "ready",
            "Ready",
            "A hole is a time in which a process said nothing.",
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
            "Messages received and durable in the log; scores made; points confirmed by InfluxDB. "
            "Messages carry several readings, windows overlap: the first two belong together, "
            "and the last two.",
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
            "Half of all windows (p50) and all but one in a hundred (p99): from the sensor's time "
            "or the receipt to the score, and from the sensor's time to the stored point. The "
            "slowest process counts.",
            Lines(),
            span_ms("no latency has been measured in this time range"),
            [processes.LATENCIES],
            12,
            9,
        ),
    ]


def _lag(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "backlog",
            "Backlog",
            "Records in the log that a group has not committed, over all partitions. It may rise "
            "for a while; it must fall again.",
            Lines(),
            Style(_NO_LAG, "suffix: records", minimum=0, name=series_name("group", "topic")),
            [processes.BACKLOG],
            12,
            8,
        ),
        Panel(
            "standing-still",
            "Standing still",
            "How long the partition that is stuck longest has not moved in spite of a backlog.",
            Lines(show_thresholds=True),
            Style(
                _NO_LAG,
                "ms",
                minimum=0,
                thresholds=((None, "green"), (1000 * limits.still_s, "red")),
                name=series_name("group", "topic"),
            ),
            [processes.STALLED],
            12,
            8,
        ),
        Panel(
            "lag-table",
            "Partitions",
            "Who reads which partition, and how far it is behind.",
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
                        "Standing still",
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
            Style(_NO_LAG),
            [processes.PARTITIONS],
            24,
            10,
        ),
    ]


def _resources() -> list[Panel]:
    return [
        Panel(
            "cpu",
            "CPU",
            "Cores in use, by process.",
            Lines(stack="normal", fill=30),
            Style(NO_PROCESS, "suffix: cores", minimum=0, name=series_name("role", "gateway")),
            [processes.CPU],
            8,
            8,
        ),
        Panel(
            "memory",
            "Memory",
            "Resident memory, by process. It must not rise for ever.",
            Lines(),
            Style(NO_PROCESS, "bytes", minimum=0, name=series_name("role", "gateway")),
            [processes.MEMORY],
            8,
            8,
        ),
        Panel(
            "log-fill",
            "Log of the gateways",
            "Share of its disk cap that a gateway's own log uses; a site on Kafka has none.",
            Lines(show_thresholds=True),
            Style(
                "no gateway with a log of its own",
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

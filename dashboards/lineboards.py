"""The boards about the line itself: students, processes and lag, the delivery account. Pure."""

from __future__ import annotations

from dashboards import linequeries as line
from dashboards import scorequeries as scores
from dashboards.boards import MODELS_VARIABLE, SITES_VARIABLE, Board, Row, link_to
from dashboards.limits import Limits
from dashboards.looks import (
    READY_WORDS,
    age,
    count,
    line_name,
    outcome_overrides,
    rate,
    share,
    span_ms,
)
from dashboards.machineboards import DEVICE_UID
from dashboards.panels import (
    AlertList,
    Column,
    Grid,
    Lines,
    Note,
    Override,
    Panel,
    Stat,
    Style,
    Timeline,
)

__all__ = [
    "ACCOUNT_UID",
    "MODEL_UID",
    "PIPELINE_UID",
    "account_board",
    "model_board",
    "pipeline_board",
]

MODEL_UID = "kpstream-model"
PIPELINE_UID = "kpstream-pipeline"
ACCOUNT_UID = "kpstream-account"

_NO_SCORES = "no scores in this time range"
_NO_PROCESS = "no process has reported in this time range"
_NO_LETTERS = "no dead letters in this time range"
_NO_LAG = "no process has reported its lag in this time range"
_HEALTH_WORDS = {"0": ("unhealthy", "red"), "1": ("healthy", "green")}


def model_board(limits: Limits) -> Board:
    """Which student scores what, and how it does."""
    return Board(
        MODEL_UID,
        "kpstream: model",
        "Which version of which student scores, what was refused, and how the scores behave.",
        [
            Row("Versions", _versions(limits)),
            Row("Behaviour", _behaviour()),
        ],
        [SITES_VARIABLE, MODELS_VARIABLE],
        since="now-6h",
    )


def _versions(limits: Limits) -> list[Panel]:
    silent = "no process has reported a student in this time range"
    return [
        Panel(
            "models-now",
            "Students now",
            "What every process scores with. Unhealthy: no version scores, or a newer one was "
            "refused; the error says why, and the version before it keeps scoring.",
            Grid(
                (
                    Column("model", "Model"),
                    Column("task", "Task"),
                    Column("stream", "Stream"),
                    Column("gateway", "Process"),
                    Column("version", "Version", count("")),
                    Column("healthy", "Health", Style("", words=_HEALTH_WORDS), cell="colour"),
                    Column("refused_version", "Refused version", count("")),
                    Column("error", "Error"),
                    Column("age_s", "Age", age(limits, "", limit_s=limits.process_s)),
                )
            ),
            Style(silent),
            [line.MODELS_NOW],
            24,
            7,
        ),
        Panel(
            "model-health",
            "Health",
            "By student and process.",
            Timeline(),
            Style(silent, words=_HEALTH_WORDS, name=line_name("model", "gateway")),
            [line.MODEL_HEALTH],
            12,
            7,
        ),
        Panel(
            "model-versions",
            "Version by process",
            "During a rollout the processes change one after the other.",
            Lines(stepped=True),
            Style(silent, decimals=0, low=0, name=line_name("model", "gateway")),
            [line.MODEL_VERSIONS],
            12,
            7,
        ),
        Panel(
            "devices-of-versions",
            "Devices by version",
            "How many devices got their newest score from which version.",
            Grid(
                (
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("devices", "Devices", count("")),
                    Column("newest", "Newest score", Style("", "dateTimeAsIso")),
                )
            ),
            Style(_NO_SCORES),
            [scores.DEVICES_OF_VERSIONS],
            10,
            7,
        ),
        Panel(
            "rollouts",
            "Rollouts",
            "What took over and what was refused in the time range, as the marks in the charts.",
            Grid(
                (
                    Column("_time", "When", Style("", "dateTimeAsIso")),
                    Column("model", "Model"),
                    Column("event", "Event", Style("", words=_EVENT_WORDS), cell="colour"),
                    Column("version", "Version", count("")),
                    Column("gateway", "Process"),
                    Column("text", "Text"),
                )
            ),
            Style("no rollout in this time range"),
            [line.ROLLOUTS],
            14,
            7,
        ),
    ]


_EVENT_WORDS = {"swapped": ("took over", "green"), "refused": ("refused", "red")}


def _behaviour() -> list[Panel]:
    return [
        Panel(
            "scores-of-models",
            "Scores",
            "Windows scored, by student.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(_NO_SCORES, line_name("model")).in_palette(),
            [scores.SCORES_OF_MODELS],
            8,
            8,
        ),
        Panel(
            "latency-of-models",
            "Receipt to score",
            "The longest time of a window, by student.",
            Lines(),
            span_ms(_NO_SCORES, line_name("model")),
            [scores.LATENCY_OF_MODELS],
            8,
            8,
        ),
        Panel(
            "certainty",
            "Probability of the chosen class",
            "Mean over all people. A fall after a rollout speaks against the new version.",
            Lines(),
            share("no activity scores in this time range", line_name("model")),
            [scores.CERTAINTY],
            8,
            8,
        ),
        Panel(
            "rul-of-models",
            "Mean remaining useful life",
            "Over all machines. A jump at a rollout is the new version's doing, not the machines'.",
            Lines(),
            Style(
                "no RUL scores in this time range", "suffix: cycles", low=0, name=line_name("model")
            ),
            [scores.RUL_OF_MODELS],
            12,
            8,
        ),
        Panel(
            "interval-width",
            "Mean width of the intervals",
            "Wider means less sure. It should not change much without a rollout.",
            Lines(),
            Style(
                "no intervals in this time range", "suffix: cycles", low=0, name=line_name("model")
            ),
            [scores.INTERVAL_WIDTH],
            12,
            8,
        ),
    ]


# -------------------------------------------------------------------------------------- pipeline


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
            Grid(
                (
                    Column("role", "Role"),
                    Column("gateway", "Process"),
                    Column("ready", "State", Style("", words=READY_WORDS), cell="colour"),
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
            Style(_NO_PROCESS),
            [line.PROCESSES],
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
            Style(_NO_PROCESS, words=READY_WORDS, name=line_name("role", "gateway")),
            [line.READY],
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
            rate(_NO_PROCESS, "", ""),
            [line.RATES],
            12,
            9,
            _field_words(
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
            [line.LATENCIES],
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
            Style(_NO_LAG, "suffix: records", low=0, name=line_name("group", "topic")),
            [line.BACKLOG],
            12,
            8,
        ),
        Panel(
            "standing-still",
            "Standing still",
            "How long the partition that is stuck longest has not moved in spite of a backlog.",
            Lines(show_steps=True),
            Style(
                _NO_LAG,
                "ms",
                low=0,
                steps=((None, "green"), (1000 * limits.still_s, "red")),
                name=line_name("group", "topic"),
            ),
            [line.STANDING_STILL],
            12,
            8,
        ),
        Panel(
            "lag-table",
            "Partitions",
            "Who reads which partition, and how far it is behind.",
            Grid(
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
                            steps=((None, "green"), (1000 * limits.still_s, "red")),
                            colour="steps",
                        ),
                        cell="colour",
                    ),
                    Column("age_s", "Age", age(limits, "", limit_s=limits.process_s)),
                )
            ),
            Style(_NO_LAG),
            [line.LAG_TABLE],
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
            Style(_NO_PROCESS, "suffix: cores", low=0, name=line_name("role", "gateway")),
            [line.CPU],
            8,
            8,
        ),
        Panel(
            "memory",
            "Memory",
            "Resident memory, by process. It must not rise for ever.",
            Lines(),
            Style(_NO_PROCESS, "bytes", low=0, name=line_name("role", "gateway")),
            [line.MEMORY],
            8,
            8,
        ),
        Panel(
            "log-fill",
            "Log of the gateways",
            "Share of its disk cap that a gateway's own log uses; a site on Kafka has none.",
            Lines(show_steps=True),
            Style(
                "no gateway with a log of its own",
                "percentunit",
                low=0,
                high=1,
                steps=((None, "green"), (0.7, "red")),
                name=line_name("role", "gateway"),
            ),
            [line.LOG_FILL],
            8,
            8,
        ),
    ]


# ------------------------------------------------------------------------------- delivery account

_ACCOUNT_NOTE = """\
Every reading that arrives is accounted for, per device, always:

**received = windowed + duplicate + late + dead letter**

What the equation leaves over is *missing*, and it is 0. Beside it every message is in the log or \
a dead letter, every window is scored or counted as unscored, and every score becomes a point that \
InfluxDB has confirmed, or a dead letter.
"""


def account_board(limits: Limits) -> Board:
    """What became of everything that arrived."""
    return Board(
        ACCOUNT_UID,
        "kpstream: delivery account",
        "What became of every message, reading, window and score.",
        [
            Row("Balance", _balance()),
            Row("What became of it", _flows()),
            Row("Refused", _refused(limits)),
            Row("Devices", [_accounts()]),
        ],
        [SITES_VARIABLE],
        since="now-6h",
    )


def _balance() -> list[Panel]:
    return [
        Panel("account-note", "How to read this", "", Note(_ACCOUNT_NOTE), Style("-"), (), 14, 6),
        Panel(
            "unbalanced",
            "Accounts that do not balance",
            "Streams of devices whose account leaves readings over. 0, or a defect.",
            Stat(background=True),
            count("no device has reported in this time range", bad_from=1),
            [line.UNBALANCED_NOW],
            10,
            6,
        ),
    ]


def _flows() -> list[Panel]:
    return [
        Panel(
            "account-of-fleet",
            "Readings",
            "Readings by what became of them, over the devices of the sites chosen.",
            Lines(draw="bars", legend=("sum",)),
            count("no device has reported in this time range").in_palette(),
            [line.ACCOUNT_OF_FLEET],
            12,
            9,
            outcome_overrides(),
        ),
        Panel(
            "account-of-line",
            "Messages, scores, points",
            "Messages received, in the log, refused; windows scored and not; points stored and "
            "refused. Over all processes.",
            Lines(draw="bars", legend=("sum",)),
            count(_NO_PROCESS).in_palette(),
            [line.ACCOUNT_OF_LINE],
            12,
            9,
            _field_words(
                messages_received="messages received",
                messages_logged="messages in the log",
                messages_dead_lettered="messages refused",
                scored="windows scored",
                unscored="windows not scored",
                stored="points stored",
                refused_points="points refused",
            ),
        ),
    ]


def _refused(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "dead-letters-by-reason",
            "Dead letters",
            "New letters by reason. `kpstream dead-letters list` shows them with the raw bytes.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(_NO_LETTERS, line_name("reason")).in_palette(),
            [line.DEAD_LETTERS_BY_REASON],
            16,
            8,
        ),
        Panel(
            "dead-letters-total",
            "By reason",
            "New letters in the whole time range.",
            Grid(
                (
                    Column("reason", "Reason"),
                    Column(
                        "letters",
                        "Letters",
                        count("", bad_from=limits.dead_letters),
                        cell="colour",
                    ),
                )
            ),
            Style(_NO_LETTERS),
            [line.DEAD_LETTERS_TOTAL],
            8,
            8,
        ),
    ]


def _accounts() -> Panel:
    number = count("")
    return Panel(
        "account-of-devices",
        "Accounts, the greatest loss first",
        "Since each device was first heard of. Lost is the share of readings that were late or "
        "refused; duplicates are no loss.",
        Grid(
            (
                Column("site", "Site"),
                Column(
                    "device",
                    "Device",
                    link=(
                        "Open the device",
                        link_to(
                            DEVICE_UID,
                            site="${__data.fields.Site}",
                            device="${__data.fields.Device}",
                        ),
                    ),
                ),
                Column("stream", "Stream"),
                Column("received", "Received", number),
                Column("windowed", "Windowed", number),
                Column("duplicate", "Duplicate", number),
                Column("late", "Late", number),
                Column("dead_lettered", "Dead letters", number),
                Column("missing", "Missing", count("", bad_from=1), cell="colour"),
                Column("lost_share", "Lost", Style("", "percentunit", low=0, high=1)),
                Column("gaps", "Gaps", number),
                Column("windows", "Windows", number),
            )
        ),
        Style("no device has reported in this time range"),
        [line.ACCOUNT_OF_DEVICES],
        24,
        12,
    )


def _field_words(**words: str) -> list[Override]:
    return [Override(name, {"displayName": word}) for name, word in words.items()]

"""The board of the delivery account: what became of everything that arrived. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries import devices, processes
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import ACCOUNT_UID, DEVICE_LINK
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import (
    NO_DEVICES,
    NO_PROCESS,
    account_columns,
    count,
    field_names,
    outcome_overrides,
    series_name,
)
from dashboards.visuals.variables import sites_variable
from dashboards.visuals.views import Column, Lines, Note, Stat, Style, Table
from models.tasks.contract import Task

__all__ = ["account_board"]

_NO_LETTERS = "no dead letters in this time range"

_ACCOUNT_NOTE = """\
Every reading that arrives is accounted for, per device, always:

**received = windowed + duplicate + late + dead letter**

What the equation leaves over is *missing*, and it is 0. Beside it every message is in the log or \
a dead letter, every window is scored or counted as unscored, and every score becomes a point that \
InfluxDB has confirmed, or a dead letter.
"""


def account_board(tasks: Sequence[Task], limits: Limits) -> Board:
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
        [sites_variable(tasks)],
        time_from="now-6h",
    )


def _balance() -> list[Panel]:
    return [
        Panel("account-note", "How to read this", "", Note(_ACCOUNT_NOTE), Style("-"), (), 14, 6),
        Panel(
            "unbalanced",
            "Accounts that do not balance",
            "Streams of devices whose account leaves readings over. 0, or a defect.",
            Stat(background=True),
            count(NO_DEVICES, red_from=1),
            [devices.UNBALANCED_NOW],
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
            count(NO_DEVICES).in_palette(),
            [devices.ACCOUNT_OF_FLEET],
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
            count(NO_PROCESS).in_palette(),
            [processes.PROCESS_COUNTS],
            12,
            9,
            field_names(
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
            count(_NO_LETTERS, series_name("reason")).in_palette(),
            [processes.DEAD_LETTERS_BY_REASON],
            16,
            8,
        ),
        Panel(
            "dead-letters-total",
            "By reason",
            "New letters in the whole time range.",
            Table(
                (
                    Column("reason", "Reason"),
                    Column(
                        "letters",
                        "Letters",
                        count("", red_from=limits.dead_letters),
                        cell="colour",
                    ),
                )
            ),
            Style(_NO_LETTERS),
            [processes.DEAD_LETTERS_TOTAL],
            8,
            8,
        ),
    ]


def _accounts() -> Panel:
    return Panel(
        "account-of-devices",
        "Accounts, the greatest loss first",
        "Since each device was first heard of. Lost is the share of readings that were late or "
        "refused; duplicates are no loss. The 500 with the greatest loss.",
        Table(
            (
                Column("site", "Site"),
                Column("device", "Device", link=DEVICE_LINK),
                Column("stream", "Stream"),
                *account_columns(),
                Column("lost_share", "Lost", Style("", "percentunit", minimum=0, maximum=1)),
            )
        ),
        Style(NO_DEVICES),
        [devices.ACCOUNT_OF_DEVICES],
        24,
        12,
    )

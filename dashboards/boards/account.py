"""The account board: the outcome of every message, reading, window and score. Pure."""

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

_NO_DEAD_LETTERS = "no dead letters in this time range"

_ACCOUNT_NOTE = """\
Each received reading of a device has exactly one outcome:

**received = windowed + duplicate + corrected + late + dead letter**

Readings without an outcome are *missing*; their number is 0. In the same way every message is in \
the log or a dead letter, every window is scored or counted as unscored, and every score is a \
point that InfluxDB has confirmed, or a dead letter.
"""


def account_board(tasks: Sequence[Task], limits: Limits) -> Board:
    """The board of the delivery account."""
    return Board(
        ACCOUNT_UID,
        "kpstream: delivery account",
        "The outcome of every message, reading, window and score.",
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
            "Streams of devices with readings that have no outcome. Any number but 0 is a defect "
            "of kpstream.",
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
            "Readings by outcome, over all devices of the selected sites.",
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
            "Messages received, appended to the log and refused; windows scored and not scored; "
            "points stored and refused. Sums over all processes.",
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
            "New dead letters by reason. `kpstream dead-letters list` shows them with their raw "
            "bytes.",
            Lines(draw="bars", stack="normal", legend=("sum",)),
            count(_NO_DEAD_LETTERS, series_name("reason")).in_palette(),
            [processes.DEAD_LETTERS_BY_REASON],
            16,
            8,
        ),
        Panel(
            "dead-letters-total",
            "By reason",
            "New dead letters in the whole time range.",
            Table(
                (
                    Column("reason", "Reason"),
                    Column(
                        "letters",
                        "Dead letters",
                        count("", red_from=limits.dead_letters),
                        cell="colour",
                    ),
                )
            ),
            Style(_NO_DEAD_LETTERS),
            [processes.DEAD_LETTERS_TOTAL],
            8,
            8,
        ),
    ]


def _accounts() -> Panel:
    return Panel(
        "account-of-devices",
        "Accounts, the greatest loss first",
        "Counted since the first reading of each stream. Lost is the share of readings that were "
        "late or refused; a duplicate is no loss. The 500 streams with the greatest loss.",
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

"""The panel of explanations, which the boards of a device and of a task share. Pure."""

from __future__ import annotations

from dashboards.queries.explanations import DEVICE_EXPLANATIONS
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import count
from dashboards.visuals.views import Column, Style, Table

__all__ = ["explanations_panel"]


def explanations_panel() -> Panel:
    """Why scores of the selected device were at alert level."""
    return Panel(
        "device-explanations",
        "Why scores were at alert level",
        "What moved each score at alert level most, as the gateway found by replacing readings; "
        "the newest first, at most 100.",
        Table(
            (
                Column("_time", "When", Style("", "dateTimeAsIso"), width=200),
                Column("channel", "Channel", width=140),
                Column("text", "Explanation"),
                Column("model", "Model", width=160),
                Column("version", "Version", count(""), width=90),
            )
        ),
        Style("no score at alert level was explained in this time range; only gateways explain"),
        [DEVICE_EXPLANATIONS],
        24,
        7,
    )

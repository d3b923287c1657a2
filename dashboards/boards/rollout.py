"""The rollout board: releases of a centre, their steps, and the gateways that follow. Pure."""

from __future__ import annotations

from dashboards.queries import rollouts
from dashboards.visuals.board import Board, Row
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import ROLLOUT_UID
from dashboards.visuals.panels import Panel
from dashboards.visuals.styles import age, count, series_name, share
from dashboards.visuals.variables import rollout_variables
from dashboards.visuals.views import Column, Lines, Override, Style, Table, Timeline

__all__ = ["rollout_board"]

_NO_RELEASE = "no centre has reported a release in this time range"
_NO_GATEWAY = "no gateway has reported to a centre in this time range"

_STATES = {
    "running": ("running", "blue"),
    "complete": ("complete", "green"),
    "paused": ("paused", "red"),
    "aborted": ("aborted", "purple"),
}
_PHASES = {
    "champion": ("champion", "green"),
    "probation": ("probation", "blue"),
    "shadow": ("shadow", "yellow"),
    "waiting": ("waiting", "text"),
    "held": ("held", "purple"),
    "failed": ("failed", "red"),
}
_STANDINGS = {
    "healthy": ("run it in good health", "green"),
    "waiting": ("compare, or have not begun", "yellow"),
    "failed": ("failed", "red"),
    "held": ("held", "purple"),
    "silent": ("silent", "orange"),
}
_FETCH = {
    "ok": ("ok", "green"),
    "off": ("off", "text"),
    "away": ("away", "orange"),
    "expired": ("expired", "red"),
    "clock": ("wrong clock", "red"),
    "refused": ("refused", "red"),
    "full": ("disk full", "red"),
}


def rollout_board(limits: Limits) -> Board:
    """The board of releases and of the gateways that follow them."""
    return Board(
        ROLLOUT_UID,
        "kpstream: rollout",
        "How far each release has come, which gateway runs what, who fell back and why.",
        [
            Row("Releases", _releases(limits)),
            Row("Gateways", _gateways(limits)),
            Row("New student against the old one", _evidence()),
        ],
        rollout_variables(),
        time_from="now-24h",
    )


def _releases(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "releases-now",
            "Releases",
            "The newest release of each student. The remark says what a running release waits "
            "for, and why another one paused or was aborted. A great age means that the centre's "
            "control process does not run, so no release moves.",
            Table(
                (
                    Column("model", "Model"),
                    Column("number", "Release", count("")),
                    Column("version", "Version", count("")),
                    Column("state", "State", Style("", mappings=_STATES), cell="colour"),
                    Column("at_step", "Step"),
                    Column("percent", "Share", Style("", "percent", 0)),
                    Column("members", "Members", count("")),
                    Column("reason", "Remark"),
                    Column("age_s", "Age", age(limits, "", limit_s=limits.process_s)),
                )
            ),
            Style(_NO_RELEASE),
            [rollouts.RELEASES_NOW],
            24,
            6,
        ),
        Panel(
            "release-members",
            "Members of the step",
            "Gateways of the current steps of all selected releases, by what the centre makes of "
            "their reports. The next step begins when all of them are green, apart from those that "
            "are held or silent.",
            Lines(draw="bars", stack="normal", stepped=True),
            count(_NO_RELEASE).in_palette(),
            [rollouts.RELEASE_MEMBERS],
            14,
            8,
            [
                Override(field, {"displayName": name, "color": _fixed(colour)})
                for field, (name, colour) in _STANDINGS.items()
            ],
        ),
        Panel(
            "release-states",
            "State",
            "State of the newest release of each student.",
            Timeline(),
            Style(_NO_RELEASE, mappings=_STATES, name=series_name("model")),
            [rollouts.RELEASE_STATES],
            10,
            8,
        ),
    ]


def _gateways(limits: Limits) -> list[Panel]:
    return [
        Panel(
            "gateways-now",
            "Who runs what",
            "The newest report of each gateway, champions last. Candidate is the version of its "
            "release; the reason says why it failed, is held or waits. `kpstream centre gateways` "
            "lists all of a large fleet.",
            Table(
                (
                    Column("phase", "Phase", Style("", mappings=_PHASES), cell="colour"),
                    Column("gateway", "Gateway"),
                    Column("group", "Group"),
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("release", "Release", count("")),
                    Column("candidate", "Candidate", count("")),
                    Column("windows", "Windows", count("")),
                    Column("reason", "Reason"),
                    Column("fetch", "Centre", Style("", mappings=_FETCH), cell="colour"),
                    Column("software", "Software"),
                    Column("disk_free_mb", "Free disk", Style("", "decmbytes")),
                    Column("age_s", "Age", age(limits, "", limit_s=limits.silent_s)),
                )
            ),
            Style(_NO_GATEWAY),
            [rollouts.GATEWAYS_NOW],
            24,
            10,
        ),
        Panel(
            "fall-backs",
            "Who fell back, and why",
            "Gateways that judged a new student unhealthy in the time range and went on with the "
            "old one.",
            Table(
                (
                    Column("_time", "When", Style("", "dateTimeAsIso")),
                    Column("gateway", "Gateway"),
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("text", "Text"),
                )
            ),
            Style("no gateway fell back in this time range"),
            [rollouts.FALL_BACKS],
            16,
            8,
        ),
        Panel(
            "gateways-of-versions",
            "Gateways by version",
            "Number of gateways whose newest report names each version as the one that scores.",
            Table(
                (
                    Column("model", "Model"),
                    Column("version", "Version", count("")),
                    Column("gateways", "Gateways", count("")),
                )
            ),
            Style(_NO_GATEWAY),
            [rollouts.GATEWAYS_OF_VERSIONS],
            8,
            8,
        ),
        Panel(
            "most-apart",
            "Where a challenger and its champion differ most",
            "One window a second of every comparison: that over which the two students are "
            "furthest apart, with what each answers. These answers are no scores.",
            Table(
                (
                    Column("_time", "When", Style("", "dateTimeAsIso")),
                    Column("site", "Site"),
                    Column("device", "Device"),
                    Column("model", "Model"),
                    Column("version", "Challenger", count("")),
                    Column("challenger", "Its answer"),
                    Column("against", "Other student", count("")),
                    Column("champion", "Other answer"),
                    Column("disagreement", "Apart", share("")),
                )
            ),
            Style("no student was compared in this time range"),
            [rollouts.MOST_APART],
            24,
            8,
        ),
        Panel(
            "gateway-phases",
            "Phase by gateway",
            "What each gateway does with its release. Select one model in a large fleet.",
            Timeline(),
            Style(_NO_GATEWAY, mappings=_PHASES, name=series_name("gateway", "model")),
            [rollouts.GATEWAY_PHASES],
            24,
            10,
        ),
    ]


def _evidence() -> list[Panel]:
    return [
        Panel(
            "rollout-disagreement",
            "Disagreement",
            "Mean disagreement of the two students on the same windows, 0 to 1: the largest of "
            "all gateways that compare.",
            Lines(),
            Style(_NO_GATEWAY, "none", 3, minimum=0, name=series_name("model")),
            [rollouts.DISAGREEMENT],
            12,
            8,
        ),
        Panel(
            "rollout-shift",
            "Shift of the scores",
            "Population stability index of the new student's scores against those of the old one: "
            "the largest of all gateways that compare. Above 0.25 the distributions differ.",
            Lines(),
            Style(_NO_GATEWAY, "none", 3, minimum=0, name=series_name("model")),
            [rollouts.SHIFT],
            12,
            8,
        ),
    ]


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}

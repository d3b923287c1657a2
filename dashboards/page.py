"""The page about boards and alerts, written from them: `docs/dashboards.md`. Pure.

`python -m dashboards.page > docs/dashboards.md` renews it; a test fails when they disagree.
"""

from __future__ import annotations

import sys

from dashboards.alerts.alert import Rule, duration
from dashboards.grafana.provision import TOKEN_VARIABLE, URL_VARIABLE
from dashboards.site import SiteDashboards, site_dashboards

__all__ = ["dashboards_page"]

_HEAD = f"""\
# Boards and alerts

Six boards and the alert rules of a site live as code in `dashboards/`; nothing is drawn by hand.
They read InfluxDB 2 with Flux through Grafana 10 or later (written for the panel types of Grafana
12). Every query is run by the tests against a real InfluxDB; Grafana itself is tested against a
stand-in that checks each request, and for real where `KPSTREAM_GRAFANA_URL` names one.

## To Grafana by its API

In Grafana: Administration > Users and access > Service accounts, add one with the role Admin
(Editor is enough when the data source is there already) and a token. Then:

    export KPSTREAM_GRAFANA_URL=http://127.0.0.1:3000
    export KPSTREAM_GRAFANA_TOKEN=...          # of the service account
    export KPSTREAM_GRAFANA_INFLUX_TOKEN=...   # InfluxDB's token that may read both buckets
    kpstream dashboards push                   # again: changes nothing
    kpstream dashboards diff                   # exit code 1 when Grafana differs from the code
    kpstream dashboards pull somewhere         # what Grafana has, as normalised JSON

A board that somebody saved in Grafana since the last push is not overwritten: `push` then writes
nothing at all and names it (exit code 2). `push --force` overwrites it; Grafana keeps the old
version in its list of versions. Alert rules that were pushed cannot be edited in Grafana's pages.
Folder, data source, buckets and limits are settings: `KPSTREAM_GRAFANA_...` in
[settings](settings.md).

## To Grafana by files

`dashboards/provisioning` is for Grafana's folder of that name, `dashboards/json` for
`/var/lib/grafana/dashboards/kpstream`. Grafana's server needs two environment variables,
`{URL_VARIABLE}` and `{TOKEN_VARIABLE}`. For other limits, names or places:

    kpstream dashboards render somewhere --boards-path /srv/boards

What a file provides belongs to the file: a push to it is refused with a message that says so.

## Who is told

Every alert has the labels `product=kpstream` and `severity` (`critical`: somebody now, `warning`:
somebody today). Contact points and notification policies are your own: route by these labels. An
alert rule whose query fails is in the state Error, never OK.

<!-- From here on written by `python -m dashboards.page > docs/dashboards.md`, from dashboards/. -->
"""


def dashboards_page(site: SiteDashboards) -> str:
    """The whole page as Markdown."""
    lines = [_HEAD, "## Boards", ""]
    for board in site.boards.values():
        lines += [f"### {board.title} (`{board.uid}`)", "", board.description, ""]
        lines += ["| panel | what it answers |", "|---|---|"]
        lines += [
            f"| {panel.title} | {panel.description} |"
            for panel in board.panels
            if panel.description
        ]
        lines.append("")
    lines += ["## Alerts", ""]
    for group in site.groups:
        for rule in group.rules:
            lines += _alert(rule, group.interval_s)
    return "\n".join(lines)


def _alert(rule: Rule, interval_s: int) -> list[str]:
    board, panel = rule.panel
    wait = f", for {duration(rule.for_s)}" if rule.for_s else ""
    return [
        f"### {rule.title} (`{rule.uid}`, {rule.severity})",
        "",
        f"- **When:** `{next(iter(rule.queries))}` {rule.fires_when} {rule.limit:g}{wait}; looked "
        f"at every {duration(interval_s)}, over the last {duration(rule.look_back_s)}.",
        f"- **Means:** {rule.meaning}",
        f"- **What to do:** {rule.action}",
        f"- **Without data:** {rule.no_data[0]}: {rule.no_data[1]}.",
        f"- **Shown by:** panel `{panel}` of `{board}`.",
        "",
    ]


if __name__ == "__main__":
    sys.stdout.write(dashboards_page(site_dashboards()))

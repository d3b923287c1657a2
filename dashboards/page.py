"""The page `docs/dashboards.md`, generated from boards and alert rules. Pure.

Update it with `python -m dashboards.page > docs/dashboards.md`; a test compares them.
"""

from __future__ import annotations

import sys

from dashboards.alerts.alert import Rule, duration
from dashboards.grafana.provision import TOKEN_VARIABLE, URL_VARIABLE
from dashboards.site import SiteDashboards, site_dashboards

__all__ = ["dashboards_page"]

_HEAD = f"""\
# Boards and alerts

`dashboards/` defines the boards and alert rules of a site as code; nobody draws them in Grafana.
They query InfluxDB 2 with Flux and need Grafana 10 or later (the panel types are those of Grafana
12). The tests run every query against a real InfluxDB. They test Grafana's API against a stand-in
that checks each request, and against a real Grafana if `KPSTREAM_GRAFANA_URL` and
`KPSTREAM_GRAFANA_TOKEN` are set.

What was run on which Grafana:

- 9.4 (a pre-release) with a real site behind it: 54 panel queries and nine alert rules, a silent
  device that raised its alarm, provisioning by files. `push` failed at that time, on the two
  answers below.
- The stand-in with the answers of 9.4 (recorded), 11.5.1, 11.5.2 and 13 (documented): `push` and
  `diff` by the roles Admin and Editor.

Grafana before 11.5.2 answers 500 to a group with a new rule (issue 98283 of grafana/grafana), so
`push` creates new rules one by one. Grafana 9.4 answers 403 when an Editor asks for a folder that
does not exist, so `push` looks into the list of folders.

## Push to Grafana by its API

In Grafana, open Administration > Users and access > Service accounts. Add an account with the role
Admin (Editor is enough if the data source exists already) and a token for it. Then:

    export KPSTREAM_GRAFANA_URL=http://127.0.0.1:3000
    export KPSTREAM_GRAFANA_TOKEN=...          # token of the service account
    export KPSTREAM_GRAFANA_INFLUX_TOKEN=...   # InfluxDB token that may read both buckets
    kpstream dashboards push                   # a second push changes nothing
    kpstream dashboards diff                   # exit code 1 if Grafana differs from the code
    kpstream dashboards pull somewhere         # what Grafana has, as normalised JSON

`push` does not overwrite a board that somebody has saved in Grafana since the last push: it writes
nothing at all, names the board and exits with code 2. `push --force` overwrites the board; Grafana
keeps the old version in the board's version history. Grafana's pages cannot edit alert rules that
were pushed. Folder, data source, buckets and limits are settings: see `KPSTREAM_GRAFANA_...` in
[settings](settings.md).

## Provide files to Grafana

Copy `dashboards/provisioning` to Grafana's folder of that name, and `dashboards/json` to
`/var/lib/grafana/dashboards/kpstream`. Grafana's server needs two environment variables,
`{URL_VARIABLE}` and `{TOKEN_VARIABLE}`. To use other limits, names or
paths, write the files yourself:

    kpstream dashboards render somewhere --boards-path /srv/boards

Boards and alerts that come from a file can only be changed in the file; `push` refuses to write
any that differ, with `--force` too, and says so.

## Route notifications

Every alert has the labels `product=kpstream` and `severity`: `critical` needs a person now,
`warning` within the day. Add your own contact points and notification policies, and route by these
labels. An alert rule whose query fails has the state Error, never OK.

## Add the board of a task

A new task needs no board: it appears on the general boards as soon as it is registered. To show its
scores too, follow [add a board](howto/board.md).

<!-- `python -m dashboards.page > docs/dashboards.md` generates the page from dashboards/. -->
"""


def dashboards_page(site: SiteDashboards) -> str:
    """The page as Markdown."""
    lines = [_HEAD, "## Boards", ""]
    for board in site.boards.values():
        lines += [f"### {board.title} (`{board.uid}`)", "", board.description, ""]
        lines += ["| panel | what it shows |", "|---|---|"]
        lines += [
            f"| {panel.title} | {panel.description} |"
            for panel in board.panels
            if panel.description
        ]
        lines.append("")
    lines += ["## Alerts", ""]
    for group in site.groups:
        for rule in group.rules:
            lines += _alert_section(rule, group.interval_s)
    return "\n".join(lines)


def _alert_section(rule: Rule, interval_s: int) -> list[str]:
    board, panel = rule.panel
    wait = f", for {duration(rule.for_s)}" if rule.for_s else ""
    return [
        f"### {rule.title} (`{rule.uid}`, {rule.severity})",
        "",
        f"- **When:** `{next(iter(rule.queries))}` {rule.fires_when} {rule.limit:g}{wait}; "
        f"evaluated every {duration(interval_s)} over the last {duration(rule.look_back_s)}.",
        f"- **Means:** {rule.meaning}",
        f"- **What to do:** {rule.action}",
        f"- **Without data:** {rule.no_data[0]}: {rule.no_data[1]}.",
        f"- **Shown by:** panel `{panel}` of `{board}`.",
        "",
    ]


if __name__ == "__main__":
    sys.stdout.write(dashboards_page(site_dashboards()))

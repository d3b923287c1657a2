"""``kpstream centre gateways|enrol|retire|restore``: who runs what, and who may report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre

if TYPE_CHECKING:
    from deploy.rollout.inventory import Inventory, Known

__all__ = ["enrol", "gateways", "restore", "retire"]

_PHASES = ("champion", "shadow", "probation", "failed", "held", "waiting")
_COLUMNS = (
    *("gateway", "group", "seen", "student", "runs", "phase", "release", "windows"),
    *("centre", "free", "software"),
)
_NO_GATEWAY = (
    "No gateway has reported yet. `kpstream centre control` takes the reports from the broker of "
    "KPSTREAM_CENTRE_MQTT_HOST; gateways report there once KPSTREAM_ROLLOUT_URL is set."
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@click.command()
@click.option("--group", help="Only gateways of this group.")
@click.option("--student", help="Only this student.")
@click.option("--phase", type=click.Choice(_PHASES), help="Only students in this phase.")
@click.option("--digest", help="Only students whose running digest begins so.")
@click.option("--release", type=int, help="Only students that follow this release.")
@click.option("--silent", is_flag=True, help="Only gateways that have not reported for long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@pass_centre
def gateways(
    centre: CentreContext,
    group: str | None,
    student: str | None,
    phase: str | None,
    digest: str | None,
    release: int | None,
    silent: bool,
    as_json: bool,
) -> None:
    """Show what every gateway runs, what it does with its release, and why.

    It reads the inventory, which `kpstream centre control` fills from the reports of the gateways.
    """
    wanted = {"student": student, "phase": phase, "release": release}
    rows = []
    everything = list(_inventory(centre).known())
    for known in everything:
        is_silent = known.report is None or now_s() - known.seen_s > centre.settings.silent_s
        if (group is not None and known.group != group) or (silent and not is_silent):
            continue
        for row in _rows(known, is_silent=is_silent):
            others = any(value is not None and row[key] != value for key, value in wanted.items())
            if not others and (digest is None or (row["digest"] or "").startswith(digest)):
                rows.append(row)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo("\n".join(_lines(rows)))
    else:
        click.echo("No gateway matches these filters." if everything else _NO_GATEWAY)


@click.command()
@click.argument("gateway")
@click.option(
    "--key-out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File for the key, to be carried to the gateway (mode 0600).",
)
@click.option("--replace", is_flag=True, help="Make a new key; the old one is refused from now on.")
@pass_centre
def enrol(centre: CentreContext, gateway: str, key_out: Path, replace: bool) -> None:
    """Give GATEWAY a key that signs its reports; from now on it must.

    Carry the file to the gateway by a way that you trust, name it there in
    KPSTREAM_ROLLOUT_REPORT_KEY_FILE, and delete it here. Run again, it writes the same key.
    """
    from ingest.statefile import replace_file

    try:
        key = _inventory(centre).enrol(gateway, replace=replace)
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    replace_file(key_out, f"{key}\n".encode())
    click.echo(f"{gateway} is enrolled; its key is in {key_out}")


@click.command()
@click.argument("gateway")
@pass_centre
def retire(centre: CentreContext, gateway: str) -> None:
    """Forget GATEWAY: it counts in no release, and its reports are refused."""
    try:
        was_known = _inventory(centre).retire(gateway)
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{gateway} is retired" + ("" if was_known else "; it was not known"))


@click.command()
@click.argument("gateway")
@pass_centre
def restore(centre: CentreContext, gateway: str) -> None:
    """Accept the reports of a retired GATEWAY again."""
    try:
        was_retired = _inventory(centre).restore(gateway)
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{gateway} may report again" if was_retired else f"{gateway} was not retired")


def _inventory(centre: CentreContext) -> Inventory:
    from deploy.rollout.inventory import Inventory

    return Inventory(centre.repository.folder.inventory, now_s)


def _rows(known: Known, *, is_silent: bool) -> Iterator[dict[str, Any]]:
    """One row for each student of a gateway; one without a student if it reported none."""
    report = known.report
    common: dict[str, Any] = {
        "gateway": known.gateway,
        "group": known.group,
        "seen_s": known.seen_s or None,
        "silent": is_silent,
        "refused": known.refused,
    }
    names = ("sent_s", "software", "python", "machine", "disk_free_mb", "fetch", "fetch_detail")
    common |= {name: None if report is None else getattr(report, name) for name in names}
    for each in () if report is None else report.students:
        facts = each.model_dump(exclude={"name", "evidence"})
        evidence = each.evidence.model_dump(exclude_none=True)
        yield {**common, "student": each.name, **facts, "evidence": evidence}
    if report is None or not report.students:
        empty = ("student", "stream", "version", "digest", "release", "phase", "candidate")
        yield {**common, **dict.fromkeys(empty), "reason": "", "evidence": {}}


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """A table whose columns are as wide as their widest cell; remarks stand below their row."""
    table = [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *map(_cells, rows)]
    widths = {name: max(len(cells[name]) for cells in table) for name in _COLUMNS}
    lines = []
    for row, cells in zip((None, *rows), table, strict=True):
        lines.append("  ".join(f"{cells[name]:<{widths[name]}}" for name in _COLUMNS).rstrip())
        if row is not None:
            remarks = (
                row["reason"],
                row["fetch_detail"],
                row["refused"] and f"refused: {row['refused']}",
            )
            lines += [f"    {remark}" for remark in remarks if remark]
    return lines


def _cells(row: dict[str, Any]) -> dict[str, str]:
    version, candidate = row["version"], row["candidate"]
    runs = "-" if version is None else f"v{version} {(row['digest'] or '')[:12]}"
    free = row["disk_free_mb"]
    return {
        "gateway": row["gateway"],
        "group": row["group"] or "-",
        "seen": _ago(row["seen_s"]) + (" !" if row["silent"] else ""),
        "student": row["student"] or "-",
        "runs": runs,
        "phase": row["phase"] or "-",
        "release": f"{row['release']}:v{candidate}" if row["release"] else "-",
        "windows": str(row["evidence"].get("windows", "-")),
        "centre": row["fetch"] or "-",
        "free": "-" if free is None else f"{free / 1000:.1f} GB",
        "software": row["software"] or "-",
    }


def _ago(seen_s: int | None) -> str:
    if seen_s is None:
        return "never"
    age_s = max(0, now_s() - seen_s)
    for span, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if age_s >= 2 * span:
            return f"{age_s // span} {unit}"
    return f"{age_s} s"

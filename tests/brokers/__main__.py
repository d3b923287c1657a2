"""`make brokers`: fetch the brokers, run the battery against each, write `docs/brokers.md`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tests.brokers.battery import STEPS, run_battery
from tests.brokers.install import InstallFailed, install
from tests.brokers.report import page, read_rows, write_row
from tests.brokers.rig import Row, Size
from tests.brokers.starters import BROKERS

_OUT = Path("docs/brokers.md")
_ROWS = Path("docs/results/brokers.jsonl")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BROKERS)), help="These brokers.")
@click.option("--step", "steps", multiple=True, type=click.Choice(list(STEPS)), help="These steps.")
@click.option("--install/--no-install", "fetch", default=True, help="Fetch what is missing.")
@click.option(
    "--rows", type=click.Path(path_type=Path), help=f"Results, with details; default {_ROWS}."
)
@click.option("--write-page", is_flag=True, help="Only write the page from the results.")
def main(
    only: tuple[str, ...], steps: tuple[str, ...], fetch: bool, rows: Path | None, write_page: bool
) -> None:
    """Run the battery against real brokers. Exit status 1 if the product broke a promise."""
    path = rows or _ROWS
    if not write_page:
        if not only and not steps and rows is None:
            path.unlink(missing_ok=True)
        for name in only or tuple(BROKERS):
            _run(name, steps, path, fetch=fetch, details=rows is not None)
    found = read_rows(path)
    if rows is None:
        _OUT.write_text(page(found), encoding="utf-8")
        click.echo(str(_OUT))
    broken = [row for row in found if row.verdict == "BROKEN"]
    sys.exit(1 if broken else 0)


def _run(name: str, steps: tuple[str, ...], path: Path, *, fetch: bool, details: bool) -> None:
    kind = BROKERS[name]

    def report(row: Row) -> None:
        click.echo(f"{name:10} {row.step:20} {row.verdict:8} {row.text}  ({row.seconds:.0f} s)")
        write_row(path, row, details=details)

    if fetch and kind.missing() is not None:
        try:
            install(name, click.echo)
        except InstallFailed as exc:
            report(Row(name, "start", "skipped", str(exc)))
            return
    if (reason := kind.missing()) is not None:
        report(Row(name, "start", "skipped", reason))
        return
    with tempfile.TemporaryDirectory(prefix=f"kpstream-{name}-") as scratch:
        folder = Path(scratch)
        broker = kind(folder / name)
        report(Row(name, "start", "held", broker.title, {"settings": broker.settings}))
        run_battery(broker, folder, Size(), report, steps or tuple(STEPS))


if __name__ == "__main__":
    main()

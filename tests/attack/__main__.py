"""`make attack`: run the attacks suite by suite, keep what each counted, write the page."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import click

from tests.attack.page import page
from tests.attack.results import Run, begin, end, kept_rows

FOLDER = Path(__file__).parent
PAGE = Path("docs/results/attacks.md")
RESULTS = Path("build/attack")
SUITES = tuple(
    sorted(
        path.stem.removeprefix("test_")
        for path in FOLDER.glob("test_*.py")
        if "attack: Attack" in path.read_text(encoding="utf-8")
    )
)
"""Names of the files with attacks in them."""


@click.command(context_settings={"show_default": True})
@click.option(
    "--suite", "suites", multiple=True, type=click.Choice(SUITES), help="Run this suite only."
)
@click.option("--short", is_flag=True, help="Run the short form.")
@click.option("-k", "only", default="", help="Attacks whose names match, as in pytest -k.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Folder in which each suite keeps its rows.",
)
@click.option(
    "--page", "page_only", is_flag=True, help="Run nothing; write the page from the rows kept."
)
@click.option("--out", type=click.Path(path_type=Path), default=PAGE, help="The page.")
def main(
    suites: tuple[str, ...], short: bool, only: str, results: Path, page_only: bool, out: Path
) -> None:
    """Attack every promise; account for every reading. Exit status 1 if a promise broke.

    The rows of a suite are kept as each test ends. The page is written from all rows kept, by
    --page or by a run of every suite in its long form.
    """
    chosen = suites or SUITES
    broke = [] if page_only else [s for s in chosen if not run_suite(s, short, only, results)]
    kept = kept_rows(results / f"{suite}.jsonl" for suite in SUITES)
    ran = {one.row.test.partition(".py::")[0].removeprefix("test_") for one in kept}
    text = page(kept, "make attack", [suite for suite in SUITES if suite not in ran])
    click.echo(text)
    # A part of the attacks, or their short form, never overwrites the page of all unasked.
    if page_only or not (suites or short or only):
        out.write_text(text, encoding="utf-8")
    if broke:
        click.echo(f"Broken: {', '.join(broke)}.", err=True)
        sys.exit(1)


def run_suite(suite: str, short: bool, only: str, results: Path) -> bool:
    """Run a suite in a process of its own and keep its rows; tell whether every promise held."""
    form, rows = "short" if short else "long", (results / f"{suite}.jsonl").absolute()
    begin(rows, Run(form, f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M}", revision(), machine()))
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
    command += ["--durations=0", "-k", only, str(FOLDER / f"test_{suite}.py")]
    environ = {**os.environ, "KPSTREAM_ATTACK": form, "KPSTREAM_ATTACK_ROWS": str(rows)}
    status = subprocess.run(command, env=environ).returncode
    if not only and status in (0, 1):  # neither interrupted nor killed
        end(rows)
    return status == 0 or (bool(only) and status == 5)  # 5: no test of this suite matches


def machine() -> str:
    """Return processor, cores and versions."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ("faust-streaming", "onnxruntime", "numpy")
    return (
        f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_mosquitto()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}."
    )


def revision() -> str:
    """Return the revision of the repository, with a mark if files were changed."""
    is_changed = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "--short", "HEAD") + ("+" if is_changed else "")


def _mosquitto() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    try:
        done = subprocess.run(
            ["mosquitto", "-h"], env={"PATH": path}, capture_output=True, text=True
        )
    except OSError:
        return "no mosquitto"
    return done.stdout.partition("\n")[0].removesuffix(".") or "mosquitto"


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], capture_output=True, text=True)
    return done.stdout.strip() or ("unknown" if command[0] == "rev-parse" else "")


if __name__ == "__main__":
    main()

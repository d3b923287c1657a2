"""`make attack`: run every attack in its long form and write the table."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from tests.attack.account import read_rows, table

_OUT = Path("docs/results/attacks.md")
_FOLDER = Path(__file__).parent


@click.command(context_settings={"show_default": True})
@click.option("--short", is_flag=True, help="Run the short form; write the table only with --out.")
@click.option("-k", "only", default="", help="Attacks whose names match, as in pytest -k.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Where the table goes: {_OUT}.")
def main(short: bool, only: str, out: Path | None) -> None:
    """Attack every promise; account for every reading. Exit status 1 if a promise broke."""
    with tempfile.TemporaryDirectory(prefix="kpstream-attack-") as scratch:
        rows_path = Path(scratch) / "rows.jsonl"
        os.environ["KPSTREAM_ATTACK"] = "short" if short else "long"
        os.environ["KPSTREAM_ATTACK_ROWS"] = str(rows_path)
        options = ["-n", "0", "-p", "no:cacheprovider", "--durations=0"]
        status = pytest.main([*options, "-k", only, str(_FOLDER)])
        rows = read_rows(rows_path)
    given = "".join([" --short" if short else "", f" -k {only}" if only else ""])
    text = table(
        rows, f'make attack ARGS="{given.strip()}"' if given else "make attack", _machine()
    )
    click.echo(text)
    # A part of the attacks never overwrites the page of all.
    if path := out or (None if given else _OUT):
        path.write_text(text, encoding="utf-8")
    sys.exit(0 if status == pytest.ExitCode.OK else 1)


def _machine() -> list[str]:
    """Return machine, versions, date and revision."""
    now = datetime.now(timezone.utc)
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ("faust-streaming", "onnxruntime", "numpy")
    return [
        f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_mosquitto()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}.",
        "",
        f"{now:%Y-%m-%d %H:%M} UTC, revision {_git('rev-parse', '--short', 'HEAD')}"
        f"{' with changes' if _git('status', '--porcelain', '--untracked-files=no') else ''}.",
    ]


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

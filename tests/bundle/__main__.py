"""`python -m tests.bundle BUNDLE...`: install each bundle in a clean root, score, compare."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from deploy.gateway.bundle import BUNDLE_FILE, open_bundle
from tests.bundle.compare import Comparison, Trial, compare_scores, last_bit_change, page
from tests.bundle.containerfile import instructions
from tests.bundle.roots import RootMissing, copy_of, make_root, run_in
from tests.bundle.windows import write_windows

ROOTS = Path("~/.cache/kpstream/roots").expanduser()
INSIDE = Path(__file__).with_name("inside.py")
PAGE = Path("docs/results/bundle.md")
PYTHON = "/opt/kpstream/bin/python"


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--data", envvar="KPSTREAM_TEST_DATA", required=True, type=click.Path(path_type=Path))
@click.option("--out", default=PAGE, type=click.Path(path_type=Path), help=f"Default: {PAGE}.")
def main(bundles: tuple[Path, ...], data: Path, out: Path) -> None:
    """Try bundles in clean roots without network. Exit status 1 if a promise was broken."""
    with TemporaryDirectory(prefix="kpstream-bundles-") as folder:
        work = Path(folder)
        click.echo("cutting windows")
        write_windows(data, work / "windows.npz")
        try:
            trials = [_try(bundle, data, work, click.echo) for bundle in bundles]
        except RootMissing as exc:
            raise click.ClickException(str(exc)) from exc
        compared: list[Comparison] = []
        if trials[1:]:
            last_bit = last_bit_change(work / "windows.npz")
            for other in trials[1:]:
                compared += compare_scores(trials[0].scores, other.scores, last_bit)
        out.write_text(page(trials, compared))
    click.echo(out)
    wrong = [each.student for each in compared if each.beyond]
    wrong += [trial.bundle for trial in trials if not _is_balanced(trial)]
    if wrong:
        click.echo(f"broken: {', '.join(wrong)}", err=True)
        sys.exit(1)


def _try(archive: Path, data: Path, work: Path, report: Callable[[str], None]) -> Trial:
    """Install a bundle in a copy of a clean root, and use it."""
    bundle = open_bundle(archive, work / archive.stem)
    about = json.loads((bundle.folder / BUNDLE_FILE).read_bytes())
    root = make_root(bundle.machine, ROOTS)
    scores = work / f"{archive.stem}.scores.npz"
    with copy_of(root, work / f"{archive.stem}.root") as place:
        (place / "bundle").mkdir()
        shutil.copyfile(archive, place / "bundle" / archive.name)
        for name, source in (
            ("inside.py", INSIDE),
            ("windows.npz", work / "windows.npz"),
            ("cmapss.zip", data / "cmapss.zip"),
        ):
            shutil.copyfile(source, place / name)
        report(f"{archive.stem}: installing without network")
        started = time.monotonic()
        installs = next(rest for word, rest in instructions() if word == "RUN")
        run_in(place, ["sh", "-c", installs])
        install_s = time.monotonic() - started
        report(f"{archive.stem}: scoring the windows of all students")
        started = time.monotonic()
        run_in(place, [PYTHON, "/inside.py", "score", "/windows.npz", "/scores.npz"])
        score_s = time.monotonic() - started
        shutil.copyfile(place / "scores.npz", scores)
        report(f"{archive.stem}: running a gateway")
        counted = run_in(place, [PYTHON, "/inside.py", "gateway", "/cmapss.zip", "/var/lib/trial"])
    gateway = json.loads(counted.splitlines()[-1])
    report(json.dumps(gateway))
    return Trial(
        archive.stem,
        archive.stat().st_size,
        about["faust"],
        install_s,
        score_s,
        scores,
        gateway,
    )


def _is_balanced(trial: Trial) -> bool:
    totals, sent = trial.gateway["totals"], trial.gateway["sent"]
    return bool(
        totals["received"] == totals["windowed"] == sent
        and totals["missing"] == 0
        and totals["scored"] == trial.gateway["points"] == trial.gateway["windows"] >= 256
        and trial.gateway["exit_code"] == 0
    )


if __name__ == "__main__":
    main()

"""``kpstream bundle``: make and check the offline bundle of a gateway."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import click

from deploy.bundle.check import check_bundle
from deploy.bundle.content import SBOM_FILE
from deploy.bundle.errors import BundleError
from deploy.bundle.target import MACHINES, PYTHONS, Target
from deploy.gateway.bundle import open_bundle
from deploy.gateway.errors import SourceInvalid
from ingest.extras import install_command

__all__ = ["bundle"]

_FILE = click.Path(path_type=Path, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def bundle() -> None:
    """Make and check the offline bundle of a gateway."""


@bundle.command()
@click.option(
    "--arch",
    type=click.Choice(MACHINES),
    default=lambda: platform.machine(),
    show_default="this machine",
    help="Machine of the gateway, as `uname -m` names it there.",
)
@click.option(
    "--python",
    type=click.Choice(PYTHONS),
    default=lambda: f"{sys.version_info.major}.{sys.version_info.minor}",
    show_default="this Python",
    help="Python of the gateway, as `python3 --version` names it there.",
)
@click.option("--out", type=_FOLDER, default="dist", show_default=True, help="Target folder.")
@click.option(
    "--checkout", type=_FOLDER, default=".", show_default=True, help="A clone of kpstream."
)
@click.option(
    "--wheel",
    "wheels",
    type=_FILE,
    multiple=True,
    help="Wheel to take instead of fetching or building it, such as a compiled Faust; repeatable.",
)
def build(arch: str, python: str, out: Path, checkout: Path, wheels: tuple[Path, ...]) -> None:
    """Fetch and build all wheels, write kpstream-VERSION-ARCH-pyXY.tar, check it.

    The same checkout gives the same bytes. The package index of this machine's pip is used.
    """
    with _as_messages():
        from deploy.bundle.build import build_bundle

        archive = build_bundle(checkout, Target(arch, python), out, click.echo, own=wheels)
    _report(archive)


@bundle.command()
@click.argument("source", type=_FILE)
def check(source: Path) -> None:
    """Check a bundle: every digest, every wheel's tags and machine code, every requirement.

    SOURCE is an archive, or the folder of an unpacked one. Exit code 1: it is not usable.
    """
    _report(source)


@bundle.command()
@click.argument("source", type=_FILE)
@click.option("--image", help="Base image of a container made from it: NAME or NAME@sha256:...")
@click.option(
    "--packages",
    type=click.File(encoding="utf-8"),
    help="What `dpkg-query -W` prints in the container; - for standard input.",
)
def sbom(source: Path, image: str | None, packages: TextIO | None) -> None:
    """Print the bill of materials (CycloneDX) of a bundle, or of a container made from it."""
    if packages is not None and image is None:
        msg = "--packages are those of a container: name its base image with --image"
        raise click.UsageError(msg)
    with _as_messages(), TemporaryDirectory(prefix="kpstream-bundle-") as folder:
        bill = (open_bundle(source, Path(folder, "copy")).folder / SBOM_FILE).read_text()
        if image is not None:
            from deploy.bundle.sbom import container_sbom

            installed = [line.split(maxsplit=1) for line in packages or () if line.strip()]
            bill = container_sbom(
                bill, image, [(name, version.strip()) for name, version in installed]
            )
    click.echo(bill, nl=False)


@contextmanager
def _as_messages() -> Iterator[None]:
    """Turn the errors of a bundle, and a missing extra, into messages."""
    try:
        yield
    except ModuleNotFoundError as exc:
        msg = f"the package {exc.name!r} is not installed; run: {install_command('bundle')}"
        raise click.ClickException(msg) from exc
    except (BundleError, SourceInvalid) as exc:
        raise click.ClickException(str(exc)) from exc


def _report(source: Path) -> None:
    checked = check_bundle(source)
    for note in checked.notes:
        click.echo(note)
    for problem in checked.problems:
        click.echo(f"not usable: {problem}", err=True)
    if checked.problems:
        sys.exit(1)
    click.echo(str(source))

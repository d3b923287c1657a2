"""The versions of kpstream on a gateway, side by side.

```
versions/0.3.0/venv/            Python environment that works wherever its folder is
versions/0.3.0/files/           generated files of this version
versions/0.3.0/install.sh       installer of this version
versions/0.3.0/version.json     {"version", "digest", "python"}
versions/.making/               a version that is not complete yet; the next run starts it anew
```

A version is made under another name, written to the disk, and renamed when it is complete. A number
stands for one content: a bundle with a known number and another digest is refused. The number of a
checkout or a wheel has a part of its digest in it, such as `0.3.0+1f2e3d4c`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.gateway.bundle import Bundle, open_bundle
from deploy.gateway.errors import InstallError, SourceInvalid
from deploy.gateway.places import Places
from deploy.gateway.steps import Steps, sync_folder

__all__ = ["Source", "Versions", "opened_source"]

_CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "requirements-gateway.txt")
_PACKAGES = ("dashboards", "deploy", "ingest", "models", "pipeline", "training")
_REQUIREMENTS = "requirements-gateway.txt"
_MAKING = ".making"
_ABOUT = "version.json"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,80}")
_PROGRAM = """\
#!/bin/sh
# Finds its own folder, so that the environment works wherever it is; no PYTHONPATH reaches it.
python="$(dirname -- "$(readlink -f -- "$0")")/python"
exec "$python" -I -u -c 'from deploy.cli import main; main(prog_name="kpstream")' "$@"
"""
_INSTALLER = """\
#!/bin/sh
# The installer of this version, for status, rollback and uninstall; a bundle brings its own.
python="$(dirname -- "$(readlink -f -- "$0")")/venv/bin/python"
exec "$python" -I -B -m deploy.gateway.command "$@"
"""
_HIDDEN = ("/root", "/home", "/run/user")  # by ProtectHome=yes
_VENV_ADVICE = "on Debian and Raspberry Pi OS run `sudo apt-get install python3-venv`"
_NETWORK_ADVICE = "it needs the package index: check the network, or install from a bundle"


@dataclass(frozen=True, slots=True)
class Source:
    """What a version is made from.

    Attributes:
        bundle: A verified bundle; None for a checkout or wheel.
        folder: Copy of a checkout, or folder of a wheel and the file of hashes beside it.
    """

    bundle: Bundle | None
    folder: Path


@contextmanager
def opened_source(source: Path, scratch: Path) -> Iterator[Source]:
    """Copy a bundle, a checkout or a wheel to a folder of one's own, and check it.

    Args:
        source: Archive or folder of a bundle, folder of a checkout, or a wheel.
        scratch: Folder for the copy, which is removed afterwards.

    Raises:
        SourceInvalid: It is none of these, or damaged, or for another machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="source-", dir=scratch))
    folder.chmod(0o755)  # the gateway's user reads students from it
    try:
        if not source.exists():
            msg = f"there is no {source}: name a bundle, a checkout or a wheel with --from"
            raise SourceInvalid(msg)
        if (source / "pyproject.toml").is_file():
            _copy_checkout(source, folder)
            yield Source(None, folder)
        elif source.suffix == ".whl":
            _copy_wheel(source, folder)
            yield Source(None, folder)
        else:
            bundle = open_bundle(source, folder / "bundle")
            bundle.check_machine()
            yield Source(bundle, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Versions:
    """Makes, finds and removes versions."""

    def __init__(self, places: Places, steps: Steps) -> None:
        self.places = places
        self.steps = steps

    def installed(self) -> list[str]:
        """Names of the complete versions, sorted."""
        found = self.places.versions.glob(f"*/{_ABOUT}")
        return sorted(path.parent.name for path in found if _NAME.fullmatch(path.parent.name))

    def current(self) -> str | None:
        """Name of the version that runs."""
        return self._named_by(self.places.current)

    def previous(self) -> str | None:
        """Name of the version that ran before, if it is still there."""
        return self._named_by(self.places.previous)

    def digest(self, version: str) -> str:
        """Digest of the source of a version; "" if it is not known."""
        return str(self._about(version).get("digest", ""))

    def folder(self, version: str) -> Path:
        """Folder of a version."""
        return self.places.versions / version

    def python(self, version: str) -> Path:
        """The interpreter of a version."""
        return self.folder(version) / "venv/bin/python"

    def file(self, version: str, name: str) -> str:
        """A generated file of a version; in a dry run "" if it has not been made."""
        path = self.folder(version) / "files" / name
        if self.steps.dry_run and not path.exists():
            return ""
        return path.read_text(encoding="utf-8")

    def make(self, source: Source) -> str:
        """Make the version of a source unless it is there; returns its name.

        Raises:
            InstallError: Another content has its number.
            StepFailed: A command failed; the message says what to do.
        """
        making = self.places.versions / _MAKING
        self.steps.remove(making)
        self.steps.folder(self.places.versions)
        if source.bundle is not None:
            version, digest = source.bundle.version, source.bundle.digest
            if self._is_there(version, digest):
                return version
            self._make_environment(making, with_pip=_pip_wheel(source.bundle) is None)
            self._install_bundle(making, source.bundle)
        else:
            self._make_environment(making, with_pip=True)
            wheel = self._build_wheel(making, source.folder)
            if wheel is None:  # a dry run
                return "(version of the checkout)"
            version, digest = _name_of_wheel(wheel)
            if self._is_there(version, digest):
                self.steps.remove(making)
                return version
            self._install_wheel(making, source.folder, wheel)
        self._complete(making, version, digest)
        return version

    def remove_others(self) -> None:
        """Remove versions that neither run nor ran before, and what was left incomplete."""
        kept = {self.current(), self.previous()}
        for version in self.installed():
            if version not in kept:
                self.steps.say(f"removing version {version}")
                self.steps.remove(self.folder(version))
        self.steps.remove(self.places.versions / _MAKING)

    def _named_by(self, link: Path) -> str | None:
        try:
            version = link.readlink().name
        except OSError:
            return None
        return version if version in self.installed() else None

    def _about(self, version: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            about = json.loads((self.folder(version) / _ABOUT).read_text(encoding="utf-8"))
            if isinstance(about, dict):
                return about
        return {}

    def _is_there(self, version: str, digest: str) -> bool:
        if version not in self.installed():
            return False
        if self.digest(version) != digest:
            msg = (
                f"version {version} is installed with another content: give the new bundle a "
                f"version of its own, or first run `install.sh uninstall` (it keeps the state)"
            )
            raise InstallError(msg)
        self.steps.say(f"version {version} is already installed")
        return True

    def _make_environment(self, making: Path, *, with_pip: bool) -> None:
        hidden = next(
            (place for place in _HIDDEN if Path(sys.base_prefix).is_relative_to(place)), ""
        )
        if self.places.is_live and hidden:
            msg = (
                f"the service cannot see the Python in {sys.base_prefix}, because {hidden} is "
                "hidden from it: run PYTHON=/usr/bin/python3 ./install.sh"
            )
            raise InstallError(msg)
        self.steps.say("making a Python environment")
        command = [sys.executable, "-I", "-m", "venv", str(making / "venv")]
        if not with_pip:
            command.insert(-1, "--without-pip")
        self.steps.run(command, advice=_VENV_ADVICE)

    def _install_bundle(self, making: Path, bundle: Bundle) -> None:
        self.steps.say(f"installing {len(bundle.wheels)} packages from the bundle")
        pip = _pip_wheel(bundle)
        python = str(making / "venv/bin/python")
        wheels = [str(wheel) for wheel in bundle.wheels if wheel != pip]
        env = _pip_environment({} if pip is None else {"PYTHONPATH": str(pip)})
        # Every wheel is named, so pip looks for nothing.
        options = ["--no-index", "--no-deps", "--no-warn-script-location"]
        self.steps.run(
            [python, "-m", "pip", "install", "--quiet", *options, *wheels],
            advice="the bundle does not fit this Python; take the one of this machine",
            env=env,
        )
        self.steps.run(
            [python, "-m", "pip", "check"],
            advice="the bundle lacks a package: make it again",
            env=env,
        )

    def _build_wheel(self, making: Path, folder: Path) -> Path | None:
        found = list(folder.glob("*.whl"))
        if found:
            return found[0]
        self.steps.say("building the wheel of the checkout")
        python = str(making / "venv/bin/python")
        self.steps.run(
            [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(folder)],
            advice=_NETWORK_ADVICE,
            env=_pip_environment({}),
        )
        return next(folder.glob("*.whl"), None)

    def _install_wheel(self, making: Path, folder: Path, wheel: Path) -> None:
        self.steps.say("installing the packages with the hashes of requirements-gateway.txt")
        pip = [str(making / "venv/bin/python"), "-m", "pip"]
        env = _pip_environment({})
        quiet = ["--quiet", "--no-warn-script-location"]
        self.steps.run(
            [*pip, "install", *quiet, "--require-hashes", "-r", str(folder / _REQUIREMENTS)],
            advice=_NETWORK_ADVICE,
            env=env,
        )
        self.steps.run([*pip, "install", *quiet, "--no-deps", str(wheel)], advice="see above")
        self.steps.run([*pip, "check"], advice="requirements-gateway.txt is out of date", env=env)

    def _complete(self, making: Path, version: str, digest: str) -> None:
        programs = making / "venv/bin"
        python = str(programs / "python")
        self.steps.run(
            [python, "-I", "-m", "deploy.gateway.files", str(making / "files")],
            advice="this version of kpstream does not start here; see the lines above",
        )
        if self.steps.dry_run:
            self.steps.say(f"would name it: {self.folder(version)}")
            return
        for path in programs.iterdir():  # they name the folder in which they were made
            if path.is_file() and not path.is_symlink():
                path.unlink()
        for path, text in (
            (programs / "kpstream", _PROGRAM),
            (making / "install.sh", _INSTALLER),
        ):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        about = {"version": version, "digest": digest, "python": sys.version.split()[0]}
        self.steps.note(making / _ABOUT, json.dumps(about) + "\n")
        self.steps.sync()
        making.rename(self.folder(version))
        sync_folder(self.places.versions)
        self.steps.say(f"version {version} is installed")


def _copy_checkout(source: Path, folder: Path) -> None:
    wanted = [name for name in (*_CHECKOUT, *_PACKAGES) if not (source / name).exists()]
    if wanted:
        msg = f"{source} is no complete checkout of kpstream: it lacks {', '.join(wanted)}"
        raise SourceInvalid(msg)
    for name in _CHECKOUT:
        shutil.copyfile(source / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _PACKAGES:
        shutil.copytree(source / name, folder / name, ignore=ignored)


def _copy_wheel(source: Path, folder: Path) -> None:
    requirements = source.parent / _REQUIREMENTS
    if not source.name.startswith("kpstream-") or not requirements.is_file():
        msg = (
            f"{source.name} is no wheel of kpstream with a {_REQUIREMENTS} beside it: copy that "
            "file of the same version there, or install from a bundle"
        )
        raise SourceInvalid(msg)
    shutil.copyfile(source, folder / source.name)
    shutil.copyfile(requirements, folder / _REQUIREMENTS)


def _pip_wheel(bundle: Bundle) -> Path | None:
    return next((wheel for wheel in bundle.wheels if wheel.name.startswith("pip-")), None)


def _pip_environment(more: dict[str, str]) -> dict[str, str]:
    return {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0", **more}


def _name_of_wheel(wheel: Path) -> tuple[str, str]:
    """Version and digest of a wheel's content; the digest does not depend on times of files."""
    version = wheel.name.split("-")[1]
    record = f"kpstream-{version}.dist-info/RECORD"
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(record)
    except (zipfile.BadZipFile, KeyError) as exc:
        msg = f"{wheel.name} is damaged: copy it again"
        raise SourceInvalid(msg) from exc
    digest = hashlib.sha256(content).hexdigest()
    return f"{version}+{digest[:8]}", digest

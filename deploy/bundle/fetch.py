"""Bring the wheels of a bundle: fetch them by hash, and build those that no index has.

pip reads the markers of a requirement with the Python that it runs in, also when it fetches for
another one. So the requirements of the target are chosen here, and pip gets exact versions with
hashes, and resolves nothing.

faust-streaming 0.15.3 has no wheel for aarch64. Its build goes on without a word when it finds no
compiler, so that nobody knows what a gateway has. A bundle for aarch64 therefore holds a wheel that
is built from the source distribution with the compiled parts off, and says so. Another wheel can be
named instead (`--wheel`), for example one that was compiled on an aarch64 machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.bundle.checkout import Checkout
from deploy.bundle.errors import FetchFailed
from deploy.bundle.target import Target
from deploy.bundle.wheels import Wheel, read_wheel

__all__ = ["Pinned", "fetch_wheels", "pinned_for", "read_pinned"]

_BUILT_PURE = {("faust-streaming", "aarch64"): {"NO_CYTHON": "1", "CC": "false"}}
"""Packages without a wheel for a machine, and the variables that keep C out of their build."""

_PIP_TIMEOUT_S = 1800
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Pinned:
    """One line of a file with hashes.

    Attributes:
        name: Name of the package, normalized.
        line: The requirement with its hashes and without its marker, as pip reads it.
        marker: When it is needed; None: always.
    """

    name: str
    line: str
    marker: Marker | None


def read_pinned(path: Path) -> list[Pinned]:
    """Read a file of requirements with hashes.

    Raises:
        FetchFailed: A line has no exact version or no hash.
    """
    text = "".join(
        line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#")
    )
    found = []
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        words, *hashes = re.split(r"\s+--hash=", line)
        need = Requirement(words)
        if not hashes or not re.fullmatch(r"==[^*,]+", str(need.specifier)):
            msg = f"{path.name}: {words!r} has no exact version with hashes; renew the file"
            raise FetchFailed(msg)
        shown = " ".join([f"{need.name}{need.specifier}", *(f"--hash={each}" for each in hashes)])
        found.append(Pinned(canonicalize_name(need.name), shown, need.marker))
    return found


def pinned_for(pinned: Sequence[Pinned], target: Target) -> dict[str, Pinned]:
    """The lines that concern a target, by the name of the package.

    Raises:
        FetchFailed: Two versions of one package would be needed.
    """
    chosen: dict[str, Pinned] = {}
    for line in pinned:
        if not target.concerns(line.marker):
            continue
        if line.name in chosen:
            msg = f"two versions of {line.name} are named for Python {target.python}"
            raise FetchFailed(msg)
        chosen[line.name] = line
    return chosen


def fetch_wheels(
    checkout: Checkout,
    target: Target,
    folder: Path,
    report: Callable[[str], None],
    own: Sequence[Path] = (),
) -> list[Wheel]:
    """Bring all wheels of a target into a folder: of the pinned packages, of kpstream, of pip.

    Args:
        checkout: The checkout that the bundle is made from.
        target: The machine and its Python.
        folder: Where the wheels go; also `work` beside it is written.
        report: Shows a line to a person.
        own: Wheels to take instead of fetching or building these packages.

    Raises:
        FetchFailed: pip could not fetch or build a wheel.
        WheelInvalid: What came is no valid wheel.
    """
    folder.mkdir(parents=True)
    work = folder.parent / "work"
    work.mkdir()
    tools = checkout.folder / "deploy/bundle/tools.txt"
    wanted = pinned_for(read_pinned(checkout.folder / "requirements-gateway.txt"), target)
    for path in own:
        wheel = read_wheel(path)
        if wanted.pop(wheel.name, None) is None:
            msg = f"{path.name} is not needed in a bundle for Python {target.python}"
            raise FetchFailed(msg)
        report(f"taking {path.name}")
        shutil.copyfile(path, folder / path.name)
    pip = _Pip(_fetch_pip(tools, folder, work), tools, work, checkout.time_s)
    pure = [name for name in wanted if (name, target.machine) in _BUILT_PURE]
    lines = [line.line for name, line in wanted.items() if name not in pure]
    report(f"fetching {len(lines)} wheels for {target.machine}, Python {target.python}")
    pip.download(lines, folder, target)
    for name in pure:
        report(f"building {name}: no index has a wheel of it for {target.machine}")
        pip.build(
            ["--no-binary", name, *pip.requirements([wanted[name].line])],
            folder,
            _BUILT_PURE[name, target.machine],
        )
    report("building kpstream")
    pip.build([str(checkout.copy_to(work / "kpstream"))], folder, {})
    shutil.rmtree(work)
    return [read_wheel(path) for path in sorted(folder.glob("*.whl"))]


def _fetch_pip(tools: Path, folder: Path, work: Path) -> Path:
    """Fetch the wheel of pip with the pip that is here; all else is done with the fetched one."""
    (line,) = (each.line for each in read_pinned(tools) if each.name == "pip")
    file = work / "pip.txt"
    file.write_text(f"{line}\n")
    arguments = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(file)]
    _run([sys.executable, "-m", "pip", "download", *arguments, "-d", str(folder)], {})
    (wheel,) = folder.glob("pip-*.whl")
    return wheel


class _Pip:
    """pip, run from its wheel, with tools that have hashes."""

    def __init__(self, wheel: Path, tools: Path, work: Path, time_s: int) -> None:
        self._command = [sys.executable, str(wheel / "pip")]
        self._tools = tools
        self._work = work
        # Faust's build lists its extras from a set, whose order follows from the seed of hashes.
        self._env = {"SOURCE_DATE_EPOCH": str(time_s), "PYTHONHASHSEED": "0"}

    def requirements(self, lines: Sequence[str]) -> list[str]:
        """Arguments for exact versions with hashes."""
        file = self._work / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        return ["--require-hashes", "-r", str(file)]

    def download(self, lines: Sequence[str], folder: Path, target: Target) -> None:
        """Fetch wheels that run on a target, and nothing else."""
        platforms = [word for name in target.platforms for word in ("--platform", name)]
        arguments = [
            *("download", "--no-deps", "--only-binary=:all:", *self.requirements(lines)),
            *("--implementation", "cp", "--python-version", target.python, *platforms),
            *("-d", str(folder)),
        ]
        _run([*self._command, *arguments], self._env)

    def build(self, what: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        """Build a wheel; no earlier build is used, because it may have been another kind."""
        arguments = [
            *("wheel", "--no-deps", "--no-cache-dir", "--build-constraint", str(self._tools)),
            *("-w", str(folder), *what),
        ]
        _run([*self._command, *arguments], {**self._env, **env})


def _run(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Run pip quietly.

    Raises:
        FetchFailed: It fails; the message quotes the end of what it says.
    """
    variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **env}
    try:
        done = subprocess.run(  # noqa: S603 (no shell)
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        msg = f"pip has not finished after {_PIP_TIMEOUT_S} s: try again with a faster index"
        raise FetchFailed(msg) from exc
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:])
        msg = f"pip {command[2 if command[1] != '-m' else 3]} failed:\n{said}"
        raise FetchFailed(msg)

"""Fetch the brokers of the matrix from the package registries, each into a folder of its own.

Nothing is installed into the system: Debian packages are unpacked, jars and modules are copied. A
broker appears below `brokers_dir()` complete or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.brokers.broker import brokers_dir
from tests.brokers.starters import (
    AEDES_VERSION,
    ARTEMIS_VERSION,
    HIVEMQ_VERSION,
    MOCHI_VERSION,
    MOQUETTE_VERSION,
    NATS_VERSION,
)

__all__ = ["InstallFailed", "install"]

Report = Callable[[str], None]
_PROGRAMS = Path(__file__).parent / "programs"
_STEP_S = 1200.0
_JARS: Mapping[str, tuple[str, ...]] = {
    "hivemq": (f"com.hivemq:hivemq-community-edition-embedded:{HIVEMQ_VERSION}",),
    "artemis": (
        f"org.apache.activemq:artemis-server:{ARTEMIS_VERSION}",
        f"org.apache.activemq:artemis-mqtt-protocol:{ARTEMIS_VERSION}",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
    "moquette": (f"io.moquette:moquette-broker:{MOQUETTE_VERSION}",),
}
_MAIN = {"hivemq": "HiveMqBroker", "artemis": "ArtemisBroker", "moquette": "MoquetteBroker"}
_ERLANG_SCRIPTS = ("erlang/bin/erl", "erlang/erts-*/bin/erl")


class InstallFailed(Exception):
    """A broker cannot be had here; the message names the missing tool or quotes the failed one."""


def install(name: str, report: Report = print) -> None:
    """Fetch a broker unless it is there.

    Args:
        name: Its name in `tests.brokers.starters.BROKERS`.
        report: Called with each command line.

    Raises:
        InstallFailed: A tool is missing, or the registry does not serve the broker.
    """
    place = brokers_dir() / name
    if name in ("mosquitto", "amqtt"):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place.parent) as scratch:
        work = Path(scratch) / name
        work.mkdir()
        if name in _JARS:
            _java(name, work, report)
        else:
            {"rabbitmq": _rabbitmq, "aedes": _aedes, "mochi": _mochi, "nats": _nats}[name](
                work, report
            )
        shutil.rmtree(place, ignore_errors=True)
        work.rename(place)
    if name == "rabbitmq":
        _relocate(place)


def _java(name: str, work: Path, report: Report) -> None:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *each.split(":")
        )
        for each in _JARS[name]
    )
    (work / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>kpstream</groupId><artifactId>broker</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"]
    _run(work, ["mvn", "--batch-mode", "--quiet", *copy], report)
    source = _PROGRAMS / f"{_MAIN[name]}.java"
    _run(work, ["javac", "-nowarn", "-d", "classes", "-cp", "libs/*", str(source)], report)


def _rabbitmq(work: Path, report: Report) -> None:
    tree = _run(
        work,
        [
            *("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests"),
            *("--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", "rabbitmq-server"),
        ],
        report,
    )
    packages = sorted(set(re.findall(r"^((?:erlang|rabbitmq)[\w.+-]*)$", tree, re.MULTILINE)))
    _run(work, ["apt-get", "download", "-qq", *packages], report)
    for package in sorted(work.glob("*.deb")):
        _run(work, ["dpkg-deb", "-x", package.name, "."], report)
        package.unlink()


def _relocate(place: Path) -> None:
    """Let Erlang's scripts find themselves where they are."""
    root = place / "usr" / "lib"
    for pattern in _ERLANG_SCRIPTS:
        for script in root.glob(pattern):
            script.write_text(script.read_text().replace("/usr/lib/erlang", str(root / "erlang")))


def _aedes(work: Path, report: Report) -> None:
    (work / "package.json").write_text('{"private": true}')
    packages = [f"aedes@{AEDES_VERSION}", "aedes-persistence-level@9.2.0", "level@10.0.0"]
    _run(work, ["npm", "install", "--no-fund", "--no-audit", *packages], report)


def _mochi(work: Path, report: Report) -> None:
    shutil.copy(_PROGRAMS / "mochi.go", work / "main.go")
    env = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    _run(work, ["go", "mod", "init", "mochi"], report, env)
    _run(work, ["go", "get", f"github.com/mochi-mqtt/server/v2@v{MOCHI_VERSION}"], report, env)
    _run(work, ["go", "build", "-o", "mochi", "."], report, env)


def _nats(work: Path, report: Report) -> None:
    env = {"GOBIN": str(work), "GOTOOLCHAIN": "local"}
    module = f"github.com/nats-io/nats-server/v2@v{NATS_VERSION}"
    _run(work, ["go", "install", module], report, env)


def _run(
    work: Path, command: Sequence[str], report: Report, env: Mapping[str, str] | None = None
) -> str:
    """Run one command in the work folder; returns what it printed."""
    if shutil.which(command[0]) is None:
        msg = f"needs {command[0]}"
        raise InstallFailed(msg)
    report(" ".join(command)[:120])
    try:
        done = subprocess.run(
            list(command),
            cwd=work,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as exc:
        msg = f"{command[0]} took longer than {_STEP_S:.0f} s"
        raise InstallFailed(msg) from exc
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        msg = f"{command[0]} failed: {lines[-1] if lines else done.returncode}"
        raise InstallFailed(msg)
    return done.stdout

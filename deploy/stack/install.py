"""Install the servers of a site: Kafka's jars through Maven, InfluxDB built from its Go module.

Debian has no suitable package of either. Each version gets a folder of its own (see
`find_servers`); it appears there complete or not at all, and is never built twice. Temporary files
are in one work folder, which is always removed at the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.stack.servers import INFLUX_VERSION, KAFKA_VERSION, find_servers, servers_dir
from ingest.childprocess import tied_to_parent

__all__ = ["InstallError", "install_influxd", "install_kafka"]

Report = Callable[[str], None]

_PROGRESS_S = 30.0
_INFLUX_MODULE = "github.com/influxdata/influxdb/v2"
_FLUX_MODULE = "github.com/influxdata/flux"
_OLDEST_GO = (1, 23)  # go.mod of InfluxDB 2.7.12
_OLDEST_CARGO = (1, 72)  # rust-version of libflux

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kpstream</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
      <exclusions>
        <exclusion>
          <groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class InstallError(Exception):
    """An installation failed; the message names the missing tool or quotes the failed one."""


def install_kafka(folder: Path | None = None, report: Report = print) -> Path:
    """Download Kafka's jars unless they are installed; returns their folder.

    Args:
        folder: Folder of all servers; None for `servers_dir()`.
        report: Receives one line of text per step.

    Raises:
        InstallError: Maven or Java is not installed, or the download failed.
    """
    folder = folder or servers_dir()
    with _lock(folder):
        if libs := find_servers(folder).kafka_libs:
            report(f"Kafka {KAFKA_VERSION} is in {libs.parent}")
            return libs
        _require("mvn", "Maven", "sudo apt install maven")
        _require("java", "Java 17 or later", "sudo apt install default-jre-headless")
        with _work(folder, report) as work:
            (work.path / "pom.xml").write_text(_POM)
            libs = work.path / "libs"
            work.step(
                f"downloading Kafka {KAFKA_VERSION} with Maven (40 jars, 50 MB)",
                [
                    *("mvn", "--batch-mode", "--quiet", "--strict-checksums"),
                    "dependency:copy-dependencies",
                    *("-DincludeScope=runtime", f"-DoutputDirectory={libs}"),
                ],
            )
            if not (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file():
                raise InstallError(work.failure("Maven did not download Kafka"))
            place = _move_into_place(work.path / "libs", folder / f"kafka-{KAFKA_VERSION}" / "libs")
            report(f"Kafka {KAFKA_VERSION} is in {place.parent}")
        return place


def install_influxd(folder: Path | None = None, report: Report = print) -> Path:
    """Build the program influxd unless it is installed; returns its path.

    The build takes four to five minutes on two cores, and 3 GB for the caches of Go and Cargo.

    Args:
        folder: Folder of all servers; None for `servers_dir()`.
        report: Receives one line of text per step.

    Raises:
        InstallError: Go, Cargo, a C compiler or pkg-config is not installed, or the build failed.
    """
    folder = folder or servers_dir()
    with _lock(folder):
        if program := find_servers(folder).influxd:
            report(f"InfluxDB {INFLUX_VERSION} is {program}")
            return program
        _require_go()
        _require_cargo()
        _require("cc", "a C compiler", "sudo apt install build-essential")
        _require("pkg-config", "pkg-config", "sudo apt install pkg-config")
        with _work(folder, report) as work:
            program = _build_influxd(work)
            place = _move_into_place(program, folder / f"influxd-{INFLUX_VERSION}" / "influxd")
            report(f"InfluxDB {INFLUX_VERSION} is {place}")
        return place


def _build_influxd(work: _Work) -> Path:
    env = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "1"}
    source = work.path / "influxdb"
    _copy(_fetch_module(work, _INFLUX_MODULE, f"v{INFLUX_VERSION}", env), source)
    flux_version = _required_flux(source / "go.mod")
    fetched = _fetch_module(work, _FLUX_MODULE, flux_version, env)
    flux = work.path / "flux"
    for part in ("libflux", "stdlib"):
        _copy(fetched / part, flux / part)
    for pinned in (flux / "libflux").glob("rust-toolchain*"):
        pinned.unlink()  # any current toolchain works
    target = work.path / "target"
    work.step(
        "building the query language with Cargo (about one minute)",
        [
            *("cargo", "rustc", "--release", "--locked", "--lib", "--crate-type", "staticlib"),
            # Without the feature `strict`, with which a current rustc fails.
            *("--no-default-features", "--features", "cffi"),
        ],
        cwd=flux / "libflux" / "flux",
        env={"CARGO_TARGET_DIR": str(target)},
    )
    (work.path / "flux.pc").write_text(
        f"Name: flux\nVersion: {flux_version}\nDescription: flux\n"
        f"Libs: -L{target}/release -lflux -ldl -lm\nCflags: -I{flux}/libflux/include\n"
    )
    program = work.path / "influxd"
    work.step(
        "building InfluxDB with Go (about three minutes; 200 modules the first time)",
        [
            *("go", "build", "-tags", "sqlite_foreign_keys,sqlite_json"),
            *("-ldflags", f"-s -w -X main.version=v{INFLUX_VERSION}"),
            *("-o", str(program), "./cmd/influxd"),
        ],
        cwd=source,
        env={
            **env,
            "PKG_CONFIG_PATH": str(work.path),
            # Go's cache ignores the output of pkg-config. Without this flag, which differs for
            # each build, it would link against the work folder of an earlier build.
            "CGO_LDFLAGS": f"-g -O2 -L{target}/release",
        },
    )
    work.step("checking that it runs", [str(program), "version"])
    return program


def _fetch_module(work: _Work, module: str, version: str, env: Mapping[str, str]) -> Path:
    output = work.step(
        f"downloading {module} {version}",
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        env=env,
    )
    try:
        return Path(json.loads(output)["Dir"])
    except (ValueError, KeyError) as exc:
        raise InstallError(work.failure(f"Go did not report the folder of {module}")) from exc


def _required_flux(go_mod: Path) -> str:
    found = re.search(rf"^\s*{re.escape(_FLUX_MODULE)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if found is None:
        msg = f"{go_mod} does not require {_FLUX_MODULE}"
        raise InstallError(msg)
    return found[1]


# -------------------------------------------------------------------------------- requirements


def _require(program: str, name: str, advice: str) -> None:
    if shutil.which(program) is None:
        msg = f"{name} is required, but {program} is not on PATH: {advice}"
        raise InstallError(msg)


def _require_go() -> None:
    advice = "install Go 1.23 or later from https://go.dev/dl (or your system's package `golang`)"
    _require("go", "Go", advice)
    _require_version("Go", ["go", "env", "GOVERSION"], _OLDEST_GO, advice)


def _require_cargo() -> None:
    advice = "install Rust 1.72 or later from https://rustup.rs (or your system's package `cargo`)"
    _require("cargo", "Cargo", advice)
    _require_version("Cargo", ["cargo", "--version"], _OLDEST_CARGO, advice)


def _require_version(
    name: str, command: Sequence[str], oldest: tuple[int, int], advice: str
) -> None:
    done = subprocess.run(  # noqa: S603 (our own command line)
        command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL
    )
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    if found is None:
        msg = f"{name} does not run: `{' '.join(command)}` printed {done.stderr.strip()[-300:]!r}"
        raise InstallError(msg)
    if (int(found[1]), int(found[2])) < oldest:
        msg = (
            f"{name} {found[0]} is too old, {oldest[0]}.{oldest[1]} or later is required: {advice}"
        )
        raise InstallError(msg)


# --------------------------------------------------------------------------------- work folder


class _Work:
    """A work folder, the steps that run in it, and the log of their output."""

    def __init__(self, path: Path, log_path: Path, report: Report) -> None:
        self.path = path
        self.log_path = log_path
        self._report = report
        self._started = time.monotonic()

    def step(
        self,
        text: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command and return its standard output.

        Args:
            text: Description of the step, for the user.
            command: The command line.
            cwd: Working directory; None for the work folder.
            env: Variables to add to the environment.

        Raises:
            InstallError: The command failed; the message quotes the end of its output.
        """
        self._print(text)
        output = self.path / "step.out"
        with output.open("wb") as out, self.log_path.open("ab") as log_file:
            process = subprocess.Popen(  # noqa: S603 (our own command line)
                tied_to_parent(command),
                cwd=cwd or self.path,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log_file,
                start_new_session=True,  # so that its children can be killed with it
            )
            try:
                self._await(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed = output.read_text(errors="replace")
        if process.returncode != 0:
            with self.log_path.open("a") as log_file:
                log_file.write(printed)
            raise InstallError(self.failure(f"`{command[0]}` failed ({text})"))
        return printed

    def failure(self, text: str) -> str:
        """Return the text with the last lines of the log and the path of the rest."""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()[-12:]
        tail = "".join(f"\n  | {line[:300]}" for line in lines)
        return f"{text}. Last output:{tail}\nFull log: {self.log_path}"

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        next_s = time.monotonic() + _PROGRESS_S
        while process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() > next_s:
                next_s += _PROGRESS_S
                self._print("... still running")

    def _print(self, text: str) -> None:
        self._report(f"{time.monotonic() - self._started:4.0f} s  {text}")


@contextmanager
def _work(folder: Path, report: Report) -> Iterator[_Work]:
    log_path = folder / "install.log"
    log_path.write_text("")
    path = Path(tempfile.mkdtemp(prefix="kpstream-install-"))
    try:
        yield _Work(path, log_path, report)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Allow one installation at a time per folder; a second one waits and finds the servers."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "install.lock").open("w")
    except OSError as exc:
        msg = (
            f"cannot write to the folder of servers {folder} ({exc.strerror}); choose another one "
            "with KPSTREAM_SERVERS_DIR"
        )
        raise InstallError(msg) from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _move_into_place(built: Path, place: Path) -> Path:
    """Put a built file or folder in its place, complete or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(place.name + ".new")
    _remove(new)
    _remove(place)
    if built.is_dir():
        shutil.copytree(built, new)
    else:
        shutil.copy(built, new)
    return new.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a module from Go's cache and make its folders writable."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)

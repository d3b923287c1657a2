"""Get the servers of a site: Kafka's jars through Maven, InfluxDB built from its Go module.

Neither has a Debian package that would do. What is made lies in a folder of its own per version
(`find_servers` says where), appears there whole or not at all, and is never made twice. Everything
temporary is in one work folder, which is gone at the end, however that comes.
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

Say = Callable[[str], None]

_STILL_S = 30.0
_INFLUX_MODULE = "github.com/influxdata/influxdb/v2"
_FLUX_MODULE = "github.com/influxdata/flux"
_OLDEST_GO = (1, 23)  # go.mod of InfluxDB 2.7.12
_OLDEST_CARGO = (1, 72)  # rust-version of libflux


class InstallError(Exception):
    """A server can't be made here; the message says what is missing, or what the tool said."""


def install_kafka(folder: Path | None = None, say: Say = print) -> Path:
    """Have Kafka's jars in the folder; returns the folder of the jars.

    Args:
        folder: Of all servers; None: `servers_dir()`.
        say: Told what is done, a line each.

    Raises:
        InstallError: Maven or Java is not here, or the jars can't be had.
    """
    folder = folder or servers_dir()
    with _lock(folder):
        if libs := find_servers(folder).kafka_libs:
            say(f"Kafka {KAFKA_VERSION} is in {libs.parent}")
            return libs
        _need("mvn", "Maven", "sudo apt install maven")
        _need("java", "Java 17 or later", "sudo apt install default-jre-headless")
        with _work(folder, say) as work:
            (work.path / "pom.xml").write_text(_POM)
            libs = work.path / "libs"
            work.step(
                f"fetching Kafka {KAFKA_VERSION} and what it needs (40 jars, 50 MB) with Maven",
                [
                    *("mvn", "--batch-mode", "--quiet", "--strict-checksums"),
                    "dependency:copy-dependencies",
                    *("-DincludeScope=runtime", f"-DoutputDirectory={libs}"),
                ],
            )
            if not (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file():
                raise InstallError(work.failure("Maven brought no Kafka"))
            place = _put(work.path / "libs", folder / f"kafka-{KAFKA_VERSION}" / "libs")
            say(f"Kafka {KAFKA_VERSION} is in {place.parent}")
        return place


def install_influxd(folder: Path | None = None, say: Say = print) -> Path:
    """Have the program influxd in the folder; returns its path.

    Takes four to five minutes on two cores, and about 3 GB for the caches of Go and Cargo.

    Args:
        folder: Of all servers; None: `servers_dir()`.
        say: Told what is done, a line each.

    Raises:
        InstallError: Go, Cargo, a C compiler or pkg-config is not here, or the build failed.
    """
    folder = folder or servers_dir()
    with _lock(folder):
        if program := find_servers(folder).influxd:
            say(f"InfluxDB {INFLUX_VERSION} is {program}")
            return program
        _need_go()
        _need_cargo()
        _need("cc", "a C compiler", "sudo apt install build-essential")
        _need("pkg-config", "pkg-config", "sudo apt install pkg-config")
        with _work(folder, say) as work:
            program = _built_influxd(work)
            place = _put(program, folder / f"influxd-{INFLUX_VERSION}" / "influxd")
            say(f"InfluxDB {INFLUX_VERSION} is {place}")
        return place


def _built_influxd(work: _Work) -> Path:
    env = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "1"}
    source = work.path / "influxdb"
    _copy(_fetched(work, _INFLUX_MODULE, f"v{INFLUX_VERSION}", env), source)
    flux_version = _required_flux(source / "go.mod")
    fetched = _fetched(work, _FLUX_MODULE, flux_version, env)
    flux = work.path / "flux"
    for part in ("libflux", "stdlib"):
        _copy(fetched / part, flux / part)
    for pinned in (flux / "libflux").glob("rust-toolchain*"):
        pinned.unlink()  # any current toolchain does
    target = work.path / "target"
    work.step(
        "building the query language with Cargo (about one minute)",
        [
            *("cargo", "rustc", "--release", "--locked", "--lib", "--crate-type", "staticlib"),
            # Without the feature `strict`, which a current rustc does not pass.
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
            # Go's cache does not see what pkg-config said: without a flag of its own it would link
            # against the work folder of an earlier build.
            "CGO_LDFLAGS": f"-g -O2 -L{target}/release",
        },
    )
    work.step("trying it", [str(program), "version"])
    return program


def _fetched(work: _Work, module: str, version: str, env: Mapping[str, str]) -> Path:
    said = work.step(
        f"fetching {module} {version}",
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        env=env,
    )
    try:
        return Path(json.loads(said)["Dir"])
    except (ValueError, KeyError) as exc:
        raise InstallError(work.failure(f"Go does not say where {module} is")) from exc


def _required_flux(go_mod: Path) -> str:
    found = re.search(rf"^\s*{re.escape(_FLUX_MODULE)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if found is None:
        msg = f"{go_mod} names no version of {_FLUX_MODULE}"
        raise InstallError(msg)
    return found[1]


# ------------------------------------------------------------------------------- what is needed


def _need(program: str, name: str, how: str) -> None:
    if shutil.which(program) is None:
        msg = f"{name} is needed and not here ({program} is not on PATH): {how}"
        raise InstallError(msg)


def _need_go() -> None:
    how = "install Go 1.23 or later from https://go.dev/dl (or your system's package `golang`)"
    _need("go", "Go", how)
    _not_older("Go", ["go", "env", "GOVERSION"], _OLDEST_GO, how)


def _need_cargo() -> None:
    how = "install Rust 1.72 or later from https://rustup.rs (or your system's package `cargo`)"
    _need("cargo", "Cargo", how)
    _not_older("Cargo", ["cargo", "--version"], _OLDEST_CARGO, how)


def _not_older(name: str, command: Sequence[str], oldest: tuple[int, int], how: str) -> None:
    said = subprocess.run(  # noqa: S603 (our own command line)
        command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL
    )
    found = re.search(r"(\d+)\.(\d+)", said.stdout)
    if found is None:
        msg = f"{name} does not run: `{' '.join(command)}` said {said.stderr.strip()[-300:]!r}"
        raise InstallError(msg)
    if (int(found[1]), int(found[2])) < oldest:
        msg = f"{name} {found[0]} is here, {oldest[0]}.{oldest[1]} or later is needed: {how}"
        raise InstallError(msg)


# ------------------------------------------------------------------------------------- the work


class _Work:
    """A work folder, the steps done in it, and what the tools said."""

    def __init__(self, path: Path, log_path: Path, say: Say) -> None:
        self.path = path
        self.log_path = log_path
        self._say = say
        self._started = time.monotonic()

    def step(
        self,
        text: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command and return what it wrote to its standard output.

        Raises:
            InstallError: It failed; with the end of what it said.
        """
        self._tell(text)
        output = self.path / "step.out"
        with output.open("wb") as out, self.log_path.open("ab") as log_file:
            process = subprocess.Popen(  # noqa: S603 (our own command line)
                tied_to_parent(command),
                cwd=cwd or self.path,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log_file,
                start_new_session=True,  # it and all it starts end together, see below
            )
            try:
                self._await(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = output.read_text(errors="replace")
        if process.returncode != 0:
            with self.log_path.open("a") as log_file:
                log_file.write(said)
            raise InstallError(self.failure(f"`{command[0]}` failed ({text})"))
        return said

    def failure(self, text: str) -> str:
        """The text with the last lines of the log, and where the rest is."""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()[-12:]
        said = "".join(f"\n  | {line[:300]}" for line in lines)
        return f"{text}. It said:{said}\nAll of it: {self.log_path}"

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        next_s = time.monotonic() + _STILL_S
        while process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() > next_s:
                next_s += _STILL_S
                self._tell("... still at it")

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._started:4.0f} s  {text}")


@contextmanager
def _work(folder: Path, say: Say) -> Iterator[_Work]:
    log_path = folder / "install.log"
    log_path.write_text("")
    path = Path(tempfile.mkdtemp(prefix="kpstream-install-"))
    try:
        yield _Work(path, log_path, say)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One installation at a time per folder; a second one waits and finds the work done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "install.lock").open("w")
    except OSError as exc:
        msg = (
            f"the folder of servers {folder} can't be written ({exc.strerror}); name another one "
            "with KPSTREAM_SERVERS_DIR"
        )
        raise InstallError(msg) from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _put(made: Path, place: Path) -> Path:
    """Have what was made in its place, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(place.name + ".new")
    _remove(new)
    _remove(place)
    if made.is_dir():
        shutil.copytree(made, new)
    else:
        shutil.copy(made, new)
    return new.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a module out of Go's cache, where everything may be read-only."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)


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

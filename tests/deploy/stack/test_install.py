"""Installation of servers: missing tools are named with advice; no partial result remains.

The tools are scripts on a PATH of their own; the real Maven, Go and Cargo run in `.ci/run`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from deploy.stack.install import InstallError, install_influxd, install_kafka
from deploy.stack.servers import INFLUX_VERSION, KAFKA_VERSION, find_servers

MAVEN = f"""\
for word in "$@"; do case "$word" in -DoutputDirectory=*) libs="${{word#*=}}";; esac; done
grep -q '<version>{KAFKA_VERSION}</version>' pom.xml || exit 9
mkdir "$libs"; : > "$libs/kafka_2.13-{KAFKA_VERSION}.jar"
"""
GO = """\
case "$1 $2" in
"env GOVERSION") echo go1.26.0;;
"mod download")
  case "$4" in *influxdb*) echo "{\\"Dir\\": \\"$SOURCES/influxdb\\"}";;
               *) echo "{\\"Dir\\": \\"$SOURCES/flux\\"}";; esac;;
"build -tags")
  grep -q -- "-L.*/target/release -lflux" "$PKG_CONFIG_PATH/flux.pc" || exit 9
  case "$CGO_LDFLAGS" in *-L*/target/release) ;; *) exit 7;; esac
  [ "$GOTOOLCHAIN $CGO_ENABLED" = "local 1" ] || exit 8
  while [ "$1" != -o ]; do shift; done
  printf '#!/bin/sh\\necho InfluxDB\\n' > "$2"; chmod +x "$2";;
esac
"""
CARGO = """\
[ "$1" = --version ] && echo "cargo 1.95.0" && exit 0
[ -f ../rust-toolchain.toml ] && exit 9
mkdir -p "$CARGO_TARGET_DIR/release"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with the shell's own tools only; work folders go to `tmp_path/work`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "grep", "mkdir", "chmod", "sleep", "cat"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    monkeypatch.setenv("SOURCES", str(tmp_path / "sources"))
    influxdb = tmp_path / "sources" / "influxdb"
    influxdb.mkdir(parents=True)
    (influxdb / "go.mod").write_text("require (\n\tgithub.com/influxdata/flux v0.196.1\n)\n")
    libflux = tmp_path / "sources" / "flux" / "libflux"
    (libflux / "flux").mkdir(parents=True)
    (libflux / "rust-toolchain.toml").touch()
    (libflux.parent / "stdlib").mkdir()
    for name in ("cc", "pkg-config", "java"):
        _tool(folder, name, "")
    return folder


def _tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}")
    (folder / name).chmod(0o755)


def _all_tools(folder: Path) -> None:
    for name, script in (("mvn", MAVEN), ("go", GO), ("cargo", CARGO)):
        _tool(folder, name, script)


def test_both_servers_are_installed_once_and_the_work_folder_is_removed(
    tools: Path, tmp_path: Path
) -> None:
    _all_tools(tools)
    servers, said = tmp_path / "servers", list[str]()
    libs = install_kafka(servers, said.append)
    program = install_influxd(servers, said.append)
    assert find_servers(servers).kafka_libs == libs
    assert find_servers(servers).influxd == program
    assert list((tmp_path / "work").iterdir()) == []
    assert any("with Cargo (about one minute)" in line for line in said)
    (tools / "mvn").unlink()
    (tools / "go").unlink()  # nothing is needed for what is there
    assert install_kafka(servers, said.append) == libs
    assert install_influxd(servers, said.append) == program
    assert said[-2:] == [
        f"Kafka {KAFKA_VERSION} is in {libs.parent}",
        f"InfluxDB {INFLUX_VERSION} is {program}",
    ]


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("mvn", "apt install maven"),
        ("java", "apt install default-jre-headless"),
        ("go", r"Go 1\.23 or later from https://go\.dev/dl"),
        ("cargo", r"Rust 1\.72 or later from https://rustup\.rs"),
        ("cc", "apt install build-essential"),
        ("pkg-config", "apt install pkg-config"),
    ],
)
def test_a_missing_tool_is_named_with_its_remedy(
    tools: Path, tmp_path: Path, missing: str, remedy: str
) -> None:
    _all_tools(tools)
    (tools / missing).unlink()
    install = install_kafka if missing in {"mvn", "java"} else install_influxd
    with pytest.raises(InstallError, match=f"{missing} is not on PATH.*{remedy}"):
        install(tmp_path / "servers", lambda line: None)


def test_an_old_tool_is_refused_before_anything_is_fetched(tools: Path, tmp_path: Path) -> None:
    _all_tools(tools)
    _tool(tools, "go", '[ "$1" = env ] && echo go1.19.8')
    with pytest.raises(
        InstallError, match=r"Go 1\.19 is too old, 1\.23 or later is required: install"
    ):
        install_influxd(tmp_path / "servers", lambda line: None)


def test_a_failed_tool_shows_its_output_and_leaves_nothing_incomplete(
    tools: Path, tmp_path: Path
) -> None:
    _tool(tools, "mvn", "echo 'Could not transfer artifact: no route to host' >&2; exit 1")
    servers = tmp_path / "servers"
    with pytest.raises(InstallError) as refused:
        install_kafka(servers, lambda line: None)
    assert "`mvn` failed" in str(refused.value)
    assert "| Could not transfer artifact: no route to host" in str(refused.value)
    assert str(servers / "install.log") in str(refused.value)
    assert find_servers(servers).kafka_libs is None
    assert list((tmp_path / "work").iterdir()) == []


def test_a_tool_without_a_result_is_a_failure(tools: Path, tmp_path: Path) -> None:
    _tool(tools, "mvn", "exit 0")
    with pytest.raises(InstallError, match="Maven did not download Kafka"):
        install_kafka(tmp_path / "servers", lambda line: None)


def test_a_folder_that_cannot_be_written_is_named(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstallError, match="KPSTREAM_SERVERS_DIR"):
        install_kafka(tmp_path / "file" / "servers", lambda line: None)


def test_a_second_installation_waits_for_the_first(tools: Path, tmp_path: Path) -> None:
    _tool(tools, "mvn", f"echo x >> {tmp_path}/runs; sleep 0.5; {MAVEN}")
    command = [
        *(sys.executable, "-c"),
        "import sys, pathlib; from deploy.stack.install import install_kafka\n"
        "install_kafka(pathlib.Path(sys.argv[1]))",
        str(tmp_path / "servers"),
    ]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=30)[0].decode()
        assert f"Kafka {KAFKA_VERSION} is in" in said
    assert (tmp_path / "runs").read_text() == "x\n"


def test_no_tool_outlives_an_installation_that_is_stopped(tools: Path, tmp_path: Path) -> None:
    _tool(tools, "mvn", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    command = (
        "import pathlib, signal, sys; from deploy.stack.install import install_kafka\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "install_kafka(pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(tmp_path / "servers")],
        env={**os.environ, "TMPDIR": str(tmp_path / "work")},
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    tool = int((tmp_path / "pid").read_text())
    process.terminate()
    assert process.wait(120) == 143
    assert list((tmp_path / "work").iterdir()) == []
    assert not Path(f"/proc/{tool}").exists() or "Z" in Path(f"/proc/{tool}/stat").read_text()

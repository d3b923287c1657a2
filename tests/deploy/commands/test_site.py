"""``kpstream site`` on the command line: exit codes, output and refusals."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.commands.sitetable import status_table
from deploy.stack.servers import KAFKA_VERSION
from deploy.supervisor.sitestate import Row, SiteState, hold_lock, process_start_time, write_state

NOW_MS = 1_700_000_000_000
ROWS = (
    Row("kafka", "server", "ready", 11, 1, 0, NOW_MS - 90_000, 9092, "", "/l/kafka.log"),
    Row("topics", "step", "done", None, None, 0, NOW_MS - 80_000, 0, "6 topics", ""),
    Row("worker-1", "process", "ready", 12, 2, 3, NOW_MS - 500, 8741, "before: exit code 1", "/l"),
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("KPSTREAM_SITE"):
            monkeypatch.delenv(name)


def site(*args: object) -> Result:
    return CliRunner().invoke(main, ["site", *map(str, args)])


def state(*rows: Row) -> SiteState:
    return SiteState(os.getpid(), process_start_time(os.getpid()), NOW_MS - 95_000, NOW_MS, rows)


def test_without_a_site_the_exit_code_is_three(tmp_path: Path) -> None:
    shown = site("status", "--state-dir", tmp_path)
    assert shown.exit_code == 3
    assert "no site runs" in shown.output
    assert "kpstream site up" in shown.output
    assert json.loads(site("status", "--json", "--state-dir", tmp_path).output) == {
        "running": False,
        "healthy": False,
    }


def test_a_leftover_state_file_is_no_running_site(tmp_path: Path) -> None:
    write_state(tmp_path, state(*ROWS))
    assert site("status", "--state-dir", tmp_path).exit_code == 3


def test_the_exit_code_is_zero_only_when_everything_is_ready(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        write_state(tmp_path, state(*ROWS))
        shown = site("status", "--state-dir", tmp_path)
        assert shown.exit_code == 0
        assert re.search(r"worker-1 +ready .* 12 +8741 +3 +before: exit code 1", shown.output)
        assert re.search(r"topics +done .* 6 topics", shown.output)
        for odd in ("starting", "restarting", "silent", "not ready", "waiting", "stopping"):
            write_state(tmp_path, state(*ROWS[:2], replace(ROWS[2], state=odd)))  # type: ignore[arg-type]
            assert site("status", "--state-dir", tmp_path).exit_code == 1
        page = json.loads(site("status", "--json", "--state-dir", tmp_path).output)
        assert (page["running"], page["healthy"]) == (True, False)
        assert page["rows"][0]["name"] == "kafka"


def test_down_where_nothing_runs_is_fine_and_ends_what_a_killed_site_left(tmp_path: Path) -> None:
    assert site("down", "--state-dir", tmp_path).exit_code == 0
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        frozen = replace(ROWS[2], pid=left.pid, process_start_time=process_start_time(left.pid))
        somebody_else = replace(ROWS[0], pid=os.getpid(), process_start_time=1)
        write_state(tmp_path, state(somebody_else, frozen))
        left.send_signal(signal.SIGSTOP)
        done = site("down", "--state-dir", tmp_path)
        assert done.exit_code == 0
        assert f"worker-1 (pid {left.pid}) is left over" in done.output
        assert left.wait(120) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()


def test_a_second_site_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        for more in ([], ["--detach"]):
            refused = site("up", "--state-dir", tmp_path, *more)
            assert refused.exit_code == 1
            assert "already" in refused.output
            assert "kpstream site status" in refused.output


def test_missing_servers_are_reported_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_SERVERS_DIR", str(tmp_path / "servers"))
    for more in ([], ["--detach"]):
        refused = site("up", "--state-dir", tmp_path / "state", *more)
        assert refused.exit_code == 1
        assert "the site can't start:\n" in refused.output
        assert "run kpstream site install" in refused.output
    assert not (tmp_path / "state" / "site.json").exists()


def test_invalid_settings_are_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_SITE_WORKERS", "many")
    refused = site("status")
    assert refused.exit_code == 1
    assert "KPSTREAM_SITE_WORKERS" in refused.output


def test_install_without_tools_names_each_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_SERVERS_DIR", str(tmp_path / "servers"))
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = site("install")
    assert refused.exit_code == 1
    assert "kafka: Maven is required, but mvn is not on PATH" in refused.output
    assert "influxd: Go is required, but go is not on PATH" in refused.output
    assert "not installed: kafka, influxd" in refused.output
    only = site("install", "--only", "kafka")
    assert "not installed: kafka\n" in only.output


def test_install_finds_installed_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libs = tmp_path / f"kafka-{KAFKA_VERSION}" / "libs"
    libs.mkdir(parents=True)
    (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").touch()
    monkeypatch.setenv("KPSTREAM_SERVERS_DIR", str(tmp_path))
    done = site("install", "--only", "kafka")
    assert done.exit_code == 0
    assert done.output == f"Kafka {KAFKA_VERSION} is in {libs.parent}\n"


def test_units_are_written(tmp_path: Path) -> None:
    done = site("units", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert f"wrote {tmp_path}/out/compose.yaml" in done.output
    (tmp_path / "file").touch()
    refused = site("units", "--out", tmp_path / "file" / "out")
    assert refused.exit_code == 1
    assert str(tmp_path / "file") in refused.output


def test_setup_says_which_server_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_SITE_KAFKA", "127.0.0.1:9")
    refused = site("setup", "--state-dir", tmp_path)
    assert refused.exit_code == 1
    assert "topics: " in refused.output
    assert "127.0.0.1:9" in refused.output


def test_setup_of_a_gateways_influxdb_asks_no_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_PIPELINE_INFLUX_URL", "http://127.0.0.1:9")
    refused = site("setup", "--influx-only", "--state-dir", tmp_path)
    assert refused.exit_code == 1
    assert "buckets: " in refused.output
    assert "topics: " not in refused.output


def test_the_table_holds_words_of_any_length_and_kind() -> None:
    from rich.console import Console

    odd = replace(ROWS[0], detail="[red]no markup[/red] " + "long " * 80)
    said = io.StringIO()
    Console(width=100, file=said).print(status_table(state(odd), NOW_MS))
    assert "[red]no markup[/red]" in said.getvalue()
    assert said.getvalue().count("long") == 80

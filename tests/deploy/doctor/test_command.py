"""Findings of the doctor, on real files and with a gateway made of sockets."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from deploy.doctor.command import diagnose, doctor
from deploy.doctor.findings import Finding
from deploy.doctor.machinechecks import (
    check_clock,
    check_disk,
    check_environment,
    check_memory,
    check_packages,
    faust_kind,
)
from deploy.doctor.pipelinechecks import (
    check_console,
    check_influx,
    check_log,
    check_models,
    check_results,
    log_holder,
)
from deploy.settings.settings import GatewaySettings
from ingest.settings import IngestSettings
from models.dummy import write_dummy
from models.registry import Registry
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from pipeline.points.points import Point
from pipeline.scoring.memory import Ran, write_ran
from pipeline.settings import PipelineSettings
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port
from tests.pipeline.log.logs import flip, make_log

OF_THE_TESTS = [name for name in os.environ if name.startswith("KPSTREAM_")]
"""Variables that say which tests run; the doctor would warn of them."""


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def influx(url: str, token: str) -> PipelineSettings:
    return PipelineSettings(influx_url=url, influx_token=SecretStr(token))


@contextmanager
def serve(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line:
                line.settimeout(5)
                talk(line)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket() as knock:  # a thread that still waits is let go
                knock.connect_ex(server.getsockname())
            thread.join()


@contextmanager
def http(status: int, body: str = "") -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# -- files --------------------------------------------------------------------------------------


def test_missing_files_of_a_new_gateway_are_fine(tmp_path: Path) -> None:
    findings = [
        *check_log(tmp_path / "log.db"),
        *check_results(tmp_path / "results.db"),
        *check_models(tmp_path / "registry"),
    ]
    assert states(findings) == {"log": "ok", "results": "ok", "models": "ok"}
    assert list(tmp_path.iterdir()) == [], "the doctor makes no file"


def test_log_in_use_reports_its_holder_offsets_and_backlog(tmp_path: Path) -> None:
    with closing(SqliteLog(tmp_path / "log.db", partitions=2)) as log:
        log.append([NewRecord("readings", b"[]", key=bytes([n])) for n in range(5)]).result()
        log.commit("scoring", {("readings", 0): 0, ("readings", 1): 0}).result()
        main, groups = check_log(tmp_path / "log.db")
        assert "in use by process" in main.text
        assert "readings 5" in main.text
        assert groups.text == "records to read: scoring 5"
        log.append([NewRecord("readings", b"[]", key=b"x")]).result()
    assert "in use by no process" in check_log(tmp_path / "log.db")[0].text
    assert log_holder(tmp_path / "log.db") is None


def test_checking_the_log_does_not_prevent_a_gateway_from_starting(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "log.db").close()
    check_log(tmp_path / "log.db")
    SqliteLog(tmp_path / "log.db").close()


@pytest.mark.parametrize("at", [0, 8192])
def test_damaged_log_is_a_failure(tmp_path: Path, at: int) -> None:
    path = tmp_path / "log.db"
    SqliteLog(path).close()
    sound = path.read_bytes()
    path.write_bytes(sound[:at] + b"\xff" * (len(sound) - at))
    (finding,) = check_log(path)
    assert finding.state == "fail"


def test_a_student_that_the_registry_has_lost_is_a_failure(tmp_path: Path) -> None:
    memory, registry = tmp_path / "running.json", tmp_path / "registry"
    last = Ran(version=1, digest="0" * 64, stream="engine")
    write_ran(memory, {"rul-fd001": last})
    (starter,) = check_models(registry, memory)
    assert starter.state == "ok"
    assert "adds the starter students" in starter.text
    write_ran(memory, {"rul-fd001": last, "own": last})
    (lost,) = check_models(registry, memory)
    assert lost.state == "fail"
    assert lost.text == f"own v1 ran last, but {registry} no longer has it"


def test_a_log_with_a_damaged_record_is_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    make_log(path)
    flip(path, b"<000100>" * 3)
    (finding,) = check_log(path)
    assert finding.state == "fail"
    assert "record 100 of readings[0] does not match its checksum" in finding.text
    assert "pipeline.log.repair" in finding.text
    with SqliteLog(path):
        (finding,) = check_log(path)
        assert "record 100 of readings[0] does not match its checksum" in finding.text


def test_a_large_log_that_was_not_read_is_no_sound_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    SqliteLog(path).close()
    monkeypatch.setattr("deploy.doctor.pipelinechecks._ON_DEMAND_BYTES", 0)
    known, unknown = check_log(path)
    assert (known.state, unknown.state) == ("ok", "unknown")
    assert "sound" not in known.text
    assert "--deep" in unknown.advice
    assert [each.state for each in check_log(path, deep=True)] == ["ok"]


def test_a_file_that_this_user_may_not_read_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("deploy.doctor.pipelinechecks.log_holder", refuse)
    SqliteLog(tmp_path / "log.db").close()
    settings = GatewaySettings(state_dir=tmp_path, console_port=free_port())
    ingest = IngestSettings(mqtt_port=free_port())
    found = {each.name: each for each in diagnose(settings, ingest, PipelineSettings())}
    assert found["log"].state == found["gateway"].state == "unknown"
    assert f"this user may not read {tmp_path / 'log.db'}" in found["log"].text
    assert "gateway's user" in found["log"].advice


def test_damaged_results_file_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(b"not a database" * 1000)
    assert states(check_results(path)) == {"results": "fail"}


def test_the_points_of_the_results_file_are_reported(tmp_path: Path) -> None:
    tags = (("site", "a"), ("device", "b"), ("stream", "engine"), ("model", "m"))
    with closing(ResultsFile(tmp_path / "results.db")) as results:
        results.write([Point("rul", tags, (("rul", 7.0),), 1_700_000_000_000_000_000)])
        (finding,) = check_results(tmp_path / "results.db")
    assert finding.state == "ok"
    assert "rul 1" in finding.text


def test_stable_students_are_loaded_and_self_tested(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for task in ("rul", "activity"):
        write_dummy(tmp_path / task, task)
        registry.publish(tmp_path / task, stable=task == "rul")
    unused, stable = check_models(registry.root)
    assert (unused.state, stable.state) == ("warn", "ok")
    assert "promote dummy-activity" in unused.advice
    assert stable.text == (
        "dummy-rul v1 scores 'engine', self-test passed: it is the stable version"
    )


def test_damaged_student_is_a_failure(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    write_dummy(tmp_path / "rul")
    registry.publish(tmp_path / "rul", stable=True)
    model = registry.version_path("dummy-rul", 1) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    (finding,) = check_models(registry.root)
    assert finding.state == "fail"
    assert "dummy-rul" in finding.text


# -- services -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "state", "word"),
    [
        (200, '{"ready": true, "problems": []}', "ok", "ready"),
        (503, '{"ready": false, "problems": ["readings[2] stands still"]}', "fail", "readings[2]"),
        (404, "<html>", "fail", "not a kpstream gateway"),
        (200, "[]", "fail", "not a kpstream gateway"),
    ],
)
def test_gateway_speaks_for_itself(status: int, body: str, state: str, word: str) -> None:
    with http(status, body) as url:
        (finding,) = check_console(url, is_expected=True)
    assert finding.state == state
    assert word in finding.text


def test_devices_without_a_stream_and_odd_topics_are_named() -> None:
    sparkplug = '{"notices": ["plant/line/press: in another letter case"], "without_stream": 7}'
    bridge = '{"stray_topics": {"sensors/+": 2, "sensors/+/+/+/+": 3}}'
    parts = f'{{"sparkplug": {sparkplug}, "bridge": {bridge}}}'
    body = f'{{"ready": true, "problems": [], "parts": {parts}}}'
    with http(200, body) as url:
        found = check_console(url, is_expected=True)
    assert states(found) == {"gateway": "ok", "sparkplug": "warn", "topics": "warn"}
    assert "7 nodes or devices match no stream: plant/line/press: in another" in found[1].text
    assert found[2].text.endswith(": sensors/+/+/+/+ 3, sensors/+ 2")


def test_what_the_broker_does_not_keep_is_a_warning() -> None:
    body = '{"ready": true, "problems": [], "notices": ["keeps our session for 1 day"]}'
    with http(200, body) as url:
        found = check_console(url, is_expected=True)
    assert states(found) == {"gateway": "ok", "session": "warn"}
    assert found[1].text == "keeps our session for 1 day"


@pytest.mark.parametrize(
    ("is_expected", "state"), [(True, "fail"), (False, "warn"), (None, "unknown")]
)
def test_silence_of_the_gateway_is_a_failure_where_one_runs(
    is_expected: bool | None, state: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert states(check_console(url, is_expected=is_expected)) == {"gateway": state}


def test_a_server_without_http_is_no_gateway() -> None:
    def talk(line: socket.socket) -> None:
        line.recv(1000)
        line.sendall(b"\x20\x02\x00\x00\r\n")

    with serve(talk) as port:
        (finding,) = check_console(f"http://127.0.0.1:{port}", is_expected=True)
    assert finding.state == "fail"


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (204, "", "ok"),
        (400, '{"code": "invalid", "message": "no points"}', "ok"),
        (400, "Client sent an HTTP request to an HTTPS server.", "fail"),
        (200, "<html>some other page</html>", "fail"),
        (401, "", "fail"),
        (404, '{"code": "not found", "message": "bucket \\"x\\" not found"}', "fail"),
        (405, '{"code": "method not allowed", "message": "no"}', "unknown"),
        (503, "", "warn"),
    ],
)
def test_influxdb_accepts_points_or_the_reason_is_reported(
    status: int, body: str, state: str
) -> None:
    with http(status, body) as url:
        findings = check_influx(influx(url, "hush"))
    assert states(findings) == {"influx": state}
    assert "hush" not in str(findings)
    if state != "ok" and body.startswith("{"):
        assert json.loads(body)["message"] in findings[0].text, "InfluxDB's own words"


def test_influxdb_is_checked_only_if_configured() -> None:
    assert check_influx(PipelineSettings()) == []
    url = f"http://127.0.0.1:{free_port()}"
    assert states(check_influx(influx(url, "hush"))) == {"influx": "fail"}
    assert states(check_influx(PipelineSettings(influx_url=url))) == {"influx": "fail"}


# -- machine ------------------------------------------------------------------------------------


def fill_faust(folder: Path, parts: list[str], ending: str) -> Path:
    for part in parts:
        path = folder / f"{part}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


FAUST_PARTS = [
    "_cython/streams",
    "_cython/windows",
    "models/_cython/fields",
    "transport/_cython/conductor",
]


@pytest.mark.parametrize(
    ("parts", "ending", "environ", "kind"),
    [
        (FAUST_PARTS, EXTENSION_SUFFIXES[0], {}, "compiled"),
        (FAUST_PARTS, EXTENSION_SUFFIXES[0], {"NO_CYTHON": "1"}, "compiled, but NO_CYTHON is set"),
        (FAUST_PARTS[:3], EXTENSION_SUFFIXES[0], {}, "compiled in part only"),
        (FAUST_PARTS, ".pyx", {}, "pure Python"),
        (FAUST_PARTS, ".cpython-27-m68k-linux-gnu.so", {}, "pure Python"),
    ],
)
def test_the_kind_of_faust_is_told_by_what_this_python_can_load(
    tmp_path: Path, parts: list[str], ending: str, environ: dict[str, str], kind: str
) -> None:
    assert faust_kind(environ, fill_faust(tmp_path, parts, ending)) == kind


def test_the_kind_of_faust_is_the_one_that_runs() -> None:
    """Faust itself picks its compiled iterator of streams if it can."""
    asked = "import faust.streams; print(faust.streams._CStreamIterator is not None)"
    environ = {name: value for name, value in os.environ.items() if name != "NO_CYTHON"}
    said = subprocess.check_output([sys.executable, "-c", asked], env=environ, text=True)
    importlib.import_module("faust")  # puts a module without a spec in its place
    assert (faust_kind({}) == "compiled") == (said.strip() == "True")


def test_packages_are_listed_with_their_versions() -> None:
    (finding,) = check_packages()
    assert finding.state == "ok"
    assert re.search(r"faust-streaming 0\.15\.\d+ \((compiled|pure Python)", finding.text)


def test_misspelt_setting_is_a_warning() -> None:
    known = ["KPSTREAM_INGEST_MQTT_HOST"]
    (fine,) = check_environment(known, {"KPSTREAM_INGEST_MQTT_HOST": "x", "HOME": "y"})
    (wrong,) = check_environment(known, {"KPSTREAM_INGEST_MQTT_HOTS": "x"})
    assert (fine.state, wrong.state) == ("ok", "warn")
    assert "KPSTREAM_INGEST_MQTT_HOTS" in wrong.text


@pytest.mark.parametrize(
    ("wall_s", "synchronised", "state"),
    [
        ([1.8e9, 1.8e9 + 0.1], True, "ok"),
        ([1.8e9, 1.8e9 + 0.1], "nobody says so", "unknown"),
        ([1.8e9, 1.8e9 + 0.1], False, "warn"),
        ([1.8e9, 1.8e9 - 60], True, "fail"),
        ([100.0, 100.1], True, "fail"),
    ],
    ids=["kept", "unknown", "not-kept", "jumps", "never-set"],
)
def test_clock(wall_s: list[float], synchronised: bool | str, state: str) -> None:
    walls = iter([*wall_s, *[wall_s[-1]] * 3])
    steady = iter([5.0, 5.1])
    found = check_clock(
        lambda: next(walls), lambda: next(steady), lambda s: None, lambda: synchronised
    )
    assert states(found) == {"clock": state}


def test_disk_is_judged_where_the_state_will_be(tmp_path: Path) -> None:
    (finding,) = check_disk(tmp_path / "not" / "there" / "yet")
    assert finding.name == "disk"
    assert "free for" in finding.text
    (tmp_path / "file").touch()
    assert states(check_disk(tmp_path / "file" / "state")) == {"disk": "fail"}


@pytest.mark.parametrize(("mib", "state"), [(32, "fail"), (128, "warn"), (1024, "ok")])
def test_memory(mib: int, state: str) -> None:
    assert states(check_memory(mib * 1024 * 1024)) == {"memory": state}


# -- the command --------------------------------------------------------------------------------


def run(tmp_path: Path, *args: str) -> tuple[int, str]:
    address = f"127.0.0.1:{free_port()}"
    options = ["--mqtt", address, "--state-dir", str(tmp_path), "--console-port", str(free_port())]
    result = CliRunner().invoke(doctor, [*options, *args], env=dict.fromkeys(OF_THE_TESTS))
    return result.exit_code, result.output


def test_one_line_per_finding_and_a_failure_in_the_exit_code(tmp_path: Path) -> None:
    code, output = run(tmp_path)
    assert code == 1
    lines = output.splitlines()
    assert lines[0].startswith("ok    packages  Python ")
    assert any(line.startswith("fail  broker    TCP: cannot reach 127.0.0.1:") for line in lines)
    assert any(line.strip().startswith("-> check that the broker runs there") for line in lines)
    assert any(line.startswith("?     broker    CONNECT: not tried") for line in lines)
    counts = r"\d+ ok, 1 warning, 1 failed, [45] unknown \(\?\)"
    assert re.fullmatch(counts, lines[-1]), lines[-1]


def test_json_output_has_the_same_findings(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--json")
    report = json.loads(output)
    assert (code, report["ok"]) == (1, False)
    assert {"name", "state", "text", "advice", "rows"} == set(report["findings"][0])
    names = [finding["name"] for finding in report["findings"]]
    for name in ("packages", "broker", "log", "models", "results", "gateway", "clock", "disk"):
        assert name in names


async def test_warnings_and_unknowns_alone_are_no_failure(tmp_path: Path) -> None:
    async with ScriptedBroker() as broker:
        broker.confirms = broker.echoes = True
        broker.announce(receive_maximum=10, session_expiry_interval=3600)
        options = ["--mqtt", f"127.0.0.1:{broker.port}", "--state-dir", str(tmp_path)]
        options += ["--console-port", str(free_port())]
        result = await asyncio.to_thread(CliRunner().invoke, doctor, options)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any(line.startswith("warn  broker    CONNECT: the broker keeps our") for line in lines)
    assert any(line.startswith("?     queue     cannot tell how many") for line in lines)
    assert any(line.startswith(" " * 18 + "Receive Maximum  10      most mes") for line in lines)


def test_an_invalid_setting_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_PIPELINE_PARTITIONS", "none")
    code, output = run(tmp_path)
    assert code == 1
    assert "KPSTREAM_PIPELINE_PARTITIONS" in output


def test_check_that_breaks_down_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faint() -> list[Finding]:
        raise RuntimeError("boom")

    monkeypatch.setattr("deploy.doctor.machinechecks.check_packages", faint)
    ingest = IngestSettings(mqtt_port=free_port())
    settings = GatewaySettings(state_dir=tmp_path, console_port=free_port())
    findings = list(diagnose(settings, ingest, PipelineSettings()))
    assert findings[0].state == "fail"
    assert "boom" in findings[0].text
    assert findings[-1].name == "memory"


def test_command_is_mounted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "doctor", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout

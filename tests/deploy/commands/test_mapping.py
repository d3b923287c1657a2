"""Mapping files can be listed, copied and tried on messages of every origin."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from deploy.commands.mapping import mapping
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.mapping.ready import ready_names, ready_path
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.topics import DEAD_LETTERS
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from tests.fakes.ports import free_port

SAMPLES = Path(__file__).parents[2] / "ingest" / "mapping" / "ready"
IMU = """
topic = "imu/{device}"
site = "hall"
stream = "wrist"
[time]
path = "ts"
form = "epoch-ms"
[channels]
acc_x = { path = "x", unit = "g", to = "m/s2" }
acc_y = { path = "y", unit = "g" }
acc_z = { path = "z" }
"""
NOW_MS = 1_700_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry with the student that reads the stream wrist, and its state folder."""
    from models.registry import Registry
    from models.zoo import zoo_path

    root = tmp_path / "state" / "registry"
    Registry(root).seed(zoo_path("har-wrist"))
    return root


def run(*words: str | Path, messages: bytes = b"") -> Result:
    return CliRunner().invoke(mapping, [*map(str, words)], input=messages)


def imu_lines(count: int, *, step_ms: int = 10, ahead_ms: int = 0) -> bytes:
    lines = [
        {
            "topic": "imu/arm",
            "payload": {"ts": NOW_MS + ahead_ms + step_ms * at, "x": 1.0, "y": 0.0, "z": 9.81},
            "recv_ms": NOW_MS + step_ms * at,
        }
        for at in range(count)
    ]
    return b"\n".join(map(orjson.dumps, lines))


def tried(tmp_path: Path, text: str, messages: bytes, *words: str | Path) -> Result:
    path = tmp_path / "kind.toml"
    path.write_text(text)
    return run("try", path, "--state-dir", tmp_path / "state", *words, messages=messages)


def test_list_names_every_ready_file() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ready_names()


def test_copy_writes_a_ready_file_and_never_over_another(tmp_path: Path) -> None:
    result = run("copy", "tasmota", tmp_path / "mappings")
    path = tmp_path / "mappings" / "tasmota.toml"
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == ready_path("tasmota").read_bytes()
    path.write_text("mine")
    again = run("copy", "tasmota", tmp_path / "mappings")
    assert again.exit_code == 1
    assert "exists and stays as it is" in again.output
    assert path.read_text() == "mine"


def test_copy_of_an_unknown_file_names_those_that_there_are(tmp_path: Path) -> None:
    result = run("copy", "toaster", tmp_path)
    assert result.exit_code == 1
    assert "there are home-assistant-statestream, sensor-logger" in result.output


@pytest.mark.parametrize("name", ready_names())
def test_try_of_a_ready_file_tells_refusals_by_its_exit_code(tmp_path: Path, name: str) -> None:
    messages = (SAMPLES / f"{name}.jsonl").read_bytes()
    cases = [orjson.loads(line) for line in messages.splitlines()]
    result = run("try", ready_path(name), "--json", "--state-dir", tmp_path, messages=messages)
    found = orjson.loads(result.stdout)
    assert result.exit_code == (1 if any("refused" in case for case in cases) else 0)
    assert any(stream["readings"] for stream in found["streams"])
    for case, message in zip(cases, found["messages"], strict=True):
        assert len(message["readings"]) == len(case.get("becomes", ()))
        assert (message["refused"] or {"reason": None})["reason"] == case.get("refused")


def test_try_shows_readings_rate_clock_and_what_the_student_lacks(
    tmp_path: Path, registry: Path
) -> None:
    assert registry.is_dir()
    result = tried(tmp_path, IMU, imu_lines(50, ahead_ms=-2500))
    assert result.exit_code == 0, result.output
    assert "imu/arm" in result.output
    assert "acc_x=9.80665 acc_y=0 acc_z=9.81" in result.output
    assert "acc_x  x  g -> m/s2, x 9.80665" in result.output
    assert "hall/arm/wrist: 50 readings, 100 Hz" in result.output
    assert "2.5 s behind the time of receipt" in result.output
    assert "har-wrist v1 scores it" in result.output
    assert 'acc_y is in g: write to = "m/s2"' in result.output
    assert 'acc_z must be in m/s2: write unit = "..."' in result.output
    assert "50 messages: 50 become readings, 0 refused" in result.output


def test_try_tells_a_slow_stream_and_missing_channels(tmp_path: Path, registry: Path) -> None:
    assert registry.is_dir()
    text = IMU.replace('acc_z = { path = "z" }', "")
    result = tried(tmp_path, text, imu_lines(5, step_ms=100))
    assert "10 Hz is below half of its rate of 103 Hz" in result.output
    assert "har-wrist v1 does not score it: the channels acc_z are missing" in result.output


def test_try_warns_of_a_clock_ahead_that_the_bridge_refuses(tmp_path: Path) -> None:
    result = tried(tmp_path, IMU, imu_lines(3, ahead_ms=3_600_000))
    assert "3600.0 s ahead of the time of receipt" in result.output
    assert "the bridge refuses its readings (future)" in result.output


JOINED = """
topic = "meter/{device}/{quantity}"
format = "value"
site = "hall"
stream = "power"
[channels]
power = { unit = "W", when = { quantity = "power" } }
voltage = { unit = "V", when = { quantity = "voltage" } }
[join]
max_age_ms = 2000
emit = "power"
"""


def test_try_shows_the_readings_that_a_join_makes_and_what_is_in_none(tmp_path: Path) -> None:
    messages = [
        ("power", "60", 0),  # no voltage yet
        ("voltage", "230.5", 1000),
        ("power", "61", 1400),
        ("power", "62", 3000),
        ("power", "63", 9000),  # the voltage is too old
    ]
    lines = [
        {"topic": f"meter/m1/{name}", "payload": text, "recv_ms": NOW_MS + at}
        for name, text, at in messages
    ]
    given = b"\n".join(map(orjson.dumps, lines))
    result = tried(tmp_path, JOINED, given)
    assert result.exit_code == 0, result.output
    assert "2 readings joined from 5 parts" in result.output
    assert "power=61 voltage=230.5" in result.output
    assert "power=62 voltage=230.5" in result.output
    assert "2 values of the trigger came when another channel had no fresh value" in result.output
    found = orjson.loads(tried(tmp_path, JOINED, given, "--json").stdout)
    assert [each["ts_ms"] - NOW_MS for each in found["readings"]] == [1400, 3000]
    assert found["joined"]["incomplete_total"] == 2


def test_try_fails_if_a_join_makes_no_reading(tmp_path: Path) -> None:
    result = tried(tmp_path, JOINED, b"meter/m1/power 60")
    assert result.exit_code == 1
    assert "no value yet for voltage" in result.output


def test_try_names_the_stream_of_a_student_whose_channels_it_has(
    tmp_path: Path, registry: Path
) -> None:
    assert registry.is_dir()
    result = tried(tmp_path, IMU.replace('"wrist"', '"arm"'), imu_lines(3))
    assert "arm: no student scores this stream (students here score wrist)" in result.output
    assert 'it scores the stream wrist: write stream = "wrist"' in result.output


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (b'imu/arm {"ts": 1700000000000, "x": 1, "y": 2}', "acc_z: the message has nothing at z"),
        (b"imu/arm online", "not JSON"),
        (b"garbage", "line 1: no message: "),
        (b'other/topic {"x": 1}', "none has a topic of this mapping (imu/+)"),
        (b"", "0 messages"),
        (b'imu/arm {"ts": 1700000000000, "x": "\x1b[31m", "y": 2, "z": 3}', "refused, mapping"),
    ],
)
def test_try_fails_if_a_message_is_refused_or_none_is_read(
    tmp_path: Path, messages: bytes, told: str
) -> None:
    result = tried(tmp_path, IMU, messages)
    assert result.exit_code == 1
    assert told in result.output
    assert "\x1b" not in result.output


def test_try_of_a_broken_file_tells_every_fault(tmp_path: Path) -> None:
    result = tried(tmp_path, 'topic = "a/{device}"\nsite = "s"\nstraem = "x"\n', b"")
    assert result.exit_code == 1
    assert "straem: no such key; did you mean stream?" in result.output
    assert "channels: is missing" in result.output


def test_try_reads_the_dead_letters_of_a_running_gateway(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    log = SqliteLog(state / "log.db")
    body = b'{"ts": 1700000000000, "x": 1, "y": 2, "z": 3}'
    letters = [
        DeadLetter(RefusalReason.mapping, "old fault", "imu/arm", NOW_MS, body, "bridge"),
        DeadLetter(RefusalReason.mapping, "x", "tele/a/SENSOR", NOW_MS, b"{}", "bridge"),
        DeadLetter(
            RefusalReason.mapping, "(first 3 of 300000 bytes kept)", "imu/arm", 1, b"{", "bridge"
        ),
    ]
    log.append(
        [NewRecord(DEAD_LETTERS, encode_dead_letter(each), each.id.encode()) for each in letters]
    ).result()
    result = tried(tmp_path, IMU, b"", "--dead-letters")
    log.close()
    assert result.exit_code == 0, result.output
    assert "1 messages: 1 become readings" in result.output
    assert "1 dead letters are shortened and left out" in result.output


async def _publish(port: int, messages: dict[str, bytes]) -> None:
    async with Publisher(Endpoint("127.0.0.1", port, "device")) as publisher:
        assert await publisher.connection.wait_connected()
        while True:
            for topic, payload in messages.items():
                await publisher.publish(topic, payload)
            await asyncio.sleep(0.05)


def beside_a_device(
    port: int, messages: dict[str, bytes], *words: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `kpstream map` beside a device that keeps publishing."""
    command = [sys.executable, "-m", "deploy.cli", "map", *words]

    async def both() -> subprocess.CompletedProcess[bytes]:
        device = asyncio.ensure_future(_publish(port, messages))
        try:
            return await asyncio.to_thread(
                subprocess.run, command, capture_output=True, timeout=60, check=False
            )
        finally:
            device.cancel()

    return asyncio.run(both())


def test_try_listens_to_the_broker_as_a_client_of_its_own(tmp_path: Path) -> None:
    body = b'{"ts": 1700000000000, "x": 1, "y": 2, "z": 3}'
    path = tmp_path / "kind.toml"
    path.write_text(IMU)
    with LocalBroker(tmp_path / "broker") as broker:
        words = ["try", str(path), "--json", "--seconds", "1", "--state-dir", str(tmp_path)]
        words += ["--mqtt", f"{broker.host}:{broker.port}"]
        done = beside_a_device(broker.port, {"imu/arm": body, "x/y": b"1"}, *words)
        assert done.returncode == 0, done.stderr.decode()
        found = orjson.loads(done.stdout)
        assert {each["topic"] for each in found["messages"]} == {"imu/arm"}
        assert found["streams"][0]["is_received_time"] is False


class Interrupted(io.BytesIO):
    """Standard input of which the end is Ctrl-C."""

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise KeyboardInterrupt
        return line


def test_try_of_an_endless_input_ends_with_a_result_on_interrupt(tmp_path: Path) -> None:
    path = tmp_path / "kind.toml"
    path.write_text(IMU)
    words = ["try", str(path), "--state-dir", str(tmp_path)]
    result = CliRunner().invoke(mapping, words, input=Interrupted(imu_lines(3) + b"\n"))
    assert result.exit_code == 0, result.output
    assert "stopped" in result.output
    assert "3 messages: 3 become readings" in result.output


def test_try_without_a_broker_says_so(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    result = tried(tmp_path, IMU, b"", "--seconds", "1", "--mqtt", address)
    assert result.exit_code == 1
    assert f"not connected to {address}" in result.output


def test_draft_writes_a_file_that_try_accepts_and_never_over_another(tmp_path: Path) -> None:
    messages, out = tmp_path / "messages.jsonl", tmp_path / "new" / "imu.toml"
    messages.write_bytes(imu_lines(5) + b"\nother/topic on\nnonsense\n")
    result = run("draft", "imu/#", "--messages", messages, "--out", out)
    assert result.exit_code == 0, result.output
    assert "reads 5 of 5 messages" in result.output
    assert "line 7: no message: " in result.output
    assert "check: the units of x, y, z" in result.output
    tried_out = run("try", out, "--state-dir", tmp_path / "state", messages=imu_lines(5))
    assert tried_out.exit_code == 0, tried_out.output
    again = run("draft", "--messages", messages, "--out", out)
    assert again.exit_code == 1
    assert "exists and stays as it is" in again.output


def test_draft_without_numbers_or_messages_says_so(tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    messages.write_bytes(b"a/b on\n")
    result = run("draft", "--messages", messages)
    assert result.exit_code == 1
    assert "none of 1 messages holds a number (topics: a/b)" in result.output
    assert "give a topic filter" in run("draft").output


def test_draft_listens_to_the_broker(tmp_path: Path) -> None:
    out = tmp_path / "imu.toml"
    with LocalBroker(tmp_path / "broker") as broker:
        there = ["--mqtt", f"{broker.host}:{broker.port}", "--seconds", "1", "--out", str(out)]
        done = beside_a_device(broker.port, {"imu/arm": b'{"x": 1.5}'}, "draft", "imu/#", *there)
        assert done.returncode == 0, done.stderr.decode()
    assert 'topic = "imu/{device}"' in out.read_text().splitlines()

"""Refused messages can be listed beside a running gateway, and published again."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from deploy.commands.deadletters import dead_letters
from ingest.blocks import decode_messages
from ingest.bridge import Bridge
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.messages import Batch
from ingest.mqtt.broker import LocalBroker
from ingest.payloads import MAX_PAYLOAD_BYTES, encode_payload
from ingest.settings import IngestSettings
from ingest.topics import DEAD_LETTERS, READINGS
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker

NOW_MS = 1_700_000_000_000
TOPIC = "sensors/plant/press-1/engine"


def dead_letter(
    number: int, reason: str = "not_json", topic: str = TOPIC, **other: str
) -> DeadLetter:
    detail = other.get("detail", f"detail {number}")
    raw = body(number) if reason == "no_model" else b"{ %d" % number
    return DeadLetter(RefusalReason(reason), detail, topic, NOW_MS + number, raw, "bridge")


SAMPLES = [
    dead_letter(1),
    dead_letter(2, "no_model"),
    dead_letter(3, "no_model", "sensors/plant/press-2/engine"),
    dead_letter(4, detail="\x1b[31mred[/] [bold]"),
    dead_letter(5, "too_large", detail="300000 bytes (first 10 of 300000 bytes kept)"),
    dead_letter(6, "bad_topic", "sensors/plant/press\ufffd/engine"),
]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose log is held by a running gateway."""
    log = SqliteLog(tmp_path / "log.db")
    records = [NewRecord(DEAD_LETTERS, encode_dead_letter(x), x.id.encode()) for x in SAMPLES]
    records += [records[0], NewRecord(DEAD_LETTERS, b"no letter"), NewRecord(READINGS, b"[]")]
    log.append(records).result()
    yield tmp_path
    log.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters, arguments, catch_exceptions=False)


def listed(state: Path, *arguments: str) -> list[dict[str, object]]:
    result = run("list", "--state-dir", str(state), "--json", *arguments)
    assert result.exit_code == 0
    return [orjson.loads(line) for line in result.output.splitlines()]


def test_lists_each_dead_letter_once_beside_a_running_gateway(state: Path) -> None:
    found = listed(state)
    assert [row["recv_ms"] for row in found] == [NOW_MS + n for n in range(1, 7)]
    assert found[0]["times"] == 2
    assert found[0]["raw"] == "{ 1"
    assert found[0]["id"] == SAMPLES[0].id
    assert len(listed(state, "--reason", "no_model")) == 2
    assert len(listed(state, "--device", "plant/press-2")) == 1


def test_the_table_shows_counts_and_escapes_content_of_messages(state: Path) -> None:
    output = run("list", "--state-dir", str(state)).output
    assert "6 dead letters (bad_topic 1, no_model 2, not_json 2, too_large 1)" in output
    assert "1 records of the topic are not dead letters" in output
    assert "\x1b[31m" not in output
    assert "[bold]" in output.replace("\n", "")


def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    result = run("list", "--state-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "no log at" in result.output


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_narrow_terminal_shows_all_of_it(
    state: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    output = run("list", "--state-dir", str(state)).output
    together = "".join(output.split())
    for each in SAMPLES:
        assert each.id[:8] in output
        assert each.reason.value in output
        assert "".join(each.mqtt_topic.split()) in together
    assert "300000bytes(first10of300000byteskept)" in together
    assert "received 2 times" in output
    rows = output.partition(f"{len(SAMPLES)} dead letters")[0].splitlines()
    assert max(map(len, rows)) <= columns


def test_lists_a_log_that_is_not_in_use(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append([NewRecord(DEAD_LETTERS, encode_dead_letter(SAMPLES[0]))]).result()
    log.close()
    assert len(listed(tmp_path)) == 1
    SqliteLog(tmp_path / "log.db").close()


def test_replay_without_a_selection_is_refused(state: Path) -> None:
    result = run("replay", "--state-dir", str(state))
    assert result.exit_code == 2
    assert "choose dead letters with" in result.output


@pytest.mark.needs_mosquitto
def test_replay_publishes_valid_messages_and_reports_the_others(
    state: Path, tmp_path: Path
) -> None:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as broker:
        there = ("--state-dir", str(state), "--mqtt", f"{broker.host}:{broker.port}")
        log = FakeLog()

        async def bridge_and_replay() -> tuple[Result, Result]:
            bridge = Bridge(IngestSettings(mqtt_port=broker.port), log)
            task = asyncio.ensure_future(bridge.run())
            await until(lambda: bridge.health().connected)
            one = await asyncio.to_thread(run, "replay", *there, "--id", SAMPLES[1].id[:12])
            rest = await asyncio.to_thread(run, "replay", *there, "--all")
            await until(lambda: bridge.counters.received_total == 5)
            bridge.stop()
            await task
            return one, rest

        one, rest = asyncio.run(bridge_and_replay())
        assert "1 of 1 published again to 127.0.0.1:" in one.output
        assert "2 cannot be published again" in rest.output
        assert "4 of 4 published again to 127.0.0.1:" in rest.output
        assert log.numbers() == [2, 2, 3]
        # Refused again under the same id: no second dead letter.
        assert {x.raw for x in log.dead_letters()} == {b"{ 1", b"{ 4"}
        dry = run("replay", *there, "--reason", "no_model", "--dry-run")
        assert "2 would be published" in dry.output


def test_a_dead_letter_that_has_grown_is_published_in_parts(tmp_path: Path) -> None:
    ts = list(range(NOW_MS, NOW_MS + 10_000))
    raw = encode_payload(ts, {"a": [1e15] * 10_000, "b": [0.25] * 10_000})
    assert len(raw) > MAX_PAYLOAD_BYTES
    grown = DeadLetter(RefusalReason.no_model, "no model", TOPIC, NOW_MS, raw, "windows")
    log = SqliteLog(tmp_path / "log.db")
    log.append([NewRecord(DEAD_LETTERS, encode_dead_letter(grown))]).result()
    log.close()
    taken = FakeLog()
    with LocalBroker(tmp_path / "broker") as broker:

        async def bridge_and_replay() -> Result:
            settings = IngestSettings(mqtt_host=broker.host, mqtt_port=broker.port)
            bridge = Bridge(settings, taken)
            running = asyncio.create_task(bridge.run())
            await until(lambda: bridge.health().connected)
            where = ("--state-dir", str(tmp_path), "--mqtt", f"{broker.host}:{broker.port}")
            result = await asyncio.to_thread(run, "replay", *where, "--all")
            await until(lambda: sum(len(batch.ts_ms) for batch in _batches(taken)) >= len(ts))
            bridge.stop()
            await running
            return result

        result = asyncio.run(bridge_and_replay())
    assert "1 of 1 published again" in result.output
    batches = _batches(taken)
    assert [int(at) for batch in batches for at in batch.ts_ms] == ts
    assert {len(batch.values["b"]) == len(batch.ts_ms) for batch in batches} == {True}


def _batches(taken: FakeLog) -> list[Batch]:
    return [
        item
        for record in taken.records
        if record.topic == READINGS
        for item in decode_messages(record.value)
        if isinstance(item, Batch)
    ]


def test_replay_keeps_to_the_limits_of_the_broker(tmp_path: Path) -> None:
    ts = list(range(NOW_MS, NOW_MS + 40))
    batch = encode_payload(ts, {"a": [1e15] * 40})
    whole = b"x" * 400  # no batch, so it cannot be split
    log = SqliteLog(tmp_path / "log.db")
    for raw in (whole, batch):
        refused = DeadLetter(RefusalReason.no_model, "no model", TOPIC, NOW_MS, raw, "windows")
        log.append([NewRecord(DEAD_LETTERS, encode_dead_letter(refused))]).result()
    log.close()

    async def replayed() -> tuple[Result, ScriptedBroker]:
        async with ScriptedBroker() as broker:
            broker.announce(maximum_packet_size=300, receive_maximum=1)
            broker.confirms = True
            where = ("--state-dir", str(tmp_path), "--mqtt", f"127.0.0.1:{broker.port}")
            return await asyncio.to_thread(run, "replay", *where, "--all", "--anyway"), broker

    result, broker = asyncio.run(replayed())
    assert result.exit_code == 1
    assert "cannot publish 400 bytes on" in result.output
    assert "1 of 2 published again" in result.output
    assert len(broker.received) > 1
    assert [at for part in broker.received for at in orjson.loads(part)["ts"]] == ts


def test_replay_gives_up_on_a_broker_that_hangs_up_at_every_publication(state: Path) -> None:
    async def replayed() -> Result:
        async with ScriptedBroker() as broker:
            broker.closes_at = "publish"
            where = ("--state-dir", str(state), "--mqtt", f"127.0.0.1:{broker.port}")
            return await asyncio.to_thread(run, "replay", *where, "--all", "--anyway")

    result = asyncio.run(replayed())
    assert result.exit_code == 1
    assert "given up: the broker has ended 3 connections in a row" in result.output
    assert "0 of 4 published again" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_replay_that_the_broker_leaves_unanswered(
    state: Path, number: signal.Signals
) -> None:
    async def replayed() -> tuple[str, int | None]:
        async with ScriptedBroker() as broker:
            where = ("--state-dir", str(state), "--mqtt", f"127.0.0.1:{broker.port}")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.cli", "dead-letters", "replay", *where, "--all"),
                "--anyway",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            )
            await until(lambda: len(broker.received) == 4)
            process.send_signal(number)
            output, _ = await asyncio.wait_for(process.communicate(), 120)
            return output.decode(), process.returncode

    output, code = asyncio.run(replayed())
    assert code == 130
    assert "stopped: 0 of 4 published again" in output


def test_a_sparkplug_message_is_not_replayed_out_of_sequence(tmp_path: Path) -> None:
    lost = dead_letter(1, "no_birth", "spBv1.0/plant/DDATA/line/press")
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([NewRecord(DEAD_LETTERS, encode_dead_letter(lost), lost.id.encode())]).result()
    result = run("replay", "--all", "--state-dir", str(tmp_path))
    assert "1 cannot be published again" in result.output
    assert "nothing to publish" in result.output


MAPPING = """
topic = "tele/{device}/SENSOR"
site = "plant"
stream = "engine"
[channels]
power = "P"
"""


def mapped_letter(number: int, raw: bytes) -> DeadLetter:
    topic = f"tele/plug-{number}/SENSOR"
    return DeadLetter(RefusalReason.mapping, "wrong", topic, NOW_MS + number, raw, "bridge")


async def test_mapped_messages_go_through_the_mended_mapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "mappings"
    files.mkdir()
    (files / "plugs.toml").write_text(MAPPING)
    monkeypatch.setenv("KPSTREAM_INGEST_MAPPINGS", str(files))
    letters = [mapped_letter(1, b'{"P": 5}'), mapped_letter(2, b'{"Q": 5}'), dead_letter(3)]
    log = SqliteLog(tmp_path / "log.db")
    log.append(
        [NewRecord(DEAD_LETTERS, encode_dead_letter(x), x.id.encode()) for x in letters]
    ).result()
    found = FakeLog()
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), found)
        async with running_bridge(bridge):
            options = ("--state-dir", str(tmp_path), "--mqtt", f"127.0.0.1:{broker.port}")
            result = await asyncio.to_thread(run, "replay", "--reason", "mapping", *options)
            assert result.exit_code == 0, result.output
            await until(lambda: found.batches())
    log.close()
    (batch,) = found.batches()
    assert (batch.site, batch.device, batch.stream) == ("plant", "plug-1", "engine")
    assert batch.ts_ms.tolist() == [NOW_MS + 1]  # received then, not now
    assert batch.values == {"power": [5.0]}
    assert "1 refused again: " in result.output
    rows = {row["id"]: row["replayed_as"] for row in listed(tmp_path)}
    assert rows == {letters[0].id: "replay", letters[1].id: None, letters[2].id: None}


def test_a_broken_mapping_stops_a_replay_before_anything_is_published(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = tmp_path / "mappings"
    files.mkdir()
    (files / "plugs.toml").write_text("nonsense")
    monkeypatch.setenv("KPSTREAM_INGEST_MAPPINGS", str(files))
    result = run("replay", "--state-dir", str(state), "--all")
    assert result.exit_code == 1
    assert "mend the mapping files first" in result.output

"""`kpstream label`: published with QoS 1 and confirmed, or what to do; listed and revoked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from ingest.labels import Label, decode_label, encode_label_record, label_key
from ingest.logwriter import LogRecord
from ingest.topics import LABELS
from pipeline.log.locallog import open_log
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port
from tests.fakes.recordings import T0_MS, label

PLACE = "plant-7/engine-1/engine"


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env or {}).invoke(main, ["label", *words])


async def published(
    *words: str, change: Callable[[ScriptedBroker], None] = lambda _: None
) -> tuple[Result, list[tuple[str, Label]]]:
    """Run a command against a broker; returns what it published, too."""
    async with ScriptedBroker() as broker:
        broker.confirms = True
        change(broker)
        address = f"127.0.0.1:{broker.port}"
        result = await asyncio.to_thread(run, *words, "--mqtt", address)
        return result, [(each.topic, decode_label(each.payload)) for each in broker.published]


@pytest.mark.parametrize(
    ("words", "wanted", "said"),
    [
        (
            ("failed", PLACE, "--at", str(T0_MS), "--note", "bearing"),
            Label("x", "failed", T0_MS, T0_MS, "bearing", by="Ada"),
            "failed at 2025-11-29 00:00:00 UTC (bearing)",
        ),
        (
            ("replaced", PLACE, "--at", "2025-11-29T01:00:00+01:00"),
            Label("x", "replaced", T0_MS, T0_MS, by="Ada"),
            "replaced at 2025-11-29 00:00:00 UTC",
        ),
        (
            ("span", PLACE, "--from", str(T0_MS), "--to", str(T0_MS + 500), "--name", "climbing"),
            Label("x", "span", T0_MS, T0_MS + 500, "climbing", by="Ada"),
            "climbing from 2025-11-29 00:00:00 UTC to 2025-11-29 00:00:00.500 UTC",
        ),
        (
            ("confirmed", PLACE, "--at", str(T0_MS)),
            Label("x", "confirmed", T0_MS, T0_MS, by="Ada"),
            "score confirmed at",
        ),
        (
            ("wrong", PLACE, "--from", str(T0_MS), "--to", str(T0_MS + 1), "--right", "sitting"),
            Label("x", "wrong", T0_MS, T0_MS + 1, "sitting", by="Ada"),
            "(right: sitting)",
        ),
    ],
)
async def test_label_is_published_and_confirmed(
    words: tuple[str, ...], wanted: Label, said: str
) -> None:
    result, sent = await published(*words, "--id", "x", "--by", "Ada")
    assert result.exit_code == 0, result.output
    assert sent == [(f"labels/{PLACE}", wanted)]
    assert result.output.startswith(f"{PLACE}: ")
    assert said in result.output


async def test_label_without_an_id_gets_one_and_the_time_of_now() -> None:
    result, ((_, given),) = await published("failed", PLACE)
    assert re.fullmatch(r"failed-[0-9a-f]{8}", given.id)
    assert given.from_ms > T0_MS
    assert f"(label {given.id})" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("failed", "engine-1"), "is not SITE/DEVICE/STREAM"),
        (("failed", "a/b/../c"), "is not SITE/DEVICE/STREAM"),
        (("failed", PLACE, "--at", "yesterday"), "neither epoch milliseconds nor a time"),
        (("failed", PLACE, "--at", "2099-01-01"), "a label is about what has happened"),
        (("failed", PLACE, "--at", "1700000000"), "looks like seconds"),
        (("failed", PLACE, "--id", "a b"), "is not a name"),
        (("failed", PLACE, "--note", "x" * 81), "up to 80 printable characters"),
        (("span", PLACE, "--from", "2", "--to", "1", "--name", "x"), "is not before"),
        (("wrong", PLACE, "--from", str(T0_MS)), "give --at, or --from and --to"),
        (("wrong", PLACE, "--from", "1", "--to", "2", "--at", "1"), "give --at, or --from and"),
        (("failed", PLACE, "--note", "J\udcf6rg"), "set the terminal to UTF-8"),
        (("failed", PLACE, "--id", "J\udcf6rg"), "set the terminal to UTF-8"),
        (("failed", PLACE, "--by", "J\udcf6rg"), "set the terminal to UTF-8"),
        (("revoke", PLACE, "x", "--by", "J\udcf6rg"), "set the terminal to UTF-8"),
    ],
)
def test_what_is_no_label_is_refused_before_it_is_published(
    words: tuple[str, ...], said: str
) -> None:
    result = run(*words, "--mqtt", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


async def test_broker_without_a_bridge_is_said() -> None:
    def change(broker: ScriptedBroker) -> None:
        broker.confirms, broker.puback_code = False, 0x10  # no matching subscribers

    result, _ = await published("failed", PLACE, "--id", "x", change=change)
    assert result.exit_code == 1
    assert "nobody takes the label" in result.output
    assert "Give it again with --id x" in result.output


async def test_missing_right_is_said() -> None:
    def change(broker: ScriptedBroker) -> None:
        broker.confirms, broker.puback_code = False, 0x87  # not authorised

    result, _ = await published("failed", PLACE, change=change)
    assert result.exit_code == 1
    assert "does not let us publish on labels/plant-7/engine-1/engine" in result.output


def test_empty_prefix_is_said() -> None:
    result = run("failed", PLACE, env={"KPSTREAM_INGEST_LABELS_PREFIX": ""})
    assert result.exit_code == 1
    assert "KPSTREAM_INGEST_LABELS_PREFIX is empty" in result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder whose log has labels, one of them revoked, and one record that is none."""
    log = open_log(tmp_path / "log.db", partitions=1)
    log.create_topic(LABELS, 1, compacted=True)
    given = [
        label("engine-1", "b", "failed", T0_MS + 1, by="Ada"),
        label("engine-1", "a", "span", T0_MS, T0_MS + 10, label="test run"),
        label("engine-2", "c", "wrong", T0_MS),
        label("engine-2", "c", "wrong", T0_MS, revoked=True),
    ]
    records = [LogRecord(LABELS, 0, label_key(r), encode_label_record(r), T0_MS) for r in given]
    log.append([*records, LogRecord(LABELS, 0, b"x", b"{}", T0_MS)]).result()
    log.close()
    return tmp_path


def test_list_has_the_labels_that_hold(folder: Path) -> None:
    result = run("list", "--state-dir", str(folder))
    lines = result.output.splitlines()
    assert [line for line in lines if line.startswith("plant-7")] == [
        "plant-7/engine-1/engine: test run from 2025-11-29 00:00:00 UTC to "
        "2025-11-29 00:00:00.010 UTC (label a)",
        "plant-7/engine-1/engine: failed at 2025-11-29 00:00:00.001 UTC (label b, by Ada)",
    ]
    assert lines[-1] == "2 labels"
    assert "left out: not a label" in result.output
    of_two = ("list", "plant-7/engine-2/engine", "--state-dir", str(folder))
    assert "no labels" in run(*of_two).output
    assert "(label c, revoked)" in run(*of_two, "--revoked").output


def test_list_as_json(folder: Path) -> None:
    result = run("list", "--json", "--state-dir", str(folder))
    rows = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert [(row["id"], row["device"]) for row in rows] == [("a", "engine-1"), ("b", "engine-1")]


async def test_revoke_repeats_the_label(folder: Path) -> None:
    words = ("revoke", PLACE, "a", "--state-dir", str(folder), "--by", "Bo")
    result, sent = await published(*words)
    assert result.exit_code == 0, result.output
    revoked = Label("a", "span", T0_MS, T0_MS + 10, "test run", revoked=True, by="Bo")
    assert sent == [(f"labels/{PLACE}", revoked)]


def test_revoke_of_what_is_not_there_is_said(folder: Path) -> None:
    words = ("--state-dir", str(folder))
    result = run("revoke", PLACE, "z", *words)
    assert result.exit_code == 1
    assert "the log has no label 'z'" in result.output
    result = run("revoke", "plant-7/engine-2/engine", "c", *words)
    assert (result.exit_code, "is revoked already" in result.output) == (0, True)

"""A file of spans: what it says, which of its lines are wrong, and twice is once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import main
from deploy.commands.labelfile import Spans, read_spans
from ingest.labels import Label, decode_label
from ingest.topics import Address
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port
from tests.fakes.recordings import T0_MS

ADA = Address("hall-1", "ada", "imu")
GOOD = f"""device,from,to,activity
hall-1/ada/imu,{T0_MS},{T0_MS + 20_000},climbing
hall-1/bo/imu,2025-11-29T00:00:00,2025-11-29T00:00:30,rowing
"""


def read(text: str, by: str = "Ada", example: str = "") -> Spans:
    lines = text.splitlines(keepends=True)
    return read_spans(lines, by=by, example=example, now_ms=T0_MS + 10**9, future_ms=60_000)


def test_a_csv_file_and_json_lines_say_the_same() -> None:
    found = read(GOOD)
    assert (found.faults, found.repeated) == ([], 0)
    (address, label), (_, other) = found.labels
    assert address == ADA
    assert label == Label(label.id, "span", T0_MS, T0_MS + 20_000, "climbing", by="Ada")
    assert (other.from_ms, other.to_ms) == (T0_MS, T0_MS + 30_000)
    rows = [
        {
            "site": "hall-1",
            "device": "ada",
            "stream": "imu",
            "from": T0_MS,
            "to": T0_MS + 20_000,
            "activity": "climbing",
        },
        {
            "device": "hall-1/bo",
            "stream": "imu",
            "from": str(T0_MS),
            "to": "2025-11-29T01:00:30+01:00",
            "activity": "rowing",
        },
    ]
    assert read("\n".join(orjson.dumps(row).decode() for row in rows)) == found


def test_ids_follow_from_what_a_line_says() -> None:
    first, again = read(GOOD), read("\n\n" + GOOD + GOOD.split("\n", 1)[1])
    assert again.labels == first.labels
    assert again.repeated == 2
    assert len({label.id for _, label in first.labels}) == 2
    assert read(GOOD, example="device").labels[0][1].id == first.labels[0][1].id


def test_a_line_says_more_than_the_options() -> None:
    columns = "device,from,to,activity,id,by,example"
    text = f"{columns}\n{'/'.join(ADA)},{T0_MS},{T0_MS + 9},x,mine,Bo,all\n"
    ((_, label),) = read(text, example="device").labels
    assert label == Label("mine", "span", T0_MS, T0_MS + 9, "x", by="Bo", example="stream")
    plain = text.replace(",all\n", ",\n")
    assert read(plain, example="device").labels[0][1].example == "device"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("device,from,to\n", 1, "no column activity"),
        ("device,from,to,activity,colour\n", 1, "unknown column 'colour'"),
        ("device,from,from,to,activity\n", 1, "a column twice"),
        (f"{GOOD}hall-1/ada/imu,1\n", 4, "2 values instead of 4"),
        (f"{GOOD}\nada,{T0_MS},{T0_MS + 1},x\n", 5, "'ada' is not SITE/DEVICE/STREAM"),
        (f"{GOOD}hall-1/ada/imu,noon,{T0_MS},x\n", 4, "from 'noon' is neither epoch"),
        (f"{GOOD}hall-1/ada/imu,{T0_MS},{T0_MS},x\n", 4, "is not before to"),
        (f"{GOOD}hall-1/ada/imu,{T0_MS},{T0_MS + 1},\n", 4, "a span needs a `label`"),
        (f"{GOOD}hall-1/ada/imu,2098-01-01,2099-01-01,x\n", 4, "is about what has happened"),
        (f'{GOOD}"hall-1/ada/imu,{T0_MS}', 4, "no CSV"),
        ('{"device": "a/b/c"}', 1, "no column from, to, activity"),
        ("{", 1, "no JSON"),
        ("[1]", 1, "no JSON object"),
        ('\n{"device": 1, "from": 2, "to": 3, "activity": "x"}', 2, "device is 1, not text"),
        ('{"device": "a/b/c", "from": 1.5, "to": 3, "activity": "x"}', 1, "from is 1.5"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(text: str, line: int, why: str) -> None:
    (fault,) = read(text).faults
    assert fault.line == line
    assert why in fault.why


def test_one_id_for_two_labels_is_a_fault() -> None:
    rows = [f"hall-1/ada/imu,{T0_MS},{T0_MS + end},x,a" for end in (5, 6)]
    found = read("\n".join(["device,from,to,activity,id", *rows]))
    assert [fault.line for fault in found.faults] == [3]
    assert "in line 2" in found.faults[0].why


@given(st.text(max_size=200))
def test_any_text_gives_labels_or_faults(text: str) -> None:
    found = read(text)
    assert all(fault.line >= 1 and fault.why for fault in found.faults)
    found = read(GOOD + text)
    assert len(found.labels) >= 2


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["label", "import", *words])


async def published(
    *words: str, change: Callable[[ScriptedBroker], None] = lambda _: None
) -> tuple[Result, list[tuple[str, Label]]]:
    async with ScriptedBroker() as broker:
        broker.confirms = True
        change(broker)
        result = await asyncio.to_thread(run, *words, "--mqtt", f"127.0.0.1:{broker.port}")
        return result, [(each.topic, decode_label(each.payload)) for each in broker.published]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spans.csv"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    return path


async def test_all_labels_of_a_file_are_published_and_confirmed(file: Path) -> None:
    result, sent = await published(str(file), "--example", "device", "--by", "Ada")
    assert result.exit_code == 0, result.output
    assert "published and confirmed: 2" in result.output
    assert [topic for topic, _ in sent] == ["labels/hall-1/ada/imu", "labels/hall-1/bo/imu"]
    assert {label.example for _, label in sent} == {"device"}
    _, again = await published(str(file), "--example", "device", "--by", "Ada")
    assert again == sent


def test_one_wrong_line_and_nothing_is_published(file: Path) -> None:
    file.write_text(GOOD + "\nhall-1/ada/imu,x,y,z\n", encoding="utf-8")
    result = run(str(file), "--mqtt", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert f"{file}:5: from 'x' is neither" in result.output
    assert "lines that are no labels: 1. Nothing was published" in result.output
    file.write_bytes(b"\xff\xfe")
    assert "no text in UTF-8" in run(str(file)).output


def test_a_file_can_be_checked_alone(file: Path) -> None:
    result = run(str(file), "--dry-run", "--mqtt", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 0
    assert "labels 2, all right; nothing was published" in result.output


async def test_what_is_not_confirmed_is_told(file: Path) -> None:
    def change(broker: ScriptedBroker) -> None:
        broker.confirms, broker.puback_code = False, 0x10  # no matching subscribers

    result, _ = await published(str(file), change=change)
    assert result.exit_code == 1
    assert "nobody takes the label" in result.output
    assert "0 of 2 labels are confirmed: give the file again" in result.output

"""A draft reads the messages that it was made from, whatever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.mapping.compiled import compile_mapping
from ingest.mapping.draftplan import NothingToDraft
from ingest.mapping.drafttext import draft_mapping
from ingest.mapping.file import parse_mapping
from ingest.mapping.recorded import RecordedMessage, read_recorded
from ingest.mapping.trial import Trial, try_mapping

HERE = Path(__file__).parent
SAMPLES = [*(HERE / "ready").glob("*.jsonl"), *(HERE / "others").glob("*.jsonl")]
NOW_MS = 1_700_000_000_000


def drafted(messages: list[RecordedMessage]) -> tuple[str, Trial]:
    """The draft, and what the messages that it was made from become with it."""
    draft = draft_mapping(messages)
    mapping = compile_mapping(parse_mapping(draft.text, "draft"))
    return draft.text, try_mapping(mapping, draft.messages, NOW_MS)


def recorded(topic: str, *bodies: Any, step_ms: int = 1000) -> list[RecordedMessage]:
    return [
        RecordedMessage(
            topic, body if isinstance(body, bytes) else orjson.dumps(body), NOW_MS + step_ms * at
        )
        for at, body in enumerate(bodies)
    ]


@pytest.mark.parametrize("path", sorted(SAMPLES), ids=lambda path: path.stem)
def test_draft_from_samples_reads_them_at_once(path: Path) -> None:
    items = list(read_recorded(path.read_bytes().splitlines()))
    _, trial = drafted([each for each in items if isinstance(each, RecordedMessage)])
    assert trial.refused == 0
    assert trial.streams


@pytest.mark.parametrize(
    ("messages", "lines"),
    [
        (
            [
                *recorded("tele/plug-1/SENSOR", {"Time": "2023-11-14T23:13:20", "Power": 5}),
                *recorded("tele/plug-2/SENSOR", {"Time": "2023-11-14T23:13:21", "Power": 6}),
                *recorded("tele/plug-2/LWT", b"Online"),
            ],
            [
                'topic = "tele/{device}/SENSOR"',
                'zone = "+01:00"            # a guess: the times have no offset',
                'power = { path = "Power", unit = "W" }  # 5',
                "#   tele/plug-2/LWT (1 messages)",
            ],
        ),
        (
            [
                *recorded("home/hall/temperature", b"21.5", b"21.6"),
                *recorded("home/hall/humidity", b"48"),
            ],
            [
                'topic = "home/{device}/{quantity}"',
                'format = "value"',
                'from = "received"             # no time was found in the messages',
                'humidity = { unit = "%RH", when = { quantity = "humidity" } }  # "48"',
                'emit = "temperature"',
            ],
        ),
        (
            recorded(
                "gw/up", {"name": "a", "values": {"t1": 1}}, {"name": "b", "values": {"t1": 2}}
            ),
            ['device = "{name}"', 'places = { name = "name" }'],
        ),
        (
            recorded("imu", {"t": NOW_MS, "samples": [{"x": 1.5, "y": 2}, {"x": 1, "y": 2}]}),
            ['each = "samples"               # one object there is one reading', 'path = "$.t"'],
        ),
        (
            recorded("imu", *({"t": NOW_MS, "s": [{"x": 1}, {"x": 2}]} for _ in range(3))),
            ["step_ms = 500            # a guess: the readings have one time"],
        ),
        (
            recorded("imu", {"s": [{"x": 1}, {"x": 2}]}),
            ["step_ms = 1000            # a guess: the readings have one time"],
        ),
        (
            recorded("n/1", {"tags": [{"name": "p1", "value": 1}, {"name": "p2", "value": 2}]}),
            ['p1 = { path = "value", when = { name = "p1" } }  # 1'],
        ),
        (
            recorded("log/m1", b"1700000000;21.5;48", b"1700000001;21.6;47"),
            [
                'format = "csv"',
                'delimiter = ";"',
                "header = false",
                'path = "[0]"',
                'form = "epoch-s"',
                'channel_1 = { path = "[1]" }  # 21.5',
            ],
        ),
        (
            recorded("log/m1", b"time,temp\n2023-11-14T22:13:20Z,21.5\n2023-11-14T22:13:21Z,21"),
            ["header = true", 'path = "time"', 'temp = { path = "temp", unit = "degC" }  # 21.5'],
        ),
        (
            recorded("a/b", {"odd key": 5, "x.y": 6, "deviceId": "ab:cd"}),
            [
                'odd_key = { path = "\\"odd key\\"" }  # 5',
                '"x.y" = { path = "\\"x.y\\"" }  # 6',
            ],
        ),
    ],
)
def test_draft_proposes(messages: list[RecordedMessage], lines: list[str]) -> None:
    text, trial = drafted(messages)
    assert [line for line in lines if line not in text.splitlines()] == []
    assert trial.refused == 0


@pytest.mark.parametrize(
    "messages",
    [[], recorded("a/b", b"Online"), recorded("a", b"\xff\xfe"), recorded("a", {"b": "c"})],
)
def test_without_numbers_there_is_nothing_to_draft(messages: list[RecordedMessage]) -> None:
    with pytest.raises(NothingToDraft, match="number"):
        draft_mapping(messages)


TEXT = st.text(max_size=8)
NUMBER = st.one_of(st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6, width=32))
JSON = st.recursive(
    st.one_of(NUMBER, TEXT, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
LEVEL = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=6)
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
BODY = st.one_of(
    JSON.map(orjson.dumps),
    st.binary(max_size=30),
    NUMBER.map(lambda number: str(number).encode()),
    st.sampled_from([b"1,2\n3,4", b"t;x\n5;a", b"a,b"]),
    st.sampled_from([b"cpu,host=a load=1.5 1700000000000000000", b"online", b"nan"]),
)
MESSAGE = st.builds(
    RecordedMessage, TOPIC, BODY, st.one_of(st.none(), st.integers(NOW_MS, NOW_MS + 10**6))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGE, max_size=8))
def test_any_messages_give_a_draft_that_is_a_mapping_file_or_none(
    messages: list[RecordedMessage],
) -> None:
    try:
        draft = draft_mapping(messages)
    except NothingToDraft:
        return
    mapping = compile_mapping(parse_mapping(draft.text, "draft"))
    trial = try_mapping(mapping, messages, NOW_MS)
    assert len(trial.outcomes) == len(messages)


DEVICE_BODY = st.dictionaries(
    st.sampled_from(["temp", "hum", "power", "ts", "name", "em:0", "a b", "id", "x"]),
    st.one_of(st.integers(0, 100), st.floats(0, 100), st.sampled_from(["on", "1"])),
    min_size=1,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["hall/a", "hall/b"]), DEVICE_BODY), max_size=6))
def test_draft_reads_the_messages_that_it_was_made_from(
    bodies: list[tuple[str, dict[str, Any]]],
) -> None:
    messages = [each for topic, body in bodies for each in recorded(topic, body)]
    try:
        text, trial = drafted(messages)
    except NothingToDraft:
        return
    assert trial.refused == 0, text
    assert trial.streams, text

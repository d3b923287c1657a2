"""Mapping files read the messages of their devices to the number.

`ready/NAME.jsonl` holds messages for the ready file NAME, `others/NAME.jsonl` for the file
`others/NAME.toml`, which was written with the documentation alone. The messages are as makers
document or users recorded them, with what each becomes: readings, a refusal, or nothing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.errors import RefusedMessage
from ingest.mapping.compiled import CompiledMapping, Piece, compile_mapping
from ingest.mapping.file import read_mapping_file
from ingest.mapping.ready import ready_names, ready_path
from ingest.topics import is_name, readable_name

HERE = Path(__file__).parent
FILES = {name: (ready_path(name), HERE / "ready" / f"{name}.jsonl") for name in ready_names()} | {
    path.stem: (path, path.with_suffix(".jsonl")) for path in (HERE / "others").glob("*.toml")
}
CASES = [
    pytest.param(name, orjson.loads(line), id=f"{name}-{number}")
    for name, (_, samples) in sorted(FILES.items())
    for number, line in enumerate(samples.read_bytes().splitlines(), 1)
]


def compiled(name: str) -> CompiledMapping:
    return compile_mapping(read_mapping_file(FILES[name][0]))


def _name(text: str) -> str:
    return text if is_name(text) else readable_name(text)


def _time(text: str, recv_ms: int) -> int:
    if text == "received":
        return recv_ms
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def _shown(piece: Piece) -> dict[str, Any]:
    _, device, stream = piece.address
    return {"device": device, "stream": stream, "ts_ms": piece.ts_ms, "values": piece.values}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_message_becomes_what_is_recorded(name: str, case: dict[str, Any]) -> None:
    mapping, recv_ms = compiled(name), case["recv_ms"]
    payload = case["payload"].encode()
    if "refused" in case:
        with pytest.raises(RefusedMessage) as refusal:
            mapping.read(case["topic"], payload, recv_ms)
        assert refusal.value.reason.value == case["refused"]
        return
    extract = mapping.read(case["topic"], payload, recv_ms)
    assert extract.refused is None
    assert [_shown(piece) for piece in extract.readings] == [
        {
            "device": _name(each["device"]),
            "stream": _name(each["stream"]),
            "ts_ms": _time(each["time"], recv_ms),
            "values": pytest.approx(each["values"], rel=1e-12),
        }
        for each in case["becomes"]
    ]
    is_received = {each["time"] == "received" for each in case["becomes"]}
    assert {piece.is_received_time for piece in extract.readings} == is_received


def test_every_file_has_messages_that_become_readings() -> None:
    samples = {
        path.stem for folder in ("ready", "others") for path in (HERE / folder).glob("*.jsonl")
    }
    assert samples == set(FILES)
    assert len(set(FILES) - set(ready_names())) >= 6
    for name in FILES:
        cases = [param.values[1] for param in CASES if param.values[0] == name]
        assert any(case.get("becomes") for case in cases), name


@pytest.mark.parametrize("name", ready_names())
def test_every_channel_of_a_ready_file_is_in_a_message(name: str) -> None:
    cases = [param.values[1] for param in CASES if param.values[0] == name]
    becomes = [each for case in cases for each in case.get("becomes", ())]
    seen = {channel for each in becomes for channel in each["values"]}
    assert seen == {rule.name for rule in compiled(name).channels}

"""What a message costs through a mapping, beside a message of our own form.

`make bench` ends with it. It prints microseconds of CPU time for one message, from its bytes to
checked readings, and messages per CPU-second. Own form and mapping take turns, and the least of
all turns counts, so that other work on the machine disturbs both alike. It asserts nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import orjson
from rich.console import Console
from rich.table import Table

from ingest.mapping.compiled import compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.payloads import decode_payload

_T0_MS = 1_700_000_000_000
_CHANNELS = [f"T{n}" for n in range(9)]
_HEAD = 'topic = "plant/{site}/{device}"\nstream = "engine"\n'
_TIME = '[time]\npath = "ts"\nform = "epoch-ms"\n'
_UNITS = "".join(f'{n} = {{ path = "engine.{n}", unit = "bar", to = "kPa" }}\n' for n in _CHANNELS)
_EACH = "".join(f'{n} = "{n}"\n' for n in _CHANNELS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mapping")
    parser.add_argument("--turns", type=int, default=40)
    args = parser.parse_args()
    table = Table("message", "own form, us", "mapping, us", "ratio", "own form/s", "mapping/s")
    for name, own, mapped in _pairs():
        ours, theirs = _least(own, mapped, args.turns)
        costs = f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}"
        table.add_row(name, *costs, f"{1e6 / ours:,.0f}", f"{1e6 / theirs:,.0f}")
    Console().print(table)


def _pairs() -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    row = {name: 600.5 + at for at, name in enumerate(_CHANNELS)}
    one = orjson.dumps({"ts": _T0_MS, "values": row})
    pairs = [
        (
            "one reading, 9 channels",
            lambda: decode_payload(one),
            _read(_HEAD + _TIME + "[channels]\n" + _UNITS, {"ts": _T0_MS, "engine": row}),
        )
    ]
    for rows in (10, 50):
        times = [_T0_MS + 20 * n for n in range(rows)]
        columns = {name: [value + n for n in range(rows)] for name, value in row.items()}
        own = orjson.dumps({"ts": times, "values": columns})
        pairs += [
            (
                f"{rows} readings, columns",
                lambda own=own: decode_payload(own),
                _read(_HEAD + _TIME + "[channels]\n" + _UNITS, {"ts": times, "engine": columns}),
            ),
            (
                f"{rows} readings, array of objects",
                lambda own=own: decode_payload(own),
                _read(
                    _HEAD + 'each = "readings"\n' + _TIME + "[channels]\n" + _EACH,
                    {"readings": [{"ts": ts_ms, **row} for ts_ms in times]},
                ),
            ),
        ]
    other = _HEAD.replace("{device}", "+") + 'device = {path = "name"}\n' + _TIME
    pairs.append(
        (
            "one reading, the device in it",
            lambda: decode_payload(one),
            _read(other + "[channels]\n" + _UNITS, {"ts": _T0_MS, "name": "press", "engine": row}),
        )
    )
    return pairs


def _read(text: str, body: object) -> Callable[[], object]:
    mapping = compile_mapping(parse_mapping(text, "bench"))
    payload = orjson.dumps(body)
    return lambda: mapping.read("plant/plant-7/press-2", payload, _T0_MS)


def _least(own: Callable[[], object], mapped: Callable[[], object], turns: int) -> list[float]:
    """Return the least microseconds of each, over turns of some ten milliseconds."""
    calls = max(20, int(0.005 / _seconds(mapped, 20) * 20))
    found = [(_seconds(own, calls), _seconds(mapped, calls)) for _ in range(turns)]
    return [min(column) / calls * 1e6 for column in zip(*found, strict=True)]


def _seconds(work: Callable[[], object], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        work()
    return time.process_time() - started


if __name__ == "__main__":
    main()

"""Simulated transformers upload a backlog, then send hour after hour, and tell their faults."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from ingest.payloads import decode_payload, event_times
from ingest.simulators.emitters import device_seed
from ingest.simulators.faults import FAULT_KINDS
from ingest.simulators.fleet import Fleet, FleetSettings
from ingest.simulators.transformeremitter import TRANSFORMER_STREAM
from ingest.simulators.transformers import CHANNELS, STEP_MS, Transformer
from ingest.simulators.truth import TransformerTruth, TruthRecord, encode_truth, read_truth
from ingest.topics import parse_topic

T0 = 1_700_000_000_000
HISTORY = 192


def grid(**changes: object) -> Fleet:
    """A fleet of transformers alone, without transmission faults."""
    values: dict[str, object] = {
        "engines": 0,
        "people": 0,
        "transformers": 2,
        "duplicates": 0,
        "garbage": 0,
        "hours_per_second": 4.0,
        "history_hours": HISTORY,
    }
    return Fleet(FleetSettings.model_validate(values | changes), T0, events.append)


events: list[str] = []


def readings(fleet: Fleet, seconds: int) -> dict[str, dict[int, list[float]]]:
    """The readings of the devices in the order of their arrival, by event time."""
    found: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for now_ms in range(T0, T0 + seconds * 1000 + 1, 1000):
        for topic, payload in fleet.take(now_ms):
            address, document = parse_topic(topic), decode_payload(payload)
            assert address.stream == TRANSFORMER_STREAM
            ts_ms = event_times(document).tolist()
            columns = [document["values"][name] for name in CHANNELS]
            rows = np.array(columns).reshape(len(CHANNELS), len(ts_ms)).T.tolist()
            found[address.device].update(zip(ts_ms, rows, strict=True))
    return found


def test_the_backlog_comes_at_once_and_then_hour_after_hour() -> None:
    fleet = grid()
    first = readings(fleet, 0)
    assert {device: len(rows) for device, rows in first.items()} == {
        "transformer-01": HISTORY,
        "transformer-02": HISTORY,
    }
    later = readings(grid(), 10)
    for device, rows in later.items():
        assert len(rows) == HISTORY + 40
        times = np.array(list(rows))
        assert (np.diff(times) == STEP_MS).all()
        assert (times % STEP_MS == 0).all()
        assert list(rows.items())[:HISTORY] == list(first[device].items())


def test_a_transformer_at_its_end_is_replaced_and_no_reading_is_in_the_future() -> None:
    events.clear()
    found = readings(grid(transformers=1, hours_per_second=20.0), 60)
    assert events[0] == "transformer-01 has sent its last reading; transformer-02 replaces it"
    assert len(found["transformer-01"]) == 28 * 24
    assert len(found["transformer-02"]) > HISTORY
    assert max(max(rows) for rows in found.values()) <= T0 + 60_000


def test_a_stall_delays_readings_and_leaves_none_out() -> None:
    fleet = grid(catch_up_ms=10_000)
    before = readings(fleet, 5)
    assert fleet.take(T0 + 300_000) == []
    after = [decode_payload(payload)["ts"] for _, payload in fleet.take(T0 + 300_250)]
    assert after == [max(rows) + STEP_MS for rows in before.values()]


def test_a_stall_at_the_start_delays_the_backlog() -> None:
    fleet = grid(catch_up_ms=10_000)
    sent = [parse_topic(topic).device for topic, _ in fleet.take(T0 + 60_000)]
    assert set(sent) == {"transformer-01", "transformer-02"}
    assert fleet.next_due_ms == T0 + 60_250


def test_the_truth_names_every_fault_when_it_is_over(tmp_path: Path) -> None:
    fleet = grid(transformers=1, hours_per_second=20.0)
    found = readings(fleet, 23)["transformer-01"]  # 652 of 672 hours
    past = fleet.take_truth()
    fleet.end()
    cut = fleet.take_truth()
    faults = [each for each in past + cut if isinstance(each, TransformerTruth)]
    assert len(faults) == len(past) + len(cut) >= 4
    assert {fault.kind for fault in faults} <= set(FAULT_KINDS)
    times = list(found)
    assert all(times[HISTORY] <= fault.start_ms < fault.end_ms for fault in faults)
    assert all(fault.end_ms <= times[-1] + STEP_MS for fault in faults)
    _round_trip(past, tmp_path / "truth.jsonl")
    for fault in faults:
        if fault.kind == "stuck":
            rows = found[fault.start_ms - STEP_MS], found[fault.end_ms - STEP_MS]
            at = CHANNELS.index(fault.channel)
            assert rows[0][at] == rows[1][at]


def _round_trip(truths: list[TruthRecord], path: Path) -> None:
    path.write_bytes(b"".join(encode_truth(each) for each in truths))
    assert read_truth(path) == truths


def test_readings_differ_from_the_same_device_without_faults_only_inside_the_faults() -> None:
    fleet = grid(transformers=1, hours_per_second=20.0)
    found = readings(fleet, 24)["transformer-01"]
    fleet.end()
    faults = [each for each in fleet.take_truth() if isinstance(each, TransformerTruth)]
    clean = Transformer(device_seed(1, 1), len(found), start_ms=min(found)).values
    for row, (ts_ms, values) in enumerate(sorted(found.items())):
        moved = {CHANNELS[at] for at in np.flatnonzero(clean[row] != np.array(values))}
        faulty = {each.channel for each in faults if each.start_ms <= ts_ms < each.end_ms}
        assert moved <= faulty

"""A replay publishes exactly the recording, with the requested faults and no others."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.blocks import decode_messages
from ingest.bridge import Bridge
from ingest.messages import Batch, columns, encode_envelope
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.recordings import Recording
from ingest.replay import ReplayError, ReplayOptions, ReplayPlan, plan_replay, replay
from ingest.settings import IngestSettings
from pipeline.windows.spec import WindowSpec
from tests.fakes.log import FakeLog, until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.onedevice import OneDevice
from tests.fakes.ports import free_port
from tests.fakes.records import encode_bundle

NOW_MS = 1_700_000_000_000
NOWHERE = Endpoint("127.0.0.1", 1, "replay")
NONE = np.empty(0, dtype=np.int64)


def recording(device: str = "subject-02", n: int = 600, seed: int = 0) -> Recording:
    values = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    offsets = np.arange(n, dtype=np.int64) * 20
    return Recording(device, "imu", ("acc_x", "acc_y"), offsets, values, NONE, NONE)


def plan(options: ReplayOptions, source: Recording | None = None) -> ReplayPlan:
    (found,) = plan_replay([source or recording()], options, NOW_MS)
    return found


def received(found: ReplayPlan, size: int) -> list[Batch]:
    """Return the messages of a plan as the pipeline decodes them."""
    envelopes = [
        encode_envelope("replay", "d", "imu", NOW_MS, found.body(at, size))
        for at in range(0, len(found.order), size)
    ]
    batches = decode_messages(encode_bundle(envelopes))
    assert all(isinstance(batch, Batch) for batch in batches)
    return [batch for batch in batches if isinstance(batch, Batch)]


def windows_of(found: ReplayPlan, size: int, lateness_ms: int) -> tuple[list[Any], dict[str, int]]:
    spec = WindowSpec(length=16, hop=8, min_readings=16, gap_ms=100, lateness_ms=lateness_ms)
    windower = OneDevice(spec, 2)
    windows, counts = [], {"windowed": 0, "duplicate": 0, "late": 0}
    for batch in received(found, size):
        step = windower.step(batch.ts_ms, columns(batch, ("acc_x", "acc_y")), NOW_MS)
        windows += step.windows
        counts["windowed"] += step.windowed
        counts["duplicate"] += step.duplicate
        counts["late"] += len(step.late)
    windows += windower.advance(NOW_MS + 10_000, 0)
    return [(w.start_ms, w.end_ms, w.values.tobytes()) for w in windows], counts


def test_without_faults_everything_is_sent_once_and_in_order() -> None:
    source = recording()
    found = plan(ReplayOptions(NOWHERE))
    assert found.topic == "sensors/replay/subject-02/imu"
    assert found.order.tolist() == list(range(600))
    assert found.ts_ms[-1] == NOW_MS
    batches = received(found, 7)
    assert np.concatenate([b.ts_ms for b in batches]).tolist() == found.ts_ms.tolist()
    values = np.concatenate([columns(b, ("acc_x", "acc_y")) for b in batches])
    assert np.array_equal(values, source.values), "float32 must survive the JSON bit by bit"


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(20, 200),
    st.floats(0, 0.3),
    st.integers(1, 25),
)
def test_disorder_and_duplicates_within_the_lateness_change_no_window(
    seed: int, disorder_ms: int, duplicates: float, size: int
) -> None:
    options = ReplayOptions(
        NOWHERE, seed=seed, disorder_ms=disorder_ms, duplicates=duplicates, start_ms=NOW_MS - 20_000
    )
    faulty = plan(options)
    plain = plan(ReplayOptions(NOWHERE, start_ms=NOW_MS - 20_000))
    expected, _ = windows_of(plain, size, 200)
    windows, counts = windows_of(faulty, size, 200)
    assert windows == expected
    assert counts == {"windowed": 600, "duplicate": int(faulty.is_duplicate.sum()), "late": 0}


def test_faults_are_as_many_as_asked_for() -> None:
    source = recording(n=20_000)
    found = plan(
        ReplayOptions(NOWHERE, disorder_ms=150, duplicates=0.05, gaps=0.02, seed=3), source
    )
    assert 0.01 < found.left_out / 20_000 < 0.03
    assert 0.04 < found.is_duplicate.mean() < 0.06
    sent, counts = np.unique(found.order, return_counts=True)
    assert len(sent) == 20_000 - found.left_out
    assert np.flatnonzero(counts > 1).size == found.is_duplicate.sum()
    assert {0, 19_999} <= set(sent.tolist())
    backwards = np.diff(source.offsets_ms[found.order])
    assert (backwards < 0).any()
    latest = np.maximum.accumulate(source.offsets_ms[found.order])
    assert (latest - source.offsets_ms[found.order]).max() < 150
    missing = np.setdiff1d(np.arange(20_000), sent)
    stretches = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    assert max(map(len, stretches)) >= 10


def test_same_seed_same_replay_and_devices_do_not_depend_on_each_other() -> None:
    options = ReplayOptions(NOWHERE, disorder_ms=100, duplicates=0.1, gaps=0.05, seed=9)
    both = [recording("a"), recording("b")]
    first, again = plan_replay(both, options, NOW_MS), plan_replay(both, options, NOW_MS)
    assert all(np.array_equal(x.order, y.order) for x, y in zip(first, again, strict=True))
    (alone,) = plan_replay([recording("b")], options, NOW_MS)
    assert np.array_equal(alone.order, first[1].order)
    assert not np.array_equal(first[0].order, first[1].order)
    other = plan_replay(both, dataclasses.replace(options, seed=10), NOW_MS)
    assert not np.array_equal(first[0].order, other[0].order)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": 1.5}, "duplicates is 1.5: it must be 0 to 1"),
        ({"gaps": 0.6}, "gaps is 0.6"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0"),
        ({"readings_per_message": 0}, "readings_per_message is 0"),
        ({"disorder_ms": 10}, "has no effect because readings are 20 ms apart"),
        ({"devices": 0}, "nothing to replay"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReplayError, match=message):
        plan(ReplayOptions(NOWHERE, **options))


async def test_absent_broker_is_reported() -> None:
    nobody = Endpoint("127.0.0.1", free_port(), "replay")
    with pytest.raises(ReplayError, match=r"cannot reach .* connection refused.* use --mqtt"):
        await replay([recording()], ReplayOptions(nobody, connect_s=0.2))


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker(kind="mosquitto") as found:
        yield found


@pytest.mark.needs_mosquitto
async def test_replay_reaches_the_log_and_its_report_adds_up(broker: LocalBroker) -> None:
    log = FakeLog()
    bridge = Bridge(IngestSettings(mqtt_port=broker.port, mqtt_client_id="replay-bridge"), log)
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected)
    progress: list[tuple[int, int]] = []
    report = await replay(
        [recording("a"), recording("b", 300), recording("c")],
        ReplayOptions(
            Endpoint(broker.host, broker.port, "replay"),
            site="lab",
            devices=2,
            readings_per_message=10,
            duplicates=0.1,
            gaps=0.05,
        ),
        on_progress=lambda readings, confirmed: progress.append((readings, confirmed)),
    )
    await until(lambda: bridge.counters.logged_total == report.messages)
    bridge.stop()
    await asyncio.wait_for(task, 120)
    assert report.complete
    assert report.devices == 2
    assert report.confirmed == report.messages
    assert report.readings + report.left_out == 900
    assert report.duplicates > 0
    batches = log.batches()
    assert {(b.site, b.device) for b in batches} == {("lab", "a"), ("lab", "b")}
    assert sum(len(b.ts_ms) for b in batches) == report.readings + report.duplicates
    assert progress[-1] == (report.readings + report.duplicates, report.messages)


@pytest.mark.needs_mosquitto
async def test_messages_confirmed_by_the_embedded_broker_arrive_after_the_publisher_leaves() -> (
    None
):
    """amqtt drops messages that it has not forwarded when the publisher leaves (Python 3.12)."""
    got: list[bytes] = []
    with LocalBroker(kind="amqtt") as broker:
        line = Connection(
            Endpoint(broker.host, broker.port, "reader", protocol="3.1.1"),
            subscribe="#",
            on_message=lambda _id, _qos, _topic, payload, *_: got.append(payload),
        )
        line.start()
        await until(lambda: line.subscribed)
        endpoint = Endpoint(broker.host, broker.port, "replay", protocol="3.1.1")
        report = await replay([recording()], ReplayOptions(endpoint))
        assert report.complete
        await until(lambda: len(got) == report.messages)
        await line.stop()


async def test_replay_keeps_its_rate_and_can_be_stopped(broker: LocalBroker) -> None:
    stop = asyncio.Event()
    options = ReplayOptions(Endpoint(broker.host, broker.port, "slow"), rate_hz=50.0)
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    replaying = asyncio.ensure_future(
        replay([recording("a")], options, on_progress=lambda r, _c: seen.append(r), stop=stop)
    )
    began = loop.time()
    await until(lambda: seen and seen[-1] >= 51)
    assert loop.time() - began > 0.9, "51 readings at 50 Hz take a second"
    stop.set()
    report = await asyncio.wait_for(replaying, 120)
    assert not report.complete
    assert report.confirmed == report.messages == report.readings < 200
    assert seen[-1] == report.readings


async def test_a_replay_can_be_stopped_before_the_broker_answers() -> None:
    stop = asyncio.Event()
    async with ScriptedBroker() as silent:
        silent.holds_connack = True
        options = ReplayOptions(Endpoint("127.0.0.1", silent.port, "early"))
        replaying = asyncio.ensure_future(replay([recording()], options, stop=stop))
        await until(lambda: silent.version == 5)
        stop.set()
        report = await asyncio.wait_for(replaying, 120)
    assert (report.messages, report.confirmed, report.complete) == (0, 0, False)


def test_body_is_the_documented_batch_form() -> None:
    body = orjson.loads(plan(ReplayOptions(NOWHERE, start_ms=NOW_MS)).body(0, 2))
    assert body["ts"] == [NOW_MS, NOW_MS + 20]
    assert set(body["values"]) == {"acc_x", "acc_y"}

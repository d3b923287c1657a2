"""A small line that ran: simulated devices, the product's own windows, students and points.

Five minutes of a fleet go through the very functions that a site runs, without servers in between:
payloads are decoded, bundles applied to `Devices`, closed windows scored by the shipped students,
scores made points. Meanwhile a student is replaced, another version refused, a worker started anew
and one engine falls silent. Time is simulated, so the same points come out every time.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ingest.errors import RefusedMessage
from ingest.messages import Tick, decode_bundle, encode_bundle, encode_envelope, encode_tick
from ingest.payloads import decode_payload
from ingest.simulators.fleet import Fleet, FleetSettings
from ingest.topics import READINGS, SCORES, device_key, parse_topic, partition_of
from models.registry import Registry
from models.zoo import list_zoo, zoo_path
from pipeline.devices import Devices, StreamPlan
from pipeline.points import Point, points_of
from pipeline.rollover import ModelWatch
from pipeline.scoring import score_windows
from pipeline.status import (
    DeviceAccount,
    HealthReport,
    Latency,
    ProgressTracker,
    Totals,
    sum_accounts,
)
from pipeline.windows import WindowSpec
from tests.dashboards.accounts import Process

LENGTH_MS = 300_000
START_MS = 1_767_225_600_000 - LENGTH_MS // 2
"""Around 2026-01-01T00:00:00Z, so that the run touches two hours."""
STOP_MS = START_MS + LENGTH_MS
STEP_MS = 1_000
ACCOUNT_MS = 5_000
PARTITIONS = 4
SILENT = "engine-02"
"""Says nothing in the second half."""

FLEET = FleetSettings(
    engines=5, people=2, cycles_per_second=1.0, readings_per_message=25, garbage=0.02, seed=5
)


class Line:
    """Bridge, worker and store in one, fed with simulated messages; collects points."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = START_MS
        self.points: list[Point] = []
        self.registry = Registry(folder / "registry", now_ms=lambda: self.now_ms)
        for name in list_zoo():
            self.registry.seed(zoo_path(name))
        self.models = ModelWatch(self.registry, lambda: self.now_ms)
        self.devices = Devices(self._plan, lambda _key: None)
        self.fleet = Fleet(FLEET, START_MS)
        self.letters: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.latency = Latency()
        self.offsets = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.tracker = ProgressTracker()
        self.worker_started_ms = START_MS - 60_000

    def run(self) -> list[Point]:
        """The points of the whole run."""
        while self.now_ms < START_MS + LENGTH_MS:
            at_ms = self.now_ms - START_MS
            self._follow_models(at_ms)
            if at_ms == LENGTH_MS // 2:
                self.worker_started_ms = self.now_ms
                self.totals["scored"] = self.totals["unscored"] = 0
                self.letters.clear()
            self._step(at_ms)
            if at_ms % ACCOUNT_MS == 0:
                self._account()
            self.now_ms += STEP_MS
        return self.points

    def _plan(self, stream: str) -> StreamPlan | None:
        student = self.models.student_of(stream)
        if student is None:
            return None
        manifest = student.manifest
        window = manifest.window
        return StreamPlan(
            manifest.name,
            manifest.channel_names,
            WindowSpec(
                length=window.length,
                hop=window.hop,
                min_readings=window.min_readings,
                gap_ms=window.gap_ms,
            ),
        )

    def _step(self, at_ms: int) -> None:
        envelopes: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
        for message in self.fleet.take(self.now_ms):
            site, device, stream = parse_topic(message.topic)
            if device == SILENT and at_ms > LENGTH_MS // 2:
                continue
            self.totals["messages_received"] += 1
            try:
                decode_payload(message.payload)
            except RefusedMessage as exc:
                self.letters[exc.reason.value] += 1
                self.totals["messages_dead_lettered"] += 1
                continue
            self.totals["messages_logged"] += 1
            partition = partition_of(device_key(site, device), PARTITIONS)
            envelopes[partition].append(
                encode_envelope(site, device, stream, self.now_ms, message.payload)
            )
        for partition, waiting in envelopes.items():
            waiting.append(encode_tick(Tick(self.now_ms, START_MS)))
            items = decode_bundle(encode_bundle(waiting))
            self._score(self.devices.apply(partition, self.offsets[partition], items))
            self.offsets[partition] += 1
            if partition or at_ms % 60_000 > 20_000:  # now and then partition 0 stands still
                self.committed[partition] = self.offsets[partition]

    def _score(self, outcome) -> None:
        for refusal in outcome.refused:
            self.letters[refusal.reason.value] += 1
        scored = score_windows(outcome.windows, self.models.student_of, self.now_ms + 7)
        self.points += points_of(scored.records)
        self.totals["scored"] += len(scored.records)
        self.totals["stored"] += len(scored.records)
        self.totals["unscored"] += len(scored.unscored)
        for record in scored.records:
            self.latency.record(self.now_ms + 7 - record["end_ms"], self.now_ms)

    def _follow_models(self, at_ms: int) -> None:
        if at_ms == 120_000:  # the same student again, as version 2
            self.registry.publish(zoo_path("rul-fd001"), stable=True)
        if at_ms == 200_000:  # a version whose file was damaged on its way
            version = self.registry.publish(zoo_path("har-waist"), stable=True)
            path = self.registry.version_path("har-waist", version) / "model.onnx"
            path.write_bytes(path.read_bytes()[:-100])
        for change in self.models.poll():
            self.points.append(self._worker().mark(change))

    def _account(self) -> None:
        accounts = [
            DeviceAccount(site, device, stream, **_fields(counters))
            for site, device, stream, counters in self.devices.accounts()
        ]
        summary = self.latency.summary(self.now_ms)
        sums = sum_accounts(accounts)
        self.points += self._bridge().points(Totals(**_only(self.totals, "messages")))
        self.points += self._worker().points(
            Totals(
                **{f: getattr(sums, f) for f in ("received", "windowed", "duplicate", "late")},
                dead_lettered=sums.dead_lettered,
                gaps=sums.gaps,
                windows=sums.windows,
                scored=self.totals["scored"],
                unscored=self.totals["unscored"],
                dead_letters=dict(self.letters),
                sensor_to_score=summary,
                receive_to_score=summary,
            ),
            accounts=accounts,
            partitions=self._progress("score", READINGS),
            models=self.models.statuses(),
        )
        self.points += self._store().points(
            Totals(stored=self.totals["stored"], sensor_to_stored=summary),
            partitions=self._progress("store-influx", SCORES),
        )

    def _progress(self, group: str, topic: str):
        return [
            self.tracker.observe(
                group,
                topic,
                partition,
                end_offset=self.offsets[partition],
                position=self.committed[partition],
                committed=self.committed[partition],
                now_ms=self.now_ms,
            )
            for partition in range(PARTITIONS)
        ]

    def _bridge(self) -> Process:
        connected = self.now_ms - START_MS not in range(60_000, 70_000)
        problems = () if connected else ("bridge is not connected to the MQTT broker",)
        health = HealthReport(alive=True, ready=connected, problems=problems)
        return Process("site-bridge-1", "bridge", START_MS - 60_000, health, self.now_ms)

    def _worker(self) -> Process:
        health = HealthReport(alive=True, ready=True)
        return Process("site-worker-1", "worker", self.worker_started_ms, health, self.now_ms)

    def _store(self) -> Process:
        health = HealthReport(alive=True, ready=True)
        return Process("site-store-1", "store", START_MS - 60_000, health, self.now_ms)


def _fields(counters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in counters.__slots__}


def _only(totals: Counter[str], prefix: str) -> dict[str, int]:
    return {name: count for name, count in totals.items() if name.startswith(prefix)}

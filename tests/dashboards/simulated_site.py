"""A simulated site: five minutes of a fleet through the functions that a real site runs.

No server is involved: payloads are decoded, bundles applied to `Devices`, closed windows scored by
the starter students and scores turned into points; bridge, worker and store write their accounts.
Meanwhile a student is replaced, another version is refused, the worker restarts, the broker
disappears for a moment and forgets the session of the bridge, and one engine becomes silent. Time
is simulated, so every run gives the same points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest.blocks import decode_messages
from ingest.errors import RefusedMessage
from ingest.messages import Tick, encode_envelope
from ingest.payloads import decode_payload
from ingest.simulators.fleet import Fleet, FleetSettings
from ingest.topics import READINGS, SCORES, device_key, parse_topic, partition_of
from models.registry import Registry
from models.zoo import STARTERS, zoo_path
from pipeline.drift.watch import DriftWatch
from pipeline.points.accounts import Accounts
from pipeline.points.points import Point
from pipeline.points.scores import points_of
from pipeline.scoring.batch import score_windows
from pipeline.scoring.rollover import ModelWatch
from pipeline.stage import Latency
from pipeline.status.counters import DeviceAccount, Totals, sum_accounts
from pipeline.status.health import HealthReport
from pipeline.status.progress import PartitionProgress, ProgressTracker
from pipeline.status.view import ModelStatus
from pipeline.windows.devices import Devices, Outcome, StreamPlan
from pipeline.windows.spec import WindowSpec
from tests.dashboards.simulated_release import release_points
from tests.fakes.records import encode_bundle, encode_tick
from tests.fakes.scores import records_of

LENGTH_MS = 300_000
START_MS = 1_767_225_600_000 - LENGTH_MS // 2
"""Around 2026-01-01T00:00:00Z, so that the run touches two hours."""
STOP_MS = START_MS + LENGTH_MS
STEP_MS = 1_000
ACCOUNT_MS = 5_000
PARTITIONS = 4
SILENT = "engine-02"
"""Device that sends nothing in the second half."""
SESSION_LOST_MS = START_MS + 70_000
EVICTED_MS = START_MS + 40_000
EVICTED_RESTART_MS = START_MS + 100_000
"""When the broker comes back after ten seconds, without the session of the bridge."""

FLEET = FleetSettings(
    engines=5, people=2, cycles_per_second=1.0, readings_per_message=25, garbage=0.02, seed=5
)


@dataclass
class SimulatedProcess:
    """One process of the site, as its `Accounts` see it: a `GatewayView`."""

    seen: Sequence[DeviceAccount] = ()
    sums: Totals = field(default_factory=Totals)
    progress: Sequence[PartitionProgress] = ()
    students: Sequence[ModelStatus] = ()
    report: HealthReport = field(default_factory=lambda: HealthReport(alive=True, ready=True))

    def account(self) -> Sequence[DeviceAccount]:
        return self.seen

    def totals(self) -> Totals:
        return self.sums

    def partitions(self) -> Sequence[PartitionProgress]:
        return self.progress

    def models(self) -> Sequence[ModelStatus]:
        return self.students

    def health(self) -> HealthReport:
        return self.report


class SimulatedSite:
    """Bridge, worker and store that process simulated messages and collect points."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = START_MS
        self.points: list[Point] = []
        self.registry = Registry(folder / "registry", now_ms=lambda: self.now_ms)
        for name in sorted(STARTERS):
            self.registry.seed(zoo_path(name))
        self.models = ModelWatch(self.registry, lambda: self.now_ms)
        self.devices = Devices(self._plan, lambda _key: None)
        self.drift = DriftWatch(self.models.student_of, "site-worker-1", lambda: self.now_ms)
        self.fleet = Fleet(FLEET, START_MS)
        self.dead_letters: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.latency = Latency()
        self.offsets = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.tracker = ProgressTracker()
        self.bridge, self.worker, self.store = (
            SimulatedProcess(),
            SimulatedProcess(),
            SimulatedProcess(),
        )
        started_ms = START_MS - 60_000
        self.accounts = {
            "bridge": Accounts(self.bridge, "site-bridge-1", "bridge", started_ms),
            "worker": Accounts(self.worker, "site-worker-1", "worker", started_ms),
            "store": Accounts(self.store, "site-store-1", "store", started_ms),
        }

    def run(self) -> list[Point]:
        """Simulate five minutes and return all points."""
        while self.now_ms < STOP_MS:
            at_ms = self.now_ms - START_MS
            self._publish_students(at_ms)
            self.models.poll()
            if at_ms == LENGTH_MS // 2:
                self._restart_worker()
            self._step(at_ms)
            if at_ms % ACCOUNT_MS == 0:
                self._account()
                self.points += release_points(at_ms, START_MS)
            self.now_ms += STEP_MS
        return self.points

    def _publish_students(self, at_ms: int) -> None:
        if at_ms == 120_000:  # the same student again, as version 2
            self.registry.publish(zoo_path("rul-fd001"), stable=True)
        if at_ms == 200_000:  # a version with a damaged file
            version = self.registry.publish(zoo_path("har-waist"), stable=True)
            path = self.registry.version_path("har-waist", version) / "model.onnx"
            path.write_bytes(path.read_bytes()[:-100])

    def _restart_worker(self) -> None:
        self.accounts["worker"] = Accounts(self.worker, "site-worker-1", "worker", self.now_ms)
        self.totals["scored"] = self.totals["unscored"] = 0

    def _plan(self, stream: str) -> StreamPlan | None:
        student = self.models.student_of(stream)
        if student is None:
            return None
        window = student.manifest.window
        spec = WindowSpec(
            length=window.length,
            hop=window.hop,
            min_readings=window.min_readings,
            gap_ms=window.gap_ms,
        )
        return StreamPlan(student.manifest.name, student.manifest.channel_names, spec)

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
                self.dead_letters[exc.reason.value] += 1
                self.totals["messages_dead_lettered"] += 1
                continue
            self.totals["messages_logged"] += 1
            partition = partition_of(device_key(site, device), PARTITIONS)
            envelopes[partition].append(
                encode_envelope(site, device, stream, self.now_ms, message.payload)
            )
        for partition, waiting in envelopes.items():
            waiting.append(encode_tick(Tick(self.now_ms, START_MS)))
            items = decode_messages(encode_bundle(waiting))
            self._score(self.devices.apply(partition, self.offsets[partition], items))
            self.offsets[partition] += 1
            if partition or at_ms % 60_000 > 20_000:  # partition 0 stalls for 20 s of each minute
                self.committed[partition] = self.offsets[partition]

    def _score(self, outcome: Outcome) -> None:
        scored = score_windows(outcome.windows, self.models.student_of, self.now_ms + 7)
        records = records_of(scored)
        self.points += points_of(records)
        self.drift.look(scored)
        self.points += self.drift.points()
        self.totals["scored"] += len(records)
        self.totals["stored"] += len(records)
        self.totals["unscored"] += len(scored.unscored)
        for part in scored.parts:
            self.latency.record(self.now_ms + 7 - part.windows.end_ms, self.now_ms)

    def _account(self) -> None:
        latency = self.latency.summary(self.now_ms)
        connected = self.now_ms not in range(SESSION_LOST_MS - 10_000, SESSION_LOST_MS)
        problems = () if connected else ("bridge is not connected to the MQTT broker",)
        bridge: dict[str, object] = {"connected": connected, "sessions_lost": 0}
        if self.now_ms >= SESSION_LOST_MS:
            bridge |= {"sessions_lost": 1, "session_lost_ms": SESSION_LOST_MS}
        parts = {"bridge": bridge, "archive": {"evicted": self._evicted()}}
        self.bridge.report = HealthReport(True, connected, problems, parts)
        self.bridge.sums = Totals(
            messages_received=self.totals["messages_received"],
            messages_logged=self.totals["messages_logged"],
            messages_dead_lettered=self.totals["messages_dead_lettered"],
            dead_letters=dict(self.dead_letters),
        )
        self.worker.seen = self.devices.accounts()
        self.worker.sums = replace(
            sum_accounts(self.worker.seen),
            scored=self.totals["scored"],
            unscored=self.totals["unscored"],
            sensor_to_score=latency,
            receive_to_score=latency,
        )
        self.worker.progress = self._progress("kpstream-score", READINGS)
        self.worker.students = self.models.statuses()
        self.store.sums = Totals(stored=self.totals["stored"], sensor_to_stored=latency)
        self.store.progress = self._progress("kpstream-store-influx", SCORES)
        for accounts in self.accounts.values():
            self.points += accounts.points(self.now_ms)
            accounts.confirm()

    def _evicted(self) -> int:
        """Counter of evictions: it grows from `EVICTED_MS` on, and begins anew at a restart."""
        seconds = max(0, self.now_ms - EVICTED_MS) // 1000
        return seconds if self.now_ms < EVICTED_RESTART_MS else 0

    def _progress(self, group: str, topic: str) -> list[PartitionProgress]:
        return [
            self.tracker.observe(
                group,
                topic,
                partition,
                end_offset=self.offsets[partition],
                position=self.committed[partition],
                committed=self.committed[partition],
                now_ms=self.now_ms,
                steady_ms=self.now_ms,
            )
            for partition in range(PARTITIONS)
        ]

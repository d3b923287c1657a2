"""A fake view of a gateway: deterministic by seed, for the page and for tests.

Eight turbofans that wear out and five people; `fill` writes their last minutes into a results
file as the store agent would, `FakeView` has the matching accounts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from ingest.mqtt.announced import Announced
from pipeline.points.points import Point
from pipeline.status.counters import DeviceAccount, LatencySummary, Totals, sum_accounts
from pipeline.status.health import HealthReport, health_report
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import ChallengerStatus, ModelStatus, ReleaseStatus
from pipeline.stores.resultsfile import ResultsFile

LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
CHANNELS = (
    *("T24", "T30", "T50", "P30", "Nf", "Nc", "Ps30", "phi"),
    *("NRf", "NRc", "BPR", "htBleed", "W31", "W32"),
)
ENGINES = {
    "engine-01": 112,
    "engine-02": 14,
    "engine-03": 38,
    "engine-04": 125,
    "engine-05": 71,
    "engine-06": 96,
    "engine-07": 47,
    "engine-08": 119,
}
PEOPLE = ("anna", "bo", "carla", "dmitri", "emre")
STALE = {"engine-06", "dmitri"}
MINUTE_MS = 60_000


def rul_points(
    device: str, rul_now: float, until_ms: int, count: int, seed: int
) -> Iterator[Point]:
    """One score a second up to `until_ms`; version 2 takes over after two thirds."""
    random = Random(seed)
    wander = 0.0
    for i in range(count):
        left = (count - 1 - i) * 0.12
        wander = 0.93 * wander + random.gauss(0, 1.1)
        rul = max(0.0, min(125.0, rul_now + left + wander * (0.4 + 0.6 * (i < count - 30))))
        width = 4 + 0.16 * rul
        yield Point(
            "rul",
            (("site", "plant-1"), ("device", device), ("stream", "engine"), ("model", "rul-fd001")),
            (
                ("rul", rul),
                ("rul_low", rul - width),
                ("rul_high", min(125.0 + width, rul + 0.9 * width)),
                ("version", 1 if i < count * 2 // 3 else 2),
                ("readings", 30),
                ("gaps", 0),
                ("latency_ms", 18 + random.randrange(12)),
            ),
            (until_ms - (count - 1 - i) * 1000) * 10**6,
        )


def activity_points(person: str, until_ms: int, count: int, seed: int) -> Iterator[Point]:
    """One score every 1.28 s up to `until_ms`, in runs of one activity."""
    random = Random(seed)
    label, left = random.choice(LABELS), 0
    for i in range(count):
        if left == 0:
            label, left = random.choice(LABELS), random.randint(12, 90)
        left -= 1
        top = 0.97 - 0.35 * random.random() ** 6 - (0.2 if left == 0 else 0)
        rest = [random.random() + 0.05 for _ in LABELS]
        spread = sum(r for name, r in zip(LABELS, rest, strict=True) if name != label)
        shares = {
            name: top if name == label else (1 - top) * r / spread
            for name, r in zip(LABELS, rest, strict=True)
        }
        yield Point(
            "activity",
            (("site", "lab"), ("device", person), ("stream", "imu"), ("model", "har-uci")),
            (
                ("activity", label),
                ("probability", top),
                *((f"p_{name}", share) for name, share in shares.items()),
                ("version", 3),
                ("readings", 128),
                ("gaps", 0),
                ("latency_ms", 30 + random.randrange(20)),
            ),
            (until_ms - round((count - 1 - i) * 1280)) * 10**6,
        )


def fill(results: ResultsFile, now_ms: int, minutes: int = 12, seed: int = 7) -> None:
    """Write the scores of the fake fleet in the last `minutes`."""
    count = minutes * 60
    for i, (engine, rul) in enumerate(ENGINES.items()):
        until = now_ms - (4 * MINUTE_MS if engine in STALE else 400 + 100 * i)
        results.write(list(rul_points(engine, rul, until, count, seed + i)))
    for i, person in enumerate(PEOPLE):
        until = now_ms - (3 * MINUTE_MS if person in STALE else 300 + 170 * i)
        results.write(list(activity_points(person, until, int(count / 1.28), seed + 20 + i)))


@dataclass
class FakeView:
    """A `GatewayView` whose answers are plain attributes: change them at will."""

    now_ms: int
    accounts: list[DeviceAccount] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    progress: list[PartitionProgress] = field(default_factory=list)
    students: list[ModelStatus] = field(default_factory=list)
    connected: bool = True
    notices: tuple[str, ...] = ()
    latency: LatencySummary = field(default_factory=lambda: LatencySummary(1200, 21.0, 74.0, 130.0))

    @classmethod
    def fleet(cls, now_ms: int) -> FakeView:
        """The view that goes with `fill`."""
        return cls(
            now_ms,
            accounts=[*_engines(now_ms), *_people(now_ms)],
            dead_letters={"not_json": 41, "missing_channel": 12, "clock_unset": 3},
            progress=_progress(now_ms),
            students=_students(now_ms),
        )

    def advance(self, by_ms: int) -> None:
        """Advance by `by_ms`: live devices continue to send, and everything is scored and
        stored."""
        self.now_ms += by_ms
        for i, a in enumerate(self.accounts):
            if a.device in STALE:
                continue
            n = by_ms // (1000 if a.stream == "engine" else 20)
            self.accounts[i] = replace(
                a,
                received=a.received + n,
                windowed=a.windowed + n,
                windows=a.windows + n // (1 if a.stream == "engine" else 64),
                last_event_ms=self.now_ms - 150,
                last_recv_ms=self.now_ms - 100,
            )
        self.progress = [
            replace(
                p,
                end_offset=p.end_offset + by_ms // 250,
                position=p.position + by_ms // 250,
                committed=(p.committed or 0) + by_ms // 250,
                last_advance_ms=self.now_ms - 300,
            )
            for p in self.progress
        ]
        wave = 1 + 0.3 * math.sin(self.now_ms / 9000)
        self.latency = LatencySummary(1200, 21.0 * wave, 74.0 * wave * wave, 130.0)

    def account(self) -> list[DeviceAccount]:
        """See `GatewayView`."""
        return self.accounts

    def totals(self) -> Totals:
        """See `GatewayView`; sums that balance if the accounts do."""
        sums = sum_accounts(self.accounts)
        refused = self.dead_letters.get("not_json", 0)
        return replace(
            sums,
            taken=sums.received,
            messages_received=sums.received // 10 + refused,
            messages_logged=sums.received // 10,
            messages_dead_lettered=refused,
            dead_letters=dict(self.dead_letters),
            scored=sums.windows,
            stored=sums.windows,
            sensor_to_score=self.latency,
            receive_to_score=LatencySummary(1200, 9.0, 31.0, 60.0),
        )

    def partitions(self) -> list[PartitionProgress]:
        """See `GatewayView`."""
        return [
            replace(p, still_ms=self.now_ms - p.last_advance_ms if p.backlog else 0)
            for p in self.progress
        ]

    def models(self) -> list[ModelStatus]:
        """See `GatewayView`."""
        return self.students

    def health(self) -> HealthReport:
        """See `GatewayView`."""
        return health_report(
            partitions=self.partitions(),
            bridge_connected=self.connected,
            bridge_notices=self.notices,
            parts={
                "broker": "127.0.0.1:1883, connected" if self.connected else "not connected",
                "bridge": {
                    "connected": self.connected,
                    "announced": Announced("5", session_expiry_s=86_400).as_dict(),
                    "session_expiry_asked_s": 604_800,
                    "sessions_lost": 2,
                    "promise_void": (),
                },
                "log": {"stored_records": 73_043, "stored_bytes": 38_400_000, "failed": False},
                "archive": {
                    "state": "ok",
                    "stored_bytes": 41_000,
                    "max_bytes": 204_800_000,
                    "evicted": 12,
                    "evicted_by": [["dead-letters", "plant-1/engine-9", 12]],
                },
                "line": {"checkpoints": 412, "score_seconds": 11.4},
            },
        )


def _engines(now_ms: int) -> Iterator[DeviceAccount]:
    for i, engine in enumerate(ENGINES):
        silent = 4 * MINUTE_MS if engine in STALE else 300
        received = 1480 + 37 * i
        yield DeviceAccount(
            *("plant-1", engine, "engine"),
            received=received,
            windowed=received - 9 - i - 2,
            duplicate=9,
            late=i,
            dead_lettered=2,
            gaps=i % 3,
            windows=received - 40 - i,
            last_event_ms=now_ms - silent - 100,
            last_recv_ms=now_ms - silent,
        )
    yield DeviceAccount(
        "plant-1", "engine-09", "engine", received=12, windowed=12, last_recv_ms=now_ms - 800
    )


def _people(now_ms: int) -> Iterator[DeviceAccount]:
    for i, person in enumerate(PEOPLE):
        silent = 3 * MINUTE_MS if person in STALE else 200
        received = 36_000 + 128 * i
        yield DeviceAccount(
            *("lab", person, "imu"),
            received=received,
            windowed=received - 310 - 20 * i,
            duplicate=310,
            late=20 * i,
            gaps=i,
            windows=received // 64 - 1,
            last_event_ms=now_ms - silent - 40,
            last_recv_ms=now_ms - silent,
        )


def _progress(now_ms: int) -> list[PartitionProgress]:
    found = []
    for p, end in enumerate((18_234, 17_410, 19_022, 18_377)):
        behind = 2 + p if p != 2 else 0
        found.append(
            PartitionProgress("kpstream-score", "readings", p, end, end, end - behind, now_ms - 600)
        )
    for p, end in enumerate((5_210, 4_988, 5_377, 5_102)):
        found.append(
            PartitionProgress("kpstream-store-results", "scores", p, end, end, end, now_ms - 200)
        )
    return found


def _students(now_ms: int) -> list[ModelStatus]:
    return [
        ModelStatus(
            *("rul-fd001", "rul", "engine", 2),
            digest="9f2c4be81a7d03e6c5518a0f4f2f3b6e7d1c90a8b7e6f5d4c3b2a19081726354",
            since_ms=now_ms - 4 * MINUTE_MS,
            metrics={
                "validation": {"rmse": 12.84, "mae": 9.47, "score": 214.3},
                "test": {"rmse": 13.62, "mae": 10.11, "score": 297.8},
            },
            challenger=ChallengerStatus(
                version=4,
                digest="c1d2e3f4a5b60718293a4b5c6d7e8f9001122334455667788990aabbccddeeff",
                against=2,
                is_running=False,
                since_ms=now_ms - 3 * MINUTE_MS,
                windows=412,
                skipped=7,
                evidence={
                    "windows": 412,
                    "nonfinite_permille": 0,
                    "latency_us": 740,
                    "latency_percent": 103,
                    "disagreement_permille": 64,
                    "psi_permille": 41,
                    "spread_percent": 97,
                    "unknown_permille": 0,
                },
            ),
            release=ReleaseStatus(7, 4, "shadow", now_ms - 3 * MINUTE_MS),
            refused_version=3,
            refused_error="model.onnx has digest 51c0…, the manifest says 9ab7…: "
            "the artifact is damaged; publish it again",
            lineage={
                "teacher": "all-MiniLM-L6-v2",
                "method": "knowledge pruning",
                "data": "C-MAPSS FD001",
                "data_digest": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce",
                "code_revision": "a41f09c",
                "seed": "7",
                "created_ms": str(now_ms - 3_600_000),
                "command": "train-redistill --task rul --data CMAPSS.zip --seed 7",
            },
            unit="cycles",
            subject="machine",
            channels=CHANNELS,
        ),
        ModelStatus(
            *("har-uci", "activity", "imu", 3),
            digest="0b5e9d7731c2f4a6e8d0c2b4a69788f1e3d5c7b9a1b3c5d7e9f1a3b5c7d9e1f3",
            since_ms=now_ms - 26 * 3_600_000,
            metrics={
                "validation": {"macro_f1": 0.9521, "accuracy": 0.953},
                "test": {"macro_f1": 0.9408, "accuracy": 0.9402},
            },
            lineage={
                "teacher": "all-MiniLM-L6-v2",
                "method": "knowledge pruning",
                "data": "UCI-HAR",
                "data_digest": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
                "code_revision": "a41f09c",
                "seed": "7",
                "created_ms": str(now_ms - 30 * 3_600_000),
            },
            labels=LABELS,
            subject="person",
        ),
    ]

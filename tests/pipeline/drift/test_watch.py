from dataclasses import dataclass

import numpy as np
import pytest

from models.describe import describe_seen
from models.dummy import dummy_draft
from models.manifest import Draft
from models.seen import BINS
from models.tasks.classes import UNKNOWN, Unknown
from pipeline.drift.counts import BLOCK, FEWEST, LONGER, RECENT, SPAN, Binner, Counts
from pipeline.drift.watch import ALL, MOST_DEVICES, DriftWatch
from pipeline.points.lines import to_line
from pipeline.points.scorecolumns import ScoreColumns
from pipeline.scoring.batch import Scored, StudentScores
from pipeline.windows.spec import Window
from tests.fakes.scores import Closed, batches_of

RANDOM = np.random.default_rng(0)
GROUPS = 20


def draft_of(task: str, **changes) -> Draft:
    draft = dummy_draft(task)
    content = {name: getattr(draft, name) for name in Draft.model_fields}
    return Draft(**content | changes)


def readings(windows: int, length: int, level: float = 0.0) -> np.ndarray:
    return RANDOM.normal(level, 1, (windows, length, 3)).astype(np.float32)


def student(task: str = "rul", **changes) -> Draft:
    draft = dummy_draft(task)
    length, hop = draft.window.length, draft.window.hop
    seen = describe_seen(
        readings(GROUPS * 30, length), np.repeat(np.arange(GROUPS), 30), hop, draft.channel_names
    )
    return draft_of(task, seen=seen, **changes)


@dataclass
class Scorer:
    manifest: Draft


class Stream:
    """A watched stream of one student: windows go in, judgements come out."""

    def __init__(self, manifest: Draft) -> None:
        self.manifest = manifest
        self.now_ms = 0
        self.watch = DriftWatch(lambda stream: Scorer(self.manifest), "gate", lambda: self.now_ms)
        self.windows = 0

    def feed(self, values: np.ndarray, devices: int = 1, **fields) -> None:
        manifest, closed = self.manifest, []
        for row in values:
            self.windows += 1
            device = f"d{self.windows % devices}"
            window = Window(self.windows, self.windows, row, len(row), 0, self.windows)
            closed.append(Closed("plant", device, manifest.stream, window))
        who = {"task": manifest.task, "model": manifest.name, "version": manifest.version}
        spread = {name: [value] * len(closed) for name, value in fields.items() if name not in who}
        given = {name: fields.get(name, value) for name, value in who.items()}
        columns = {**given, "quality": "good", **spread}
        (batch,) = batches_of(closed)
        self.watch.look(Scored([StudentScores(batch, ScoreColumns(len(closed), columns))]))

    def fresh(self, windows: int, level: float = 0.0, devices: int = 1, **fields) -> None:
        self.feed(readings(windows, self.manifest.window.length, level), devices, **fields)

    @property
    def whole(self):
        return next((d for d in self.watch.drifts() if d.device == ALL), None)


def test_nothing_is_judged_before_there_are_enough_windows():
    stream = Stream(student())
    stream.fresh(RECENT * BLOCK - 1)
    assert stream.watch.drifts() == []
    stream.fresh(1)
    assert stream.whole.judgement.shapes == ()
    stream.fresh(BLOCK)
    assert FEWEST == 3
    assert [shape.channel for shape in stream.whole.judgement.shapes] == list(
        stream.manifest.channel_names
    )


@pytest.mark.parametrize("devices", [1, 40])
def test_an_undisturbed_stream_has_not_drifted_and_one_with_an_offset_has(devices):
    stream = Stream(student())
    for _ in range(30):
        stream.fresh(BLOCK, devices=devices)
        assert stream.whole is None or not stream.whole.judgement.has_drifted
    offset = readings(BLOCK * SPAN, stream.manifest.window.length)
    offset[:, :, 1] += 2
    for at in range(0, len(offset), BLOCK):
        stream.feed(offset[at : at + BLOCK], devices)
    name = stream.manifest.channel_names[1]
    (reason,) = stream.whole.judgement.reasons
    assert f"the readings of {name} have another shape than in training" in reason
    others = [s for s in stream.whole.judgement.shapes if s.channel != name]
    assert all(shape.psi <= shape.limit for shape in others)


def test_a_drift_keeps_its_beginning_and_ends_when_the_readings_are_back():
    stream = Stream(student())
    stream.fresh(SPAN * BLOCK)
    stream.now_ms = 5_000
    stream.fresh(BLOCK, quality="range: T24")
    assert stream.whole.judgement.reasons == ("50% of the windows are doubtful",)
    stream.now_ms = 9_000
    stream.fresh(BLOCK, quality="range: T24")
    assert (stream.whole.since_ms, stream.whole.at_ms) == (5_000, 9_000)
    stream.fresh(RECENT * BLOCK)
    assert not stream.whole.judgement.has_drifted
    assert stream.whole.since_ms == 0


def test_a_new_class_is_a_drift_and_the_rejects_of_calibration_are_none():
    manifest = student("activity")
    decoding = manifest.decoding.model_copy(
        update={"unknown": Unknown(threshold=0.5, rejects=0.05)}
    )
    stream = Stream(draft_of("activity", seen=manifest.seen, decoding=decoding))
    for share in (0.05, 0.45):
        for at in range(LONGER * BLOCK):
            label = UNKNOWN if at % 100 < 100 * share else "WALKING"
            stream.fresh(1, activity=label)
        assert not stream.whole.judgement.has_drifted
        assert stream.whole.judgement.unknown == pytest.approx(share)
    stream.fresh(BLOCK, activity=UNKNOWN)
    assert stream.whole.judgement.reasons == ("56% of the windows resemble no class",)


def test_forecasts_drift_by_their_error_and_not_by_their_level():
    stream = Stream(student("forecast"))
    stream.fresh(SPAN * BLOCK, level=3.0, covered=0.8)
    assert stream.whole.judgement.shapes[0].psi > stream.whole.judgement.shapes[0].limit
    assert not stream.whole.judgement.has_drifted
    stream.fresh(RECENT * BLOCK, level=3.0, covered=0.5)
    assert stream.whole.judgement.reasons == (
        "50% of the readings are inside the 80 % interval of forecasts",
    )


def test_each_device_is_judged_by_itself():
    stream = Stream(student())
    for _ in range(2 * RECENT * BLOCK):
        odd = stream.windows % 2
        stream.fresh(1, devices=2, quality="constant: T24" if odd else "good")
    drifted = {d.device: d.judgement.has_drifted for d in stream.watch.drifts()}
    assert drifted == {ALL: True, "d0": True, "d1": False}


def test_the_devices_that_are_watched_are_bounded():
    stream = Stream(student())
    for _ in range(RECENT):
        stream.fresh((MOST_DEVICES + 50) * BLOCK, devices=MOST_DEVICES + 50)
    assert len(stream.watch.drifts()) <= MOST_DEVICES + 1
    assert stream.whole.judgement.devices == 20


def test_a_new_version_of_the_student_is_judged_afresh():
    stream = Stream(student())
    stream.fresh(RECENT * BLOCK, quality="rate")
    assert stream.whole.judgement.has_drifted
    old = stream.manifest
    stream.manifest = draft_of("rul", seen=old.seen, version=old.version + 1)
    stream.fresh(1)
    assert stream.watch.drifts() == []


def test_scores_of_another_student_are_not_counted():
    stream = Stream(student())
    stream.fresh(RECENT * BLOCK, version=99)
    stream.fresh(RECENT * BLOCK, model="other")
    assert stream.watch.drifts() == []


def test_a_student_without_a_histogram_is_watched_for_the_rest():
    stream = Stream(draft_of("rul"))
    stream.fresh(SPAN * BLOCK, quality="rate")
    assert stream.whole.judgement.shapes == ()
    assert stream.whole.judgement.reasons == ("100% of the windows are doubtful",)


def test_cutting_into_batches_changes_nothing():
    values = readings(700, student().window.length)
    manifest = student()
    found = []
    for size in (1, 7, 100, 700):
        stream = Stream(manifest)
        for at in range(0, len(values), size):
            stream.feed(values[at : at + size], devices=3)
        found.append([(d.device, d.judgement) for d in stream.watch.drifts()])
    assert found[0] == found[1] == found[2] == found[3]


def test_a_judgement_becomes_points_once():
    stream = Stream(student())
    stream.now_ms = 1_700_000_000_000
    stream.fresh(FEWEST * BLOCK, quality="range: T24")
    whole, *channels, device = stream.watch.points()
    assert to_line(whole) == (
        "drift,channel=*,device=*,gateway=gate,site=*,stream=engine "
        'devices=1i,drifted=1i,flagged=1,since_ms=1700000000000i,text="100% of the windows are '
        'doubtful",version=1i,windows=300i 1700000000000000000'
    ).replace("stream=engine", f"stream={stream.manifest.stream}")
    assert [dict(p.tags)["channel"] for p in channels] == list(stream.manifest.channel_names)
    assert {name for name, _ in channels[0].fields} == {"psi", "limit", "windows", "drifted"}
    assert dict(device.tags)["device"] == "d0"
    assert stream.watch.points() == []


def test_a_reading_is_counted_in_the_bin_of_training():
    manifest = student()
    windows = readings(50, manifest.window.length)
    hop = manifest.window.hop
    binner = Binner(manifest.seen.histogram, hop)
    cells = binner.cells(binner.newest(windows)).ravel()
    counted = np.bincount(cells, minlength=len(manifest.channels) * BINS).reshape(-1, BINS)
    for place, edges in enumerate(manifest.seen.histogram.edges):
        newest = windows[:, -hop:, place][:, :: max(1, hop // 16)]
        wanted = np.bincount(np.digitize(newest.ravel(), np.float32(edges)), minlength=20)
        assert counted[place].tolist() == wanted.tolist()


def test_counts_cover_the_newest_blocks():
    counts = Counts(1)
    assert counts.blocks == 0
    assert counts.newest(SPAN).windows == 0


def test_what_is_judged_does_not_depend_on_how_the_windows_came_together():
    manifest, devices, total = student(), 3, 7 * BLOCK + 50
    values = readings(total, manifest.window.length)
    odd = RANDOM.random(total) < 0.3
    seen = []
    for most in (1, 37, 256, total):
        stream = Stream(manifest)
        start = 0
        while start < total:
            stop = min(total, start + most)
            start_of_run = start  # runs of one quality, because `feed` gives one to all
            for at in range(start + 1, stop + 1):
                if at == stop or odd[at] != odd[start_of_run]:
                    quality = "rate" if odd[start_of_run] else "good"
                    stream.feed(values[start_of_run:at], devices, quality=quality)
                    start_of_run = at
            start = stop
        seen.append(stream.watch.drifts())
    assert all(found == seen[0] for found in seen)
    flagged = {drift.device: drift.judgement.flagged for drift in seen[0]}
    newest = odd[: 7 * BLOCK][-RECENT * BLOCK :]
    assert flagged[ALL] == pytest.approx(newest.mean())
    own = odd[np.arange(1, total + 1) % devices == 1]
    whole = len(own) // BLOCK * BLOCK
    assert flagged["d1"] == pytest.approx(own[:whole][-RECENT * BLOCK :].mean())

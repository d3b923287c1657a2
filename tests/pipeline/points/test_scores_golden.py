"""Scores and their lines, byte for byte as version 0.1 wrote them.

A log or a bucket of that version continues under this one. The records of the log, which are
columns now, hold the same scores. The texts were printed by the code of version 0.1 for these
scores; they change only with a new format.
"""

from __future__ import annotations

import numpy as np
import pytest

from models.dummy import dummy_draft
from models.manifest import Manifest, OnnxFile
from models.tasks.activity import ActivityScores
from models.tasks.contract import Scores
from models.tasks.rul import RulScores
from pipeline.points.lines import lines_of, to_line
from pipeline.points.scorecolumns import encode_scores
from pipeline.points.scorepoints import ScorePoints
from pipeline.points.scores import decode_scores, points_of
from pipeline.scoring.batch import score_windows
from pipeline.windows.spec import Window
from tests.fakes.scores import Closed, batches_of, encode_old, records_of

RECORDS = {
    "rul": (
        '{"task":"rul","site":"plant 7","device":"press-2","stream":"engine","model":"dum'
        'my-rul","version":1,"start_ms":1700000000000,"end_ms":1700000001000,"readings":4'
        ',"gaps":0,"recv_ms":1700000001100,"scored_ms":1700000001234,"rul":60.41423034667'
        '969,"rul_low":40.41423034667969,"rul_high":75.41423034667969}'
    ),
    "rul-escaped": (
        '{"task":"rul","site":"plant 7","device":"a,b=c","stream":"engine","model":"dummy'
        '-rul","version":1,"start_ms":1700000000001,"end_ms":1700000001001,"readings":3,"'
        'gaps":1,"recv_ms":1700000001101,"scored_ms":1700000001234,"rul":61.8817672729492'
        '2,"rul_low":41.88176727294922,"rul_high":76.88176727294922}'
    ),
    "activity": (
        '{"task":"activity","site":"plant 7","device":"anna","stream":"imu","model":"dumm'
        'y-activity","version":1,"start_ms":1700000000000,"end_ms":1700000001000,"reading'
        's":8,"gaps":0,"recv_ms":1700000001100,"scored_ms":1700000001234,"activity":"LAYI'
        'NG","probability":0.8610638380050659,"probabilities":{"WALKING":0.03392891585826'
        '874,"SITTING":0.10500721633434296,"LAYING":0.8610638380050659}}'
    ),
    "activity-escaped": (
        '{"task":"activity","site":"plant 7","device":"bo\\\\","stream":"imu","model":"dumm'
        'y-activity","version":1,"start_ms":1700000000001,"end_ms":1700000001001,"reading'
        's":7,"gaps":1,"recv_ms":1700000001101,"scored_ms":1700000001234,"activity":"LAYI'
        'NG","probability":0.9226627349853516,"probabilities":{"WALKING":0.01930627785623'
        '0736,"SITTING":0.05803094804286957,"LAYING":0.9226627349853516}}'
    ),
}
LINES = {
    "rul": (
        "rul,device=press-2,model=dummy-rul,site=plant\\ 7,stream=engine gaps=0i,latency_m"
        "s=134i,readings=4i,rul=60.41423034667969,rul_high=75.41423034667969,rul_low=40.4"
        "1423034667969,start_ms=1700000000000i,version=1i 1700000001000000000"
    ),
    "rul-escaped": (
        "rul,device=a\\,b\\=c,model=dummy-rul,site=plant\\ 7,stream=engine gaps=1i,latency_m"
        "s=133i,readings=3i,rul=61.88176727294922,rul_high=76.88176727294922,rul_low=41.8"
        "8176727294922,start_ms=1700000000001i,version=1i 1700000001001000000"
    ),
    "activity": (
        'activity,device=anna,model=dummy-activity,site=plant\\ 7,stream=imu activity="LAY'
        'ING",gaps=0i,latency_ms=134i,p_LAYING=0.8610638380050659,p_SITTING=0.10500721633'
        "434296,p_WALKING=0.03392891585826874,probability=0.8610638380050659,readings=8i,"
        "start_ms=1700000000000i,version=1i 1700000001000000000"
    ),
    "activity-escaped": (
        'activity,device=bo\\ ,model=dummy-activity,site=plant\\ 7,stream=imu activity="LAY'
        'ING",gaps=1i,latency_ms=133i,p_LAYING=0.9226627349853516,p_SITTING=0.05803094804'
        "286957,p_WALKING=0.019306277856230736,probability=0.9226627349853516,readings=7i"
        ",start_ms=1700000000001i,version=1i 1700000001001000000"
    ),
}
VALUE = f"[{','.join(RECORDS.values())}]".encode()
ALL_TRUE = np.ones(2, dtype=np.bool_)


class FixedStudent:
    """A scorer with fixed scores, so that no runtime rounds them."""

    def __init__(self, task: str, scores: Scores) -> None:
        onnx = OnnxFile(sha256="0" * 64, size_bytes=1000, opset=17)
        self.manifest = Manifest(**dict(dummy_draft(task)), onnx=onnx)
        self._scores = scores

    def score(self, windows: object) -> Scores:
        return self._scores


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


STUDENTS = {
    "engine": FixedStudent(
        "rul",
        RulScores(
            floats(60.41423034667969, 61.88176727294922),
            floats(40.41423034667969, 41.88176727294922),
            floats(75.41423034667969, 76.88176727294922),
            ALL_TRUE,
        ),
    ),
    "imu": FixedStudent(
        "activity",
        ActivityScores(
            ("WALKING", "SITTING", "LAYING"),
            np.stack(
                [
                    floats(0.03392891585826874, 0.10500721633434296, 0.8610638380050659),
                    floats(0.019306277856230736, 0.05803094804286957, 0.9226627349853516),
                ]
            ),
            np.array([2, 2]),
            ALL_TRUE,
            ALL_TRUE,
        ),
    ),
}


def closed(stream: str, device: str, number: int) -> Closed:
    length = STUDENTS[stream].manifest.window.length
    window = Window(
        values=np.zeros((length, 3), dtype=np.float32),
        start_ms=1_700_000_000_000 + number,
        end_ms=1_700_000_001_000 + number,
        readings=length - number,
        gaps=number,
        recv_ms=1_700_000_001_100 + number,
    )
    return Closed("plant 7", device, stream, window)


def test_scoring_gives_the_scores_of_version_0_1_and_their_quality() -> None:
    windows = [
        closed("engine", "press-2", 0),
        closed("engine", "a,b=c", 1),
        closed("imu", "anna", 0),
        closed("imu", "bo\\", 1),
    ]
    scored = score_windows(batches_of(windows), STUDENTS.get, 1_700_000_001_234)
    (value,) = encode_scores([part.scores for part in scored.parts])
    for records in (records_of(scored), decode_scores(value)):
        assert [record.pop("quality") for record in records] == ["good"] * 4
        assert encode_old(records) == VALUE
    found = ScorePoints()
    found.add(value.replace(b',"quality":"good"', b""))
    found.finish()
    assert list(lines_of(found.points)) == list(LINES.values())


@pytest.mark.parametrize("name", LINES)
def test_a_record_of_version_0_1_is_the_same_line(name: str) -> None:
    value = f"[{RECORDS[name]}]".encode()
    found = ScorePoints()
    found.add(value)
    found.finish()
    assert list(lines_of(found.points)) == [LINES[name]]
    assert [to_line(point) for point in points_of(decode_scores(value))] == [LINES[name]]

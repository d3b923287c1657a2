"""Names from a manifest to a stored column: refused at once, or written by every store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.topics import are_names, is_name
from models.dummy import dummy_draft
from models.manifest import Draft
from models.tasks import fields
from pipeline.points.lines import to_line
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack

ODD = [
    "acc x",
    "Walking up",
    "a,b",
    "a=b",
    'say "hi"',
    "back\\slash",
    "ends\\",
    "100 %",
    "%s",
    "{0}",
    "']; drop table x",
    "select",
    "zürich",
    "時刻",
    "e\u0301",
    "🙂",
    "\udcff",
    "new\nline",
    "tab\t",
    "\u202eright to left",
    " blank",
    "",
    "-",
    "#hash",
    "_private",
    "series",
    "time_ns",
    "a" * 64,
    "a" * 65,
]


def with_labels(*labels: str) -> Draft:
    """A draft of a student with these classes."""
    draft = dummy_draft("activity").model_dump()
    draft["decoding"]["labels"] = labels
    return Draft.model_validate(draft)


def with_channels(*names: str) -> Draft:
    """A draft of a student with these channels."""
    draft = dummy_draft("rul").model_dump()
    draft["channels"] = [{"name": name, "unit": "1"} for name in names]
    draft["scaler"] = {"kind": "affine", "scale": [1.0] * len(names), "offset": [0.0] * len(names)}
    return Draft.model_validate(draft)


def field_of(line: str) -> str | None:
    """The name of the one field of a line, as InfluxDB reads it; None if it cannot be read."""
    found = re.fullmatch(r"activity,device=d ((?:[^,= \\]|\\[,= ])+)=0\.25 \d+", line)
    return None if found is None else re.sub(r"\\([,= ])", r"\1", found[1])


def test_a_channel_of_a_manifest_is_one_that_a_message_can_carry(attack: Attack) -> None:
    assert [fields.is_name(name) for name in ODD] == [is_name(name) for name in ODD]
    taken = []
    for name in ODD:
        try:
            taken.append(with_channels("first", name).channel_names[1])
        except ValidationError:
            continue
    lost = [name for name in taken if not are_names((name,))]
    attack.report(count=len(ODD), lost=len(lost), unit="channel names")
    assert "acc x" not in taken
    assert lost == []


def test_every_class_of_a_manifest_can_be_stored_everywhere(attack: Attack, tmp_path: Path) -> None:
    taken, lost = [], []
    for number, label in enumerate(ODD):
        try:
            with_labels("other", label)
        except ValidationError:
            continue
        taken.append(label)
        point = Point("activity", (("device", "d"),), ((f"p_{label}", 0.25),), number)
        results = ResultsFile(tmp_path / f"{number}.db")
        refused = results.write([point])
        results.close()
        if refused or field_of(to_line(point)) != f"p_{label}":
            lost.append(label)
    attack.report(count=len(ODD), lost=len(lost), unit="labels")
    assert {"Walking up", "zürich", "100 %"} <= set(taken), "usual labels stay possible"
    assert lost == []


@pytest.mark.parametrize(
    "names", [("walk", "Walk"), ("WALK", "sit", "walk"), ("straße", "STRASSE"), ("a", "a")]
)
def test_names_that_differ_by_case_only_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="more than once"):
        with_labels(*names)
    if all(map(is_name, names)):
        with pytest.raises(ValidationError, match="more than once"):
            with_channels(*names)


def test_the_most_labels_of_four_students_fit_into_the_results_file(tmp_path: Path) -> None:
    with_labels(*(f"label {n}" for n in range(fields.MAX_LABELS)))
    with pytest.raises(ValidationError):
        with_labels(*(f"label {n}" for n in range(fields.MAX_LABELS + 1)))
    results = ResultsFile(tmp_path / "results.db")
    for student in range(4):
        labels = [f"p_{student} {n}" for n in range(fields.MAX_LABELS)]
        point = Point("activity", (("device", "d"),), tuple((each, 0.5) for each in labels), 1)
        assert results.write([point]) == []
    results.close()


def test_labels_by_case_in_one_record_stop_nobody_else(attack: Attack, tmp_path: Path) -> None:
    """Records of before, or of another producer, do not pass the manifest."""
    results = ResultsFile(tmp_path / "results.db")
    both = Point("activity", (("device", "bad"),), (("p_walk", 0.5), ("p_Walk", 0.5)), 1)
    good = Point("activity", (("device", "good"),), (("p_sit", 0.5),), 1)
    lost = 0
    for _ in range(attack.size(short=3, long=30)):
        refused = results.write([both, good])
        lost += [(each.point, "only in case" in each.reason) for each in refused] != [(both, True)]
    rows = results.select("SELECT p_sit FROM activity")
    results.close()
    attack.report(count=attack.size(short=3, long=30), lost=lost, unit="batches")
    assert rows == [(0.5,)]

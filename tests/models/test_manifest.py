import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dummy import dummy_draft
from models.errors import ArtifactError, ChannelMismatch, ManifestInvalid, Misfit
from models.manifest import (
    Draft,
    Manifest,
    OnnxFile,
    check_fit,
    decode_manifest,
    encode_manifest,
)
from models.seen import Seen


def manifest(task: str = "rul") -> Manifest:
    onnx = OnnxFile(sha256="0" * 64, size_bytes=1000, opset=17)
    return Manifest(**dict(dummy_draft(task)), onnx=onnx)


def changed(path: str, value: object, task: str = "rul") -> bytes:
    content = json.loads(encode_manifest(manifest(task)))
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[int(last) if last.isdigit() else last] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_a_manifest_survives_writing_and_reading_and_has_one_digest(task):
    data = encode_manifest(manifest(task))
    assert decode_manifest(data) == manifest(task)
    assert encode_manifest(decode_manifest(data)) == data


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", 2, "format"),
        ("format", True, "format"),
        ("format", 1.0, "format"),
        ("name", "../../etc", "name"),
        ("name", "a/b", "name"),
        ("name", "ok\n", "name"),
        ("version", 0, "version"),
        ("version", "1", "version"),
        ("version", 1.5, "version"),
        ("version", True, "version"),
        ("task", "forecast", "task"),
        ("task", "activity", "task"),
        ("channels", [], "channels"),
        ("channels.1.name", "T24", "'T24' more than once"),
        ("channels.0.name", "T24\x00", "channels.0.name"),
        ("channels.0.unit", "", "channels.0.unit"),
        ("rate_hz", 0, "rate_hz"),
        ("window.length", 0, "window.length"),
        ("window.length", 10**9, "window.length"),
        ("window.hop", 0, "window.hop"),
        ("window.min_readings", 5, "min_readings 5 is above length 4"),
        ("window.gap_ms", -1, "window.gap_ms"),
        ("scaler.scale", [1.0, 2.0], "scaler.scale has 2 numbers for 3 channels"),
        ("scaler.offset", [1.0] * 4, "scaler.offset has 4 numbers for 3 channels"),
        ("scaler.scale.0", 1e300, "scaler.scale.0"),
        ("scaler.scale.0", None, "scaler.scale.0"),
        ("scaler.kind", "robust", "scaler.kind"),
        ("input", "x", "input"),
        ("decoding.kind", "classes", "decoding"),
        ("decoding.max_rul", 0, "max_rul"),
        ("interval.level", 1, "interval.level"),
        ("interval.low", 99, "low 99.0 is above high 15.0"),
        ("metrics.test.rmse", "good", "metrics.test.rmse"),
        ("lineage.seed", "1", "lineage.seed"),
        ("lineage.extra", 1, "lineage.extra"),
        ("onnx.sha256", "XYZ", "onnx.sha256"),
        ("onnx.size_bytes", 4_000_001, "onnx.size_bytes"),
        ("onnx.opset", 12, "onnx.opset"),
        ("surprise", 1, "surprise"),
    ],
)
def test_an_odd_field_is_refused_by_name(path, value, named):
    with pytest.raises(ManifestInvalid) as refused:
        decode_manifest(changed(path, value))
    assert named in str(refused.value)


@pytest.mark.parametrize("missing", sorted(Manifest.model_fields.keys() - {"seen", "subject"}))
def test_no_field_but_one_that_was_added_later_has_a_default(missing):
    content = json.loads(encode_manifest(manifest()))
    del content[missing]
    with pytest.raises(ManifestInvalid, match=missing):
        decode_manifest(json.dumps(content).encode())


def test_duplicate_and_single_labels_are_refused():
    for labels in (["A", "A"], ["A"]):
        with pytest.raises(ManifestInvalid, match="labels"):
            decode_manifest(changed("decoding.labels", labels, "activity"))


TABLE = {"rul": [0.0, 60.0, 125.0], "low": [-5.0, -30.0, -10.0], "high": [5.0, 20.0, 0.0]}


def test_fields_added_later_are_not_written_while_unused():
    for task in ("rul", "activity"):
        data = encode_manifest(manifest(task))
        assert b'"table"' not in data
        assert b'"unknown"' not in data


def test_a_manifest_may_say_what_wears_the_sensors():
    content = json.loads(encode_manifest(manifest("activity")))
    assert "subject" not in content
    assert decode_manifest(json.dumps(content).encode()).wearer == "person"
    read = decode_manifest(json.dumps({**content, "subject": "machine"}).encode())
    assert read.wearer == "machine"
    assert decode_manifest(encode_manifest(read)) == read
    with pytest.raises(ManifestInvalid, match="subject"):
        decode_manifest(json.dumps({**content, "subject": "pump"}).encode())
    assert manifest("rul").wearer == "machine"


def test_a_remaining_useful_life_is_in_any_unit():
    assert decode_manifest(changed("decoding.unit", "km")).decoding.unit == "km"
    with pytest.raises(ManifestInvalid, match="unit"):
        decode_manifest(changed("decoding.unit", ""))


def test_an_interval_may_be_a_function_of_the_score():
    content = json.loads(changed("interval.table", TABLE))
    read = decode_manifest(json.dumps(content).encode())
    assert read.interval.table.low == (-5.0, -30.0, -10.0)
    assert decode_manifest(encode_manifest(read)) == read


SWITCHING = {"channels": [0], "spreads": [2.0], "table": TABLE}


def test_windows_whose_settings_switch_may_have_a_table_of_their_own():
    read = decode_manifest(changed("interval.switching", SWITCHING))
    assert read.interval.switching.table.low == (-5.0, -30.0, -10.0)
    assert decode_manifest(encode_manifest(read)) == read


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"channels": []}, "interval.switching.channels"),
        ({"channels": [-1]}, "interval.switching.channels.0"),
        ({"channels": [250]}, "interval.switching has channel 250"),
        ({"spreads": []}, "1 channels and 0 spreads"),
        ({"spare": 1}, "interval.switching.spare"),
    ],
)
def test_an_odd_table_for_settings_that_switch_is_refused(change, named):
    with pytest.raises(ManifestInvalid) as refused:
        decode_manifest(changed("interval.switching", SWITCHING | change))
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rul": [0.0, 0.0, 1.0]}, "ascending order"),
        ({"rul": [0.0]}, "interval.table.rul"),
        ({"low": [0.0]}, "3 knots rul, 1 low and 3 high"),
        ({"low": [-5.0, 21.0, -10.0]}, "low 21.0 is above high 20.0 at rul 60.0"),
        ({"high": [5.0, None, 0.0]}, "interval.table.high.1"),
        ({"spare": []}, "interval.table.spare"),
    ],
)
def test_an_odd_table_of_the_interval_is_refused(change, named):
    with pytest.raises(ManifestInvalid) as refused:
        decode_manifest(changed("interval.table", TABLE | change))
    assert named in str(refused.value)


def test_a_threshold_of_the_unknown_is_read_and_odd_ones_are_refused():
    good = {"threshold": 0.6, "rejects": 0.05}
    read = decode_manifest(changed("decoding.unknown", good, "activity"))
    assert read.decoding.unknown.threshold == 0.6
    assert decode_manifest(encode_manifest(read)) == read
    for change in ({"threshold": 1.0}, {"threshold": 0.0}, {"rejects": -0.1}, {"rejects": "few"}):
        with pytest.raises(ManifestInvalid, match="unknown"):
            decode_manifest(changed("decoding.unknown", good | change, "activity"))
    content = json.loads(changed("decoding.unknown", good, "activity"))
    content["decoding"]["labels"] = ["SITTING", "unknown"]
    with pytest.raises(ManifestInvalid, match="labels hold 'unknown'"):
        decode_manifest(json.dumps(content).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"[]",
        b"null",
        b"{",
        b"[" * 100_000,
        b"1" * 10_000,
        encode_manifest(manifest()).replace(b'"low": -20.0', b'"low": NaN'),
        encode_manifest(manifest()).replace(b'"low": -20.0', b'"low": -Infinity'),
        encode_manifest(manifest()).replace(b'"low": -20.0', b'"low": -1e999'),
        encode_manifest(manifest()).replace(b'"hop": 1,', b'"hop": 1, "hop": 2,'),
        encode_manifest(manifest()).replace(b"dummy", b"d\xfcmmy"),
    ],
)
def test_invalid_json_is_refused(data):
    with pytest.raises(ManifestInvalid):
        decode_manifest(data)


def test_a_duplicate_key_is_named():
    data = encode_manifest(manifest()).replace(b'"hop": 1,', b'"hop": 1, "hop": 1,')
    with pytest.raises(ManifestInvalid, match="'hop' appears twice"):
        decode_manifest(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_manifest_is_read_or_refused_but_never_anything_else(data):
    whole = bytearray(encode_manifest(manifest()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_manifest(bytes(whole))
    except ArtifactError:
        pass


@pytest.mark.parametrize(
    ("field", "change", "error"),
    [
        ("task", {"task": "activity"}, None),
        ("stream", {"stream": "turbine"}, Misfit),
        ("rate_hz", {"rate_hz": 10.0}, Misfit),
        ("window.length", {"window": {"length": 5, "hop": 1, "min_readings": 4}}, Misfit),
        ("window.hop", {"window": {"length": 4, "hop": 2, "min_readings": 4}}, Misfit),
        ("window.min_readings", {"window": {"length": 4, "hop": 1, "min_readings": 3}}, Misfit),
        ("window.gap_ms", {"window": {"length": 4, "hop": 1, "gap_ms": 5}}, Misfit),
        ("channels[0]", {"channels": ["T30", "T24", "Nf"]}, ChannelMismatch),
        ("channels[2]", {"channels": ["T24", "T30", "Nc"]}, ChannelMismatch),
        ("channels[2]", {"channels": ["T24", "T30"]}, ChannelMismatch),
        ("decoding.unit", {"unit": "hours"}, Misfit),
    ],
)
def test_a_misfit_names_the_field_and_both_values(field, change, error):
    running = dummy_draft()
    content = running.model_dump()
    if "channels" in change:
        units = {channel.name: channel.unit for channel in running.channels}
        names = change["channels"]
        content["channels"] = [{"name": n, "unit": units.get(n, "rpm")} for n in names]
        for part in ("scale", "offset"):
            content["scaler"][part] = [1.0] * len(names)
    elif "window" in change:
        content["window"] = {"min_readings": 4, "gap_ms": None, **change["window"]}
    elif "unit" in change:
        content["decoding"]["unit"] = change["unit"]
    elif field == "task":
        content = dummy_draft("activity").model_dump() | {
            key: content[key] for key in ("stream", "channels", "rate_hz", "window")
        }
        error = Misfit
    else:
        content |= change
    candidate = Draft.model_validate(content)
    with pytest.raises(error) as refused:
        check_fit(running, candidate)
    assert field in str(refused.value)
    assert "dummy-rul v1" in str(refused.value)
    check_fit(candidate, candidate)


def test_a_changed_unit_is_a_channel_mismatch():
    content = dummy_draft().model_dump()
    content["channels"][1]["unit"] = "K"
    with pytest.raises(ChannelMismatch, match=r"'T30' in 'K'.*'T30' in 'R'"):
        check_fit(dummy_draft(), Draft.model_validate(content))


def test_new_weights_labels_and_scaler_fit():
    content = dummy_draft("activity").model_dump()
    content["decoding"]["labels"] = ["RUN", "SIT"]
    content["scaler"]["scale"] = [1.0, 1.0, 1.0]
    check_fit(dummy_draft("activity"), Draft.model_validate(content | {"version": 9}))


SEEN = {"low": [0.0, 1.0, 2.0], "middle": [0.5, 1.5, 2.0], "high": [1.0, 2.0, 2.0]}


def test_the_range_seen_in_training_is_written_only_if_it_is_known():
    assert b'"seen"' not in encode_manifest(manifest())
    known = decode_manifest(changed("seen", SEEN))
    assert known.seen == Seen(**SEEN)
    assert decode_manifest(encode_manifest(known)) == known
    check_fit(manifest(), known)  # a student that knows its range may replace one that does not


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({**SEEN, "low": [0.0, 1.0]}, "2 low, 3 middle and 3 high"),
        ({**SEEN, "low": [0.0, 1.6, 2.0]}, "channel 1 has low 1.6, middle 1.5, high 2.0"),
        ({name: values[:2] for name, values in SEEN.items()}, "seen has 2 numbers for 3 channels"),
    ],
)
def test_a_range_that_fits_no_channels_is_refused(wrong, named):
    with pytest.raises(ManifestInvalid, match=named):
        decode_manifest(changed("seen", wrong))

"""The mapping file, and our names of groups, nodes and devices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import MappingInvalid
from ingest.sparkplug.names import read_mapping, site_and_device
from ingest.topics import is_name

level = st.text(st.characters(exclude_characters="/+#\x00", exclude_categories=["Cs"]), min_size=1)


@given(level, level, st.none() | level)
def test_every_sparkplug_address_has_valid_names(group: str, node: str, device: str | None) -> None:
    assert all(map(is_name, site_and_device(group, node, device)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("g", "a.b", None), ("g", "a", "b")),
        (("g", "a", "b.c"), ("g", "a.b", "c")),
        (("g", "a b", None), ("g", "a-b", None)),
        (("g", "a b", None), ("g", "a_b", None)),
        (("g", "ü", None), ("g", "ö", None)),
        (("g", "n" * 65, None), ("g", "n" * 66, None)),
        (("g 1", "n", None), ("g-1", "n", None)),
    ],
)
def test_two_addresses_never_share_their_names(
    one: tuple[str, str, str | None], other: tuple[str, str, str | None]
) -> None:
    assert site_and_device(*one) != site_and_device(*other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot read the Sparkplug mapping"),
        ("[[stream]", "not TOML"),
        ("", "stream: is missing"),
        ("stream = []", "stream: must not be empty"),
        ('[[stream]]\nname = "e"', "stream.0.metrics: is missing"),
        ('[[stream]]\nname = "e g"\nmetrics = { a = "A" }', "stream.0.name"),
        ('[[stream]]\nname = "e"\nmetrics = { "a b" = "A" }', "stream.0.metrics"),
        ('[[stream]]\nname = "e"\nmetrics = { a = 1 }', "stream.0.metrics.a"),
        (
            '[[stream]]\nname = "e"\nmetrics = { a = "A" }\nunit = "K"',
            "stream.0.unit: no such key; there are name, devices, metrics",
        ),
        (
            'groups = ["a/b"]\n[[stream]]\nname = "e"\nmetrics = { a = "A" }',
            "not a level of an MQTT",
        ),
        (
            'groups = ["STATE"]\n[[stream]]\nname = "e"\nmetrics = { a = "A" }',
            "STATE cannot be a group",
        ),
        ('host_id = "#"\n[[stream]]\nname = "e"\nmetrics = { a = "A" }', "host_id"),
    ],
)
def test_an_invalid_mapping_is_reported_with_its_place(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    path = tmp_path / "sparkplug.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MappingInvalid) as caught:
        read_mapping(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_example_of_the_module_is_a_mapping(tmp_path: Path) -> None:
    from ingest.sparkplug import names as sparkplugmap

    text = (sparkplugmap.__doc__ or "").partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "sparkplug.toml").write_text(text)
    found = read_mapping(tmp_path / "sparkplug.toml")
    assert found.filters()[0] == "spBv1.0/Plant 7/#"
    assert found.filters()[-1] == "spBv1.0/STATE/kpstream"
    assert found.stream[0].fits("Plant 7/line 3/press-2")
    assert not found.stream[0].fits("Plant 7/line 3/saw")


UNITS = """
[[stream]]
name = "engine"
[stream.metrics]
T24 = "Engine/T24"
T30 = { metric = "Engine/T30", unit = "degF", to = "degR", scale = 0.1 }
"""


def test_a_metric_may_have_units_and_a_mere_name_keeps_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(UNITS)
    mapping = read_mapping(path)
    [stream] = mapping.stream
    assert stream.metric_names == ("Engine/T24", "Engine/T30")
    assert stream.metrics["T24"].factors == (1.0, 0.0)
    assert stream.metrics["T30"].factors == pytest.approx((0.1, 459.67))
    path.write_text('[[stream]]\nname = "s"\nmetrics = { a = "A" }\n')
    dumped = '{"name":"s","devices":["*"],"metrics":{"a":"A"}}'
    assert read_mapping(path).digest == hashlib.sha256(dumped.encode()).hexdigest()[:32]


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(
        UNITS.replace("degR", "Hz").replace("[[stream]]", "grups = 1\n[[stream]]")
        + 'x = { metrc = "a" }\n'
    )
    with pytest.raises(MappingInvalid) as caught:
        read_mapping(path)
    told = str(caught.value).splitlines()
    assert told[0].endswith("is invalid:")
    assert sorted(told[1:]) == [
        "  grups: no such key; did you mean groups?",
        "  stream.0.metrics.T30: degF measures a temperature and Hz a frequency: "
        "no factor converts them",
        "  stream.0.metrics.x.metrc: no such key; did you mean metric?",
        "  stream.0.metrics.x.metric: is missing",
    ]

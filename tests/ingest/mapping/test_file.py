"""The mapping file: every fault of a file is told at once, with its place and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import MappingInvalid
from ingest.mapping.file import parse_mapping, read_mapping_file

PLUG = """
topic = "tele/{device}/SENSOR"
site = "home"
stream = "power"
[time]
path = "Time"
form = "iso8601"
zone = "UTC"
[channels]
power = { path = "ENERGY.Power", unit = "kW", to = "W" }
voltage = "ENERGY.Voltage"
"""

FAULTS = [
    (
        'topic = "tele/{device"',
        "topic.0: level '{device': + and # are whole levels",
    ),
    ('topic = "a/#/{device}"', "topic.0: level '#'"),
    ('topic = "a/{device}/{device}"', "the place {device} occurs twice"),
    ('topic = "a/{device}_{device}"', "the place {device} occurs twice"),
    ('topic = "a/{device}{part}"', "two places need a text between them"),
    ('topic = "$share/x/{device}"', "without $share"),
    ('site = "Halle 7"', "site: 'Halle 7' is not a name"),
    ('site = "{line}"', "site: the topic tele/{device}/SENSOR has no place {line}"),
    ('format = "jsn"', "format: Input should be"),
    ('each = "a b"', "each: 'a b': write names"),
    ('ech = "a"', "ech: no such key; did you mean each?"),
    ('when = { sensor = "a" }', "when: there is no place {sensor}; there are device"),
    ('places = { device = "x" }', "places: device is a place of the topic"),
    ('places = { its_site = "x" }', "{its_site} is a place of kpstream itself"),
    ("[join]\nmax_age_ms = 10", "join: give one of emit (a channel) and rate_hz"),
    ('[join]\nmax_age_ms = 10\nemit = "pwer"', "join.emit: there is no channel pwer"),
    ('[time]\nform = "iso8601"', 'time: give path and form, or from = "received"'),
    ('[time]\npath = "t"\nform = "strptime"', 'form = "strptime" needs format'),
    ('[time]\npath = "t"\nform = "strptime"\nformat = "%H"', "the format has no %z"),
    ('[time]\npath = "t"\nform = "epoch-s"\nzone = "UTC"', "epoch-s counts in UTC"),
    ('[time]\npath = "t"\nform = "iso8601"\nzone = "Mars"', "'Mars' is no known time zone"),
    ('[time]\npath = "t"\nform = "offset-ms"', "needs a base"),
    ('[time]\nfrom = "received"\npath = "t"\nform = "epoch-s"', "remove path and form, or from"),
    ('[channels]\np = { unit = "kw" }', "channels.p.unit: 'kw' is no known unit; did you mean kW"),
    ('[channels]\np = { unit = "kW", to = "Hz" }', "channels.p: kW measures a power and Hz"),
    ('[channels]\np = { to = "Hz" }', "channels.p: to = 'Hz' needs the unit"),
    ("[channels]\np = { scale = 0 }", "channels.p: scale = 0"),
    ("[channels]\np = { scale = nan }", "channels.p.scale: Input should be a finite number"),
    ("[channels]\np = { values = { a = 1 }, scale = 2 }", "channels.p: values gives the numbers"),
    ('[channels]\np = { path = "a[" }', "channels.p.path: 'a[' is neither a path like a.b[0]"),
    ('[channels]\n"p 1" = "a"', "'p 1' is not a name"),
    ("[channels]\np = { scal = 2 }", "channels.p.scal: no such key; did you mean scale?"),
    (
        "[[override]]\ndevices = []\nchannels.power.scale = 2",
        "override.0.devices: must not be empty",
    ),
    ('[[override]]\ndevices = "a"\nchannels.pwr.scale = 2', "there is no such channel"),
    (
        '[[override]]\ndevices = "a"\nchannels.power = { to = "Hz" }',
        "override.0.channels.power: kW measures",
    ),
    ("[channels]", "channels: must not be empty"),
]


def _with(change: str) -> str:
    """The file of the plug, in which `change` replaces the key or table of its name."""
    lines = PLUG.strip().splitlines()
    table = change.splitlines()[0]
    if table.startswith("["):
        start = lines.index(table) if table in lines else len(lines)
        end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("[")), None)
        kept = [*lines[:start], *(lines[end:] if end is not None else [])]
        return "\n".join([*kept, change])
    key = change.split(" ", 1)[0]
    return "\n".join([change, *(line for line in lines if not line.startswith(f"{key} "))])


@pytest.mark.parametrize(("change", "told"), FAULTS)
def test_a_fault_is_told_with_its_place_and_what_to_do(change: str, told: str) -> None:
    parse_mapping(PLUG, "plug")
    with pytest.raises(MappingInvalid) as caught:
        parse_mapping(_with(change), "plug")
    assert told in str(caught.value)
    assert "\n" in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    text = PLUG.replace('"kW"', '"kw"').replace('"iso8601"', '"iso"') + 'x = { pth = "a" }'
    with pytest.raises(MappingInvalid) as caught:
        parse_mapping(text, "plug")
    told = str(caught.value).splitlines()
    assert told[0] == "the mapping plug is invalid:"
    assert [line.split(":")[0].strip() for line in told[1:]] == [
        "time.form",
        "channels.power.unit",
        "channels.x.pth",
    ]


def test_all_faults_between_keys_are_told_at_once() -> None:
    text = PLUG.replace('"home"', '"{line}"').replace('"power"', '"{what}"')
    with pytest.raises(MappingInvalid) as caught:
        parse_mapping(text, "plug")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plug.toml"
    with pytest.raises(MappingInvalid, match=r"plug\.toml .*KPSTREAM_INGEST_MAPPINGS"):
        read_mapping_file(path)
    path.write_text("topic = ")
    with pytest.raises(MappingInvalid, match=r"plug\.toml is not TOML"):
        read_mapping_file(path)
    path.write_bytes(b"\xff")
    with pytest.raises(MappingInvalid, match="not UTF-8"):
        read_mapping_file(path)
    path.write_text("#" * 300_000)
    with pytest.raises(MappingInvalid, match="larger than"):
        read_mapping_file(path)


def test_the_digest_follows_the_content_not_the_spelling(tmp_path: Path) -> None:
    path = tmp_path / "plug.toml"
    path.write_text(PLUG)
    file = read_mapping_file(path)
    assert file.name == "plug"
    assert file.digest == parse_mapping(PLUG + "\n# a comment\n", "other").digest
    assert file.digest != parse_mapping(PLUG.replace("kW", "mW"), "plug").digest

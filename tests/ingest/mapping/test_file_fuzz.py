"""Any text is a mapping file or is refused with all its faults; nothing else comes out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import MappingInvalid, RefusedMessage
from ingest.mapping.compiled import compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.mapping.schema import MappingTable, TimeTable
from tests.ingest.mapping.samples import SAMPLES, T0_MS

KEYS = [
    *(field.alias or name for name, field in MappingTable.model_fields.items()),
    *(field.alias or name for name, field in TimeTable.model_fields.items()),
    *("path", "unit", "to", "scale", "values", "when", "devices", "x", "a b", ""),
]
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["{device}", "a/{device}/#", "x", "$", "packed", "json", "csv", "<h", "degC"]),
    st.sampled_from(["received", "iso8601", "strptime", "offset-ms", "epoch-s", "%H", "UTC", "*"]),
)
leaves = st.one_of(texts, st.integers(), st.floats(), st.booleans())
tables = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}"
            for char in value
        )
        return f'"{escaped}"'
    return repr(value)


def _check(text: str, name: str) -> None:
    try:
        mapping = compile_mapping(parse_mapping(text, "fuzz"))
    except MappingInvalid as exc:
        assert str(exc).startswith("the mapping fuzz ")
        return
    try:
        mapping.read("a/d", SAMPLES[name].body, T0_MS)
    except RefusedMessage as exc:
        assert exc.detail


@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from(KEYS), tables)
def test_a_sound_file_with_one_odd_key(name: str, key: str, value: Any) -> None:
    lines = SAMPLES[name].text.splitlines()
    kept = [line for line in lines if not line.startswith((f"{key} =", f"[{key}]"))]
    _check("\n".join([f"{_toml(key)} = {_toml(value)}", *kept]), name)


@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from(KEYS), tables)
def test_a_sound_file_with_an_odd_channel(name: str, key: str, value: Any) -> None:
    _check(f"{SAMPLES[name].text}\n[channels.z]\n{_toml(key)} = {_toml(value)}\n", name)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_damaged_file(name: str, data: st.DataObject) -> None:
    text = SAMPLES[name].text
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 4)) :]
    _check(damaged, name)


@given(st.text())
def test_any_text(text: str) -> None:
    _check(text, "json")

"""No mapping file and no message brings a traceback: a file is read or refused with what to do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deploy.commands.mapping import mapping
from ingest.errors import MappingInvalid
from ingest.mapping.compiled import compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.mapping.ready import ready_names, ready_path
from ingest.mapping.recorded import RecordedMessage
from ingest.mapping.trial import try_mapping

READY = [ready_path(name).read_text(encoding="utf-8") for name in ready_names()]
SAMPLES = Path(__file__).parents[1] / "ingest" / "mapping" / "ready"
MESSAGES = [
    RecordedMessage(fields["topic"], fields["payload"].encode(), fields["recv_ms"])
    for path in sorted(SAMPLES.glob("*.jsonl"))
    for fields in map(orjson.loads, path.read_bytes().splitlines())
]
WORD = st.sampled_from(
    "topic format site device stream each places when time path form zone channels unit to scale "
    "offset sign values text join emit max_age_ms rate_hz packed csv override devices base missing "
    "json value cbor { } [ ] = . , \" ' # true 0 -1 1e400 nan kW {device} {a} + $ *".split()
)
VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=20),
        WORD,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORD, inner, max_size=4)),
    max_leaves=10,
)


def read_or_refuse(text: str) -> None:
    """Read a file; if it is valid, all messages are tried with it."""
    try:
        compiled = compile_mapping(parse_mapping(text, "fuzz"))
    except MappingInvalid as exc:
        assert str(exc).startswith("the mapping fuzz is ")
        assert len(str(exc)) > len("the mapping fuzz is invalid:")
        return
    trial = try_mapping(compiled, MESSAGES, 1_700_000_000_000)
    assert len(trial.outcomes) == len(MESSAGES)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
@example("[" * 5000)
@example("topic = " + "[" * 3000 + "]" * 3000)
@example('topic = "a"\ntopic = "b"')
@example("\x00")
@example("a = 99999999999999999999999999")
@example("d = 1979-05-27T07:32:00Z\nt = 07:32:00")
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORD, max_size=40).map(" ".join))
def test_any_words_of_a_mapping_file_are_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(READY),
    st.integers(0, 10**6),
    st.integers(0, 12),
    st.one_of(WORD, st.text(max_size=8)),
)
def test_a_damaged_ready_file_is_read_or_refused(text: str, at: int, cut: int, put: str) -> None:
    at %= len(text)
    read_or_refuse(text[:at] + put + text[at + cut :])


def toml(value: object) -> str:
    """Inline TOML of a JSON-like value; null, which TOML lacks, is a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    plain = "".join(c for c in str(value) if c.isprintable() and c not in '"\\')
    return f'"{plain}"'


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            "topic format site device stream devices each places when text decimal missing csv "
            "packed time channels override join".split()
        ),
        VALUE,
        max_size=8,
    )
)
def test_any_values_of_the_keys_are_read_or_refused(table: dict[str, object]) -> None:
    whole = {"topic": "t/{device}", "site": "s", "stream": "x", "channels": {"a": "a"}} | table
    read_or_refuse("\n".join(f"{key} = {toml(value)}" for key, value in whole.items()))


GARBAGE = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(MESSAGES).map(lambda each: f"{each.topic} ".encode() + each.payload[:40]),
    VALUE.map(lambda value: b'{"topic": "tele/a/SENSOR", "payload": ' + _json(value) + b"}"),
)


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return b"null"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(ready_names()), lines=st.lists(GARBAGE, max_size=6))
@pytest.mark.parametrize("command", ["try", "draft"])
def test_garbage_messages_bring_no_traceback(
    command: str, name: str, lines: list[bytes], tmp_path: Path
) -> None:
    given_lines = b"\n".join(line.replace(b"\n", b" ") for line in lines)
    words = ["try", str(ready_path(name)), "--state-dir", str(tmp_path)]
    if command == "draft":
        words = ["draft", "--messages", "-"]
    result = CliRunner().invoke(mapping, words, input=given_lines)
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output
    assert "\x1b" not in result.output


def test_a_file_that_is_no_text_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kind.toml"
        path.write_bytes(b"\xff\xfe\x00")
        for words in (["try", str(path)], ["try", folder], ["try", str(path) + "x"]):
            result = CliRunner().invoke(mapping, words, input=b"")
            assert result.exit_code in (1, 2)
            assert "Error: " in result.output

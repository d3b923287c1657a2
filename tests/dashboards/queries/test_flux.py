"""Flux consists of known names and quoted texts only."""

from __future__ import annotations

import pytest

from dashboards.queries.flux import FluxError, Where, read, text
from models.tasks.rul import RUL
from pipeline.points.measurements import score_measurement


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("plant 7", '"plant 7"'),
        ('a"b', r'"a\"b"'),
        ("a\\", r'"a\\"'),
        ("${exec()}", r'"\${exec()}"'),
        ("Größe", '"Größe"'),
    ],
)
def test_text_becomes_a_quoted_literal(value: str, literal: str) -> None:
    assert text(value) == literal


@pytest.mark.parametrize("value", ["a\nb", "\x00", "\u2028"])
def test_text_that_is_not_printable_is_refused(value: str) -> None:
    with pytest.raises(FluxError, match="not printable"):
        text(value)


@pytest.mark.needs_influxd
@pytest.mark.parametrize("value", ['a"b', "a\\", "${1 + 1}", 'x" or true or "', "Größe"])
def test_influxdb_reads_a_quoted_text_unchanged(query_influx, value: str) -> None:
    frames = query_influx(f'import "array"\n\narray.from(rows: [{{_value: {text(value)}}}])')
    assert frames[0].column("_value").values == [value]


def test_a_field_that_is_not_stored_is_refused() -> None:
    with pytest.raises(FluxError, match="'rull' is not a field of rul; use one of rul, rul_low"):
        read(score_measurement(RUL), ["rull"])


def test_a_tag_that_is_not_stored_is_refused() -> None:
    with pytest.raises(FluxError, match="'gateway' is not a tag of rul; use one of site, device"):
        read(score_measurement(RUL), ["rul"], Where.equal("gateway", "g1"))


def test_a_selected_value_is_an_escaped_regular_expression() -> None:
    assert Where.selected("device").flux == "r.device =~ /^${device:regex}$/"

"""Secrets are checked, remembered, and removed from any text in every form that libraries write."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from ingest.secrettext import HIDDEN, checked_secret, error_text, hide_secrets, remember_secret

ODD = "o'dd\"ly/shaped \\secret&value"


def test_whitespace_around_a_secret_is_dropped() -> None:
    for given in ("tok-en-1", " tok-en-1\n", SecretStr("tok-en-1\r\n")):
        assert checked_secret(given).get_secret_value() == "tok-en-1"


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("\n", "control"),
        ("\x00", "control"),
        ("\x7f", "control"),
        ("\u0085", "ASCII"),
        ("é", "ASCII"),
        ("\udcff", "ASCII"),
    ],
)
def test_a_secret_with_such_a_character_is_refused_without_showing_it(
    inside: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        checked_secret(f"first-half{inside}second-half")
    assert "half" not in str(refused.value)


def test_a_refused_secret_is_hidden_too_line_by_line() -> None:
    with pytest.raises(ValueError, match="control"):
        checked_secret("alpha-line\nomega-line")
    assert hide_secrets("got alpha-line, omega-line") == f"got {HIDDEN}, {HIDDEN}"


@pytest.mark.parametrize(
    "written",
    [ODD, repr(ODD), repr(ODD.encode()), json.dumps({"token": ODD}), quote(ODD, safe="")],
)
def test_a_secret_is_hidden_in_every_form(written: str) -> None:
    remember_secret(ODD)
    shown = hide_secrets(f"before {written} after")
    assert HIDDEN in shown
    assert "shaped" not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


def test_a_short_secret_is_hidden_as_a_word_only() -> None:
    remember_secret("pw1")
    assert hide_secrets("'pw1' is not pw12") == f"'{HIDDEN}' is not pw12"


def test_the_text_of_a_library_that_quotes_a_header_shows_no_secret() -> None:
    remember_secret("header-secret-1")
    request = http.client.HTTPConnection("127.0.0.1", 1)
    request.putrequest = lambda *_: None  # type: ignore[assignment]
    request._HTTPConnection__state = "Request-started"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="Invalid header value") as refused:
        request.putheader("Authorization", "Token header-secret-1\n")
    assert "header-secret-1" in str(refused.value)
    assert "header-secret-1" not in error_text(refused.value, named=True)


def test_an_error_without_text_is_named_by_its_type() -> None:
    assert error_text(TimeoutError()) == "TimeoutError"
    assert error_text(TimeoutError(), named=True) == "TimeoutError"

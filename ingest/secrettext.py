"""Secrets in text: which values are secret, and text without them.

A library's error may quote what it was given: an HTTP client refuses a header and prints it, a
proxy answers with the request. Every secret of the settings is therefore remembered here while the
process runs, and text of foreign origin passes `error_text` or `hide_secrets` before anyone sees
it. The same functions clean what leaves the process as a whole: logs, tracebacks and messages of
commands (`deploy.settings.secretoutput`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

__all__ = ["HIDDEN", "checked_secret", "error_text", "hide_secrets", "remember_secret"]

HIDDEN = "**********"
"""What stands in the place of a secret, as in the `repr` of pydantic's `SecretStr`."""

_SHORT = 6
"""A shorter secret is hidden only where it stands as a whole word; else it would garble texts."""

# Process-wide on purpose: a traceback or a library's log line knows no object to ask for secrets.
_lock = threading.Lock()
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def checked_secret(value: object) -> SecretStr:
    """Return a secret without whitespace around it, and remember it.

    A secret from a file usually ends with a newline. Inside, a control character would end the
    header or packet that carries the secret, and characters beyond ASCII differ by encoding.

    Raises:
        ValueError: It holds such a character; the message does not show the secret.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        msg = "a secret must be text"
        raise ValueError(msg)
    remember_secret(text)
    text = text.strip()
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        msg = "contains a control character, such as a line break: set it to one line of text"
        raise ValueError(msg)
    if not text.isascii():
        msg = "contains a character beyond ASCII: use letters, digits and punctuation of ASCII"
        raise ValueError(msg)
    return SecretStr(text)


def remember_secret(value: str | SecretStr) -> None:
    """Have `hide_secrets` remove this value, and each of its lines, from now on."""
    global _pattern
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    parts = {text.strip(), *map(str.strip, text.splitlines())} - {""}
    with _lock:
        if parts <= _known:
            return
        _known.update(parts)
        forms = {form for part in _known for form in _forms(part)}
        _pattern = re.compile("|".join(_expression(form) for form in _longest_first(forms)))


def hide_secrets(text: str) -> str:
    """Return the text with every remembered secret replaced by asterisks.

    >>> remember_secret("correct-horse")
    >>> hide_secrets("invalid header value b'Token correct-horse'")
    "invalid header value b'Token **********'"
    """
    pattern = _pattern
    return text if pattern is None else pattern.sub(HIDDEN, text)


def error_text(error: BaseException, *, named: bool = False) -> str:
    r"""Return the text of a foreign exception in one line, without secrets.

    Args:
        error: Exception of a library, or of Python itself.
        named: Whether the name of its type precedes the text; it stands alone if there is no text.

    >>> error_text(ValueError("wrong\nvalue")), error_text(KeyError("a"), named=True)
    ('wrong value', "KeyError: 'a'")
    """
    text = " ".join(hide_secrets(str(error)).split())
    name = type(error).__name__
    if not text:
        return name
    return f"{name}: {text}" if named else text


def _forms(secret: str) -> Iterable[str]:
    """Yield a secret as libraries write it: plain, escaped by `repr` and JSON, in a URL."""
    yield secret
    yield repr(secret)[1:-1]
    yield repr(secret.encode("utf-8", "surrogateescape"))[2:-1]
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="", errors="replace")
    yield quote_plus(secret, errors="replace")


def _longest_first(forms: Iterable[str]) -> list[str]:
    return sorted(forms, key=lambda form: (-len(form), form))


def _expression(form: str) -> str:
    escaped = re.escape(form)
    return rf"(?<!\w){escaped}(?!\w)" if len(form) < _SHORT else escaped

"""Griffe extension: doctests in docstrings become code blocks in the API reference.

The docstring parser knows examples under the heading "Examples" only; ours stand where they
explain something.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?:>>> .*(?:\n(?!\s*$).+)*\n?)", re.M)


class FenceDoctests(griffe.Extension):
    """Puts a fence around each run of lines that begins with `>>>` and ends at a blank line."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )

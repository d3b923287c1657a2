"""Output on pages is an excerpt of a recorded run: docs/results/*.txt.

`python -m tests.docs.record` makes the recordings again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
_EXCERPT = re.compile(r"<!-- excerpt of (\S+) -->\n```\n(.*?)^```$", re.M | re.S)
EXCERPTS = [
    pytest.param(page, source, block, id=f"{page.name}-{Path(source).stem}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for source, block in _EXCERPT.findall(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "source", "block"), EXCERPTS)
def test_output_on_a_page_is_what_was_recorded(page: Path, source: str, block: str) -> None:
    recorded = (page.parent / source).read_text(encoding="utf-8").splitlines()
    position = 0
    for line in block.splitlines():
        if line == "...":  # what was left out
            continue
        assert line in recorded[position:], f"{line!r} is not in {source}, or not in this place"
        position = recorded.index(line, position) + 1


def test_pages_have_excerpts() -> None:
    assert len(EXCERPTS) >= 4

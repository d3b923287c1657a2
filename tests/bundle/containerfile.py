"""The instructions of deploy/gateway/Containerfile: the clean roots install with its lines."""

from __future__ import annotations

from tests.test_import_rule import ROOT

__all__ = ["instructions"]

CONTAINERFILE = ROOT / "deploy/gateway/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined."""
    lines = CONTAINERFILE.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found = []
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        found.append((word, " ".join(rest.split())))
    return found

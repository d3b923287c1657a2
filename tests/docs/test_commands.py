"""Every command, option, setting, file and link that a page names exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from deploy.cli import main as kpstream

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    *sorted(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),  # names what was
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
]
CODE = subprocess.run(
    ["git", "ls-files", "*.py", ".ci", "Makefile", "*.service", "*.yaml", "*.env", "*.toml"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _commands(text: str) -> list[list[str]]:
    """Command lines of our programs in fenced blocks and in backticks, as words."""
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [*fenced.replace("\\\n", " ").splitlines(), *inline]
    found = []
    for line in lines:
        match = re.match(
            r"(?:\$ |KPSTREAM_\w+=\S* |timeout \S+ \S+ )*"
            r"((?:kpstream|train-redistill|python -m (?:\w+\.)*\w+)(?:\s.*|$))",
            line.strip(),
        )
        if match:
            words = shlex.split(re.split(r"\s+#|\s*[|>;&]|  ", match[1])[0])
            found.append(words)
    return found


def _flaw(words: list[str], command: click.Command) -> str | None:
    """The part of a command line that the command does not have."""
    chain = [command]
    rest = iter(words)
    for word in rest:
        options = {
            name: p for c in chain for p in c.params for name in (*p.opts, *p.secondary_opts)
        }
        if word.startswith("-") and word not in ("--help", "--version"):
            name, _, value = word.partition("=")
            if name not in options:
                return f"{chain[-1].name} has no option {name}"
            option = options[name]
            if isinstance(option, click.Option) and not option.is_flag and not value:
                next(rest, None)
        elif isinstance(chain[-1], click.Group) and re.fullmatch(r"[a-z][a-z0-9-]*", word):
            if word not in chain[-1].list_commands(click.Context(chain[-1])):
                return f"{chain[-1].name} has no command {word}"
            found = chain[-1].get_command(click.Context(chain[-1]), word)
            assert found is not None
            chain.append(found)
    return None


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands_on_pages_exist(page: Path) -> None:
    flaws = []
    for words in _commands(page.read_text(encoding="utf-8")):
        if words[:3] == ["kpstream", "models", "extend"]:  # a program of the training extra
            from training.naming.command import extend

            flaws.append(_flaw(words[3:], extend))
        elif words[:3] == ["kpstream", "models", "stress"]:  # likewise
            from training.stress.command import main as stress

            flaws.append(_flaw(words[3:], stress))
        elif words[0] == "kpstream":
            flaws.append(_flaw(words[1:], kpstream))
        elif words[0] == "train-redistill":
            from training.command import SUBCOMMANDS
            from training.redistill import redistill

            command = SUBCOMMANDS.get(words[1]) if len(words) > 1 else None
            if command and "--" in words:  # what follows is a training
                at = words.index("--")
                flaws.append(_flaw(words[at + 1 :], redistill))
                words = words[:at]
            flaws.append(_flaw(words[2:], command) if command else _flaw(words[1:], redistill))
        elif find_spec(words[2]) is None and words[2].partition(".")[0] not in ("build", "pip"):
            flaws.append(f"no module {words[2]}")
    assert [flaw for flaw in flaws if flaw] == []


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_settings_on_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in CODE)
    known = set(re.findall(r"KPSTREAM_[A-Z0-9_]+", (ROOT / "docs/settings.md").read_text() + code))
    named = set(re.findall(r"KPSTREAM_[A-Z0-9_]*[A-Z0-9]\b(?!_?\*)", text))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_files_on_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "ingest|pipeline|models|training|deploy|dashboards|tests|docs|findings|units"
    named = set(re.findall(rf"`((?:{folders}|\.ci)/[\w./*-]+)`", text))
    named = {name for name in named if not name.startswith("units/") and "NAME" not in name}
    missing = {name for name in named if not any(ROOT.glob(name.rstrip("/")))}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    """The site's strict build checks pages in docs/; this also checks those at the root."""
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in link or not target:
            continue
        path = (page.parent / target).resolve()
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, link

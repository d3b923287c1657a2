"""Figures on pages, and their sources.

`figures.json` lists the figures of each page in their order, each with its source: a results file,
a manifest, or "recorded" for a measurement whose raw results are not in the repository. A figure
that is edited on the page, or that its source no longer contains, fails `test_figures.py`.

    python -m tests.docs.figures            # after editing a page: renew the list from the sources
    python -m tests.docs.figures --accept   # also take new figures without a source, as "recorded"
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LIST = Path(__file__).with_name("figures.json")
RECORDED = "recorded"

PAGES = {
    "README.md": ("models/zoo", "docs/results/gateway-bench.md", "docs/results/demo.txt"),
    "docs/delivery.md": ("docs/results/chaos.md",),
    "docs/examples.md": ("docs/results/examples.md",),
    "docs/forecasting.md": ("docs/results/forecast.md",),
    "docs/gateway.md": (
        "docs/results/gateway-bench.md",
        "docs/results/doctor.txt",
        "docs/results/bundle.md",
    ),
    "docs/howto/name-activity.md": ("docs/results/naming.md",),
    "docs/knowledge-pruning.md": (
        "docs/results/knowledge_pruning.md",
        "docs/results/paper_ground.md",
        "docs/results/naming.md",
        "docs/results/naming_texts.md",
        "docs/results/naming_across.md",
        "docs/results/familiarity.md",
    ),
    "docs/operations.md": ("docs/results/site-bench.md", "docs/results/store-bench.md"),
    "docs/rate.md": ("docs/results/rate.md",),
    "docs/starter-students.md": (
        "models/zoo",
        "docs/results/knowledge_pruning.md",
        "docs/results/stress.json",
        "docs/results/familiarity.md",
    ),
    "docs/teachers.md": (
        "docs/results/forecast_taught.md",
        "docs/results/forecast_teachers.md",
    ),
    "docs/training.md": ("docs/results/redistill.txt", "docs/results/redistill-forecast.txt"),
}
"""Page -> sources of its figures."""

_FIGURE = re.compile(
    r"(?<![\w.,-])\d{1,3}(?:[ ,]\d{3})+(?:\.\d+)?(?![\d.])"  # 121,200 and 289 258
    r"|(?<![\w.-])\d+\.\d+(?![\w.])"  # 11.73, but no version and no address
    r"|(?<![\w.])\d+(?= ?%)"  # 90 %
)


def figures(text: str) -> list[str]:
    """Figures of a text in their order: decimals, grouped thousands, percentages.

    >>> figures("RMSE 11.73 [3.2, 6.2] over 121,200 readings, 90 % of v0.15.3 on 127.0.0.1")
    ['11.73', '3.2', '6.2', '121,200', '90']
    """
    return _FIGURE.findall(text)


def figures_of(page: str) -> list[str]:
    """Figures of a page."""
    return figures((ROOT / page).read_text(encoding="utf-8"))


def values_of(source: str) -> set[str]:
    """Every figure that may be quoted from a source: its numbers, rounded to any precision."""
    path = ROOT / source
    if path.is_dir():
        numbers = [
            number
            for manifest in sorted(path.glob("*/manifest.json"))
            for number in _numbers(json.loads(manifest.read_text(encoding="utf-8")))
        ]
    elif path.suffix == ".json":
        numbers = list(_numbers(json.loads(path.read_text(encoding="utf-8"))))
    else:
        words = re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", path.read_text(encoding="utf-8"))
        numbers = [float(word.replace(",", "")) for word in words]
    exact = {
        f"{abs(number) * factor:.{places}f}"
        for number in numbers
        for factor in (1, 100)
        for places in range(6)
    }
    return exact | {f"{round(number, -3):.0f}" for number in numbers if number >= 10_000}


def plain(figure: str) -> str:
    """A figure without the separators of its thousands."""
    return figure.replace(",", "").replace(" ", "")


def sourced(page: str) -> list[tuple[str, str]]:
    """Each figure of a page with the first source that has it, or "recorded"."""
    sources = {source: values_of(source) for source in PAGES[page] if (ROOT / source).exists()}
    return [
        (figure, next((s for s, values in sources.items() if plain(figure) in values), RECORDED))
        for figure in figures_of(page)
    ]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.figures")
    parser.add_argument("--accept", action="store_true", help="take figures without a source")
    accept = parser.parse_args().accept
    old = json.loads(LIST.read_text(encoding="utf-8")) if LIST.exists() else {}
    new = {page: sourced(page) for page in PAGES}
    for page, found in new.items():
        known = {figure for figure, source in old.get(page, ()) if source == RECORDED}
        fresh = [figure for figure, source in found if source == RECORDED and figure not in known]
        if fresh and not accept:
            sys.exit(f"{page}: no source has {', '.join(fresh)}; correct them, or use --accept")
    text = ",\n".join(
        f"  {json.dumps(page)}: [\n"
        + ",\n".join(f"    {json.dumps(pair)}" for pair in found)
        + "\n  ]"
        for page, found in new.items()
    )
    LIST.write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

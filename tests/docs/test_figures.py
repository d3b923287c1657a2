"""No figure on a page differs from its source, and none appears without one."""

from __future__ import annotations

import json

import pytest

from models.manifest import decode_manifest
from models.zoo import list_zoo, zoo_path
from tests.docs.figures import LIST, PAGES, RECORDED, ROOT, figures_of, plain, values_of

LISTED = json.loads(LIST.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_figures_of_a_page_are_those_listed(page: str) -> None:
    assert figures_of(page) == [figure for figure, _ in LISTED[page]], (
        "a figure was changed: correct it, or renew the list with python -m tests.docs.figures"
    )


@pytest.mark.parametrize("page", PAGES)
def test_sources_still_have_the_figures(page: str) -> None:
    sources = {source for _, source in LISTED[page]} - {RECORDED}  # each is read once
    values = {source: values_of(source) for source in sources}
    assert [(f, s) for f, s in LISTED[page] if s != RECORDED and plain(f) not in values[s]] == []


# By the measure of the task: RUL, activity, forecast.
HEADLINES = {
    "rmse": "RMSE **{rmse:.2f}** cycles",
    "macro_f1": "macro-F1 **{macro_f1:.3f}**",
    "naive_mae": "MAE **{mae:.3f}** deviations (seasonal-naive {naive_mae:.3f})",
}


def starters_table() -> str:
    """The table of the README, from the manifests that ship."""
    rows = []
    for name in list_zoo():
        manifest = decode_manifest((zoo_path(name) / "manifest.json").read_bytes())
        if name.endswith("-int8"):
            continue
        test = manifest.metrics["test"]
        headline = next(text for key, text in HEADLINES.items() if key in test).format(**test)
        window = f"{manifest.window.length} readings x {len(manifest.channels)} channels"
        size = f"{manifest.onnx.size_bytes / 1000:.0f} kB"
        rows.append(f"| `{name}` | `{manifest.stream}` | {window} | {headline} | {size} |")
    return "\n".join(rows)


def test_readme_shows_the_students_that_ship() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert starters_table() in text, f"the table of the README must be:\n{starters_table()}"

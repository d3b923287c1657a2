"""The tables of docs/http-api.md against the JSON that the console builds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.labels import Label, LabelRecord
from ingest.topics import Address
from models.seen import Seen
from models.tasks.registry import tasks
from pipeline.console.fleet import Fleet, FleetQuery
from pipeline.console.notes import DeviceNotes, Note
from pipeline.console.pages import (
    PageSettings,
    device_page,
    encode,
    health_page,
    models_page,
    pipeline_page,
    progress_page,
)
from pipeline.explain.explainer import explained_json
from pipeline.points.labels import label_point
from pipeline.points.points import explanation_point
from pipeline.status.history import History
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.transformers import add_transformers
from tests.fakes.view import FakeView, fill
from tests.pipeline.explain.plant import WHERE, Plant, line, tick

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
NOW_MS = 1_800_000_000_000
FREE_MAPS = {
    "parts",
    "dead_letters",
    "points",
    "metrics",
    "lineage",
    "probabilities",
    "score",
    "sums",
    "evidence",
    "counts",
}
DEVICE = "/api/v1/devices/{site}/{device}/{stream}"
EXPLANATION, READINGS = f"{DEVICE}/explanation", f"{DEVICE}/readings"
ENDPOINTS = (
    "/health",
    "/ready",
    "/api/v1/fleet",
    DEVICE,
    EXPLANATION,
    READINGS,
    "/api/v1/pipeline",
    "/api/v1/models",
)


def documented(section: str, prefix: str = "") -> Iterator[str]:
    """Paths in the table of a section, with those of the objects that its types link to."""
    text = re.split(rf"^### {re.escape(section)}$", PAGE.read_text(), flags=re.M)[1]
    text = re.split(r"^##", text, flags=re.M)[0]
    for keys, kind in re.findall(r"^\| (`.+?`) \| (.+?) \|", text, flags=re.M):
        for key in re.findall(r"`(.+?)`", keys):
            yield prefix + key
            if link := re.search(r"\(#object-(\w+)\)", kind):
                yield from documented(f"Object: {link[1]}", f"{prefix}{key}.")


def served(value: Any, prefix: str = "") -> Iterator[str]:
    """Paths of the leaves and objects of a page; lists collapse, free maps stay closed."""
    names = {task.name for task in tasks()}
    if isinstance(value, dict):
        for name, part in value.items():
            path = prefix + ("{task}" if name in names else name)
            yield path
            if name not in FREE_MAPS:
                yield from served(part, f"{path}.")
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                yield prefix.removesuffix(".") + "[]"
                yield from served(part, prefix.removesuffix(".") + "[].")


def parents(paths: set[str]) -> set[str]:
    """Every prefix of the paths: the objects and lists on the way to a key."""
    found = set()
    for path in paths:
        parts = path.split(".")
        for i in range(1, len(parts) + 1):
            whole = ".".join(parts[:i])
            found |= {whole, whole.removesuffix("[]")}
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    results = ResultsFile(tmp_path_factory.mktemp("api") / "results.db", now_ms=lambda: NOW_MS)
    fill(results, NOW_MS, minutes=3)
    head = {"site": "plant-1", "device": "engine-03", "stream": "engine", "model": "rul-fd001"}
    why = {"channel": "T50", "span_ms": (NOW_MS - 9, NOW_MS), "importance": -8.0, "text": "T50 ..."}
    results.write([explanation_point(head | {"end_ms": NOW_MS}, **why, version=2)])
    failed = Label("a", "failed", NOW_MS - 9, NOW_MS - 9)
    engine = Address("plant-1", "engine-03", "engine")
    results.write([label_point(LabelRecord(engine, NOW_MS, failed))])
    view, settings, history = FakeView.fleet(NOW_MS), PageSettings(), History()
    add_transformers(view, results, NOW_MS, hours=6)
    history.observe(view.totals(), view.partitions(), NOW_MS)
    health = health_page(view)
    notes = DeviceNotes(tmp_path_factory.mktemp("notes"))
    note = Note("acknowledged", NOW_MS, "ada", "bearing ordered")
    notes.put(("plant-1", "engine-02", "engine"), note)
    fleet = Fleet(results, settings, notes=notes)
    built: dict[str, list[Any]] = {
        "/health": [{"alive": health["alive"], "parts": health["parts"]}],
        "/ready": [health | progress_page(view)],
        "/api/v1/fleet": [fleet.page(view, FleetQuery(), NOW_MS)],
        DEVICE: [
            device_page(view, results, settings, device, None, None, note)
            for device in (
                ("plant-1", "engine-03", "engine"),
                ("lab", "anna", "imu"),
                ("grid", "transformer-02", "power"),
            )
        ],
        "/api/v1/pipeline": [pipeline_page(view, results, history)],
        "/api/v1/models": [models_page(view)],
        **explained(tmp_path_factory.mktemp("plant")),
    }
    results.close()
    return {path: [orjson.loads(encode(page)) for page in made] for path, made in built.items()}


def explained(folder: Path) -> dict[str, list[Any]]:
    """Explanation and readings of a device whose student knows its range."""
    seen = Seen(low=(-5.0,) * 3, middle=(0.0,) * 3, high=(5.0,) * 3)
    plant = Plant.make(folder, seen)
    for number in range(6):
        plant.send(line([number]))
    plant.send(tick(50))
    plant.store()
    explainer = plant.explainer()
    pages = {
        EXPLANATION: [explained_json(explainer.explain(WHERE, None, 10**9))],
        READINGS: [explainer.readings(WHERE, 10, 10**9)],
    }
    plant.close()
    return pages


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_page_names_every_key_and_no_other(endpoint: str, pages: dict[str, list[Any]]) -> None:
    there = {path for page in pages[endpoint] for path in served(page)}
    named = parents(set(documented(f"`{endpoint}`")))
    assert there - named == set(), "missing on docs/http-api.md"
    assert named - there == set(), "on docs/http-api.md, but not served"

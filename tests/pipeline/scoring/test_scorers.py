"""Who scores each stream: as a gateway decides, not as the pointers say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.dummy import write_dummy
from models.errors import SelfTestFailed
from models.registry import Registry
from pipeline.scoring.memory import Ran, write_ran
from pipeline.scoring.rollover import ModelWatch, load_student
from pipeline.scoring.scorers import Scorer, find_scorers
from pipeline.scoring.students import lost_students


class Clock:
    now = 0

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", now_ms=Clock())


@pytest.fixture
def publish(registry: Registry, tmp_path: Path):
    def published(name: str, seed: int = 0) -> int:
        made = write_dummy(tmp_path / f"{name}-{seed}", name=name, seed=seed)
        return registry.publish(made.path, stable=True)

    return published


def refuse(*names_and_versions: tuple[str, int]):
    """A runtime that refuses some versions."""

    def load(artifact):
        title = (artifact.manifest.name, artifact.manifest.version)
        if title in names_and_versions:
            msg = "a score is nan"
            raise SelfTestFailed(msg)
        return load_student(artifact)

    return load


def engine(registry: Registry, **options) -> Scorer | None:
    options.setdefault("load", load_student)
    found = find_scorers(registry, **options).of("engine")
    watch = ModelWatch(registry, lambda: 0, options["load"], memory=options.get("memory"))
    watch.poll()
    student = watch.student_of("engine")
    assert (found is None) == (student is None)
    assert found is None or found.digest == student.digest  # what the gateway itself runs
    return found


def test_the_stable_version_scores(registry: Registry, publish) -> None:
    assert engine(registry) is None
    publish("pump")
    publish("pump", seed=1)
    found = engine(registry)
    assert (found.name, found.version, found.why) == ("pump", 2, "it is the stable version")


def test_after_a_refusal_the_one_before_it_scores(registry: Registry, publish) -> None:
    publish("pump")
    publish("pump", seed=1)
    found = engine(registry, load=refuse(("pump", 2)))
    assert found.version == 1
    assert found.why == ("v2 is refused, and v1 is the newest one before it that runs")
    assert engine(registry, load=refuse(("pump", 2), ("pump", 1))) is None


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"version": 9, "digest": "0" * 64})])
def test_with_a_damaged_pointer_the_newest_usable_version_scores(
    registry: Registry, publish, content: str
) -> None:
    publish("pump")
    (registry.root / "pump" / "stable.json").write_text(content)
    found = engine(registry)
    assert found.version == 1
    assert "is refused, and v1 is the newest one before it" in found.why


def test_what_ran_last_scores_if_the_stable_version_does_not_fit(
    registry: Registry, publish, tmp_path: Path
) -> None:
    publish("pump")
    digest = registry.read_stable("pump").digest
    publish("pump", seed=1)
    memory = tmp_path / "memory.json"
    write_ran(memory, {"pump": Ran(version=1, digest=digest, stream="engine")})
    before = memory.read_bytes()
    found = find_scorers(registry, memory, load=refuse(("pump", 2))).of("engine")
    assert found.why == "v2 is refused, and v1 ran last"
    assert memory.read_bytes() == before, "nothing is written"
    rejected = {registry.read_stable("pump").digest: "it crashed"}
    found = find_scorers(registry, memory, rejected, load_student)
    assert found.of("engine").version == 1
    (refused,) = found.refused
    assert (refused.name, refused.version) == ("pump", 2)
    assert "v2 failed on this machine (it crashed)" in refused.reason


@pytest.mark.parametrize(("first", "second"), [("alpha", "beta"), ("beta", "alpha")])
def test_of_two_students_of_a_stream_the_first_to_be_stable_scores_whatever_its_name(
    registry: Registry, publish, first: str, second: str
) -> None:
    publish(first)
    publish(second)
    found = engine(registry)
    assert found.name == first
    assert found.why == (
        f"it is the stable version; it became stable first, before {second} v1, which is refused"
    )
    (refused,) = find_scorers(registry, load=load_student).refused
    assert refused.name == second
    assert f"choose with `kpstream models retire {first}` (or {second})" in refused.reason
    publish(first, seed=1)
    assert engine(registry).version == 2, "a later move of its pointer changes nothing"
    registry.retire(first)
    assert engine(registry).name == second


def test_of_two_students_of_a_stream_the_one_that_ran_scores(
    registry: Registry, publish, tmp_path: Path
) -> None:
    publish("alpha")
    publish("beta")
    memory = tmp_path / "memory.json"
    digest = registry.read_stable("beta").digest
    write_ran(memory, {"beta": Ran(version=1, digest=digest, stream="engine")})
    found = find_scorers(registry, memory, load=load_student).of("engine")
    assert (found.name, found.why) == (
        "beta",
        "it is the stable version; it ran last, before alpha v1, which is refused",
    )


def test_a_lost_student_is_no_second_one(registry: Registry, publish, tmp_path: Path) -> None:
    publish("pump")
    memory = tmp_path / "memory.json"
    write_ran(memory, {"gone": Ran(version=1, digest="0" * 64, stream="engine")})
    found = find_scorers(registry, memory, load=load_student)
    assert found.of("engine").why == "it is the stable version"
    assert [one.name for one in found.refused] == ["gone"]
    assert list(lost_students(registry, {})) == []

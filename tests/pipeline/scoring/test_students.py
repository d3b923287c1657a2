"""The students of a process: their plans, and when a plan lets readings in."""

from __future__ import annotations

from pathlib import Path

from models.dummy import write_dummy
from models.registry import Registry
from models.session import Student
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings


def test_a_stream_has_a_plan_only_once_its_student_runs(tmp_path: Path) -> None:
    """A plan lets readings in, and a window that closes without a student is never scored."""
    folder = tmp_path / "registry"
    students = Students(folder, tmp_path / "running.json", PipelineSettings())
    write_dummy(tmp_path / "out", "rul", stream="press")
    Registry(folder).publish(tmp_path / "out", stable=True)
    seen: dict[str, tuple[bool, Student | None]] = {}

    class Watched(dict):  # type: ignore[type-arg]
        def __setitem__(self, stream: str, plan: object) -> None:
            seen[stream] = (stream in self, students.models.student_of(stream))
            super().__setitem__(stream, plan)

    students.plans = Watched()
    assert students.models.poll()

    assert set(seen) == set(students.plans) == set(students.models.running)
    assert "press" in seen
    for stream, (had_plan, student) in seen.items():
        assert not had_plan
        assert student is students.models.running[stream]

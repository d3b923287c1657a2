"""Only `ingest/clock.py` reads the machine's clock; everything else takes time from it.

Timestamps come from `ingest.clock.now_ms`, durations from monotonic time; see that module. The
registry of `models`, which imports nothing of `ingest`, stamps its history itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ingest", "pipeline", "models", "deploy", "dashboards")
ALLOWED = {"ingest/clock.py", "models/registry.py"}
FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.relative_to(ROOT).as_posix() not in ALLOWED
]

MODULES = {"time", "datetime"}
# Of the module `time`; `strftime` and its like read the clock unless they get a time.
READS_TIME = {"time", "time_ns", "clock_gettime", "clock_gettime_ns"}
READS_WITHOUT_ARGUMENT = {"gmtime": 0, "localtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}
# Of the classes `datetime` and `date`.
READS_DATE = {"now", "utcnow", "today"}


def reads(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every place that reads the machine's clock."""
    names: dict[str, str] = {}  # name in this file -> full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names if a.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        first, _, rest = ast.unparse(node).partition(".")
        if first not in names or not re.fullmatch(r"[\w.]*", rest):
            continue
        module, *path = f"{names[first]}.{rest}".rstrip(".").split(".")
        call = calls.get(id(node))
        if _is_read(module, path, call):
            yield node.lineno, ast.unparse(call or node)


def _is_read(module: str, path: list[str], call: ast.Call | None) -> bool:
    if not path:
        return False
    if module == "datetime":
        return len(path) == 2 and path[0] in ("datetime", "date") and path[1] in READS_DATE
    if path[0] in READS_WITHOUT_ARGUMENT:
        return call is None or len(call.args) <= READS_WITHOUT_ARGUMENT[path[0]]
    return path[0] in READS_TIME


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_reads_the_machines_clock(path: Path) -> None:
    found = list(reads(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, "take timestamps from ingest.clock, durations from time.monotonic"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "import time\ntime.time_ns() // 1_000_000",
        "import time\nclock = time.time",
        "import time as t\nt.time()",
        "from time import time\ntime()",
        "from time import time_ns as now\nf(now)",
        "import time\ntime.strftime('%H:%M')",
        "import time\ntime.gmtime()",
        "import time\ntime.clock_gettime(time.CLOCK_REALTIME)",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime, timezone\ndatetime.now(timezone.utc)",
        "import datetime\ndatetime.datetime.utcnow()",
        "from datetime import date\ndate.today()",
        "from datetime import datetime as dt\nf(default=dt.now)",
    ],
)
def test_each_way_to_read_the_clock_is_found(code: str) -> None:
    assert list(reads(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.monotonic()",
        "import time\ntime.sleep(1)",
        "import time\ntime.perf_counter()",
        "import time\ntime.strftime('%H:%M', moment)",
        "from datetime import datetime, timezone\ndatetime.fromtimestamp(5, timezone.utc)",
        "from ingest.clock import now_ms\nnow_ms()",
        "row.time.time()",
        "def time(): ...\ntime()",
    ],
)
def test_time_that_nobody_can_set_is_not_reported(code: str) -> None:
    assert not list(reads(ast.parse(code)))

"""Every file of state x everything that can happen to it x {at rest, running}: never silent.

The log and the results file have suites of their own (`test_log_files`, `test_results_files`); here
stands only what no regular file is.
What is expected here is the table of docs/gateway.md.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import LogError, SinkError
from pipeline.log.locallog import SqliteLog
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack
from tests.attack.statefolder import DAMAGES, OWNERS, Damage, make_state, running, verdict
from tests.fuzz.limits import within

SEED = 20261129
OWNER_OF = {file: owner for owner in OWNERS for file in owner.files}
ODD = ("pipe", "folder", "link", "socket")
RANDOM = ("bit", "cut")
VERSION = "registry/own/versions/2/"
Expected = dict[str, str]


def _all(usual: str, **others: str) -> Expected:
    """The expected verdict of every damage."""
    return dict.fromkeys(DAMAGES, usual) | others


def _odd(what: str) -> Expected:
    return dict.fromkeys(ODD, what)


AT_REST: dict[str, Expected] = {
    "running.json": _all("correct"),  # the pointers say the same
    "tried.json": _all("correct"),  # the students are tried again
    "registry/own/stable.json": _all("told"),
    "registry/own/history.jsonl": _all("correct"),  # a warning, and the same student
    "registry/own/.lock": _all("correct"),
    f"{VERSION}manifest.json": _all("told"),
    f"{VERSION}model.onnx": _all("told"),
    "registry/.seed.lock": _all("correct", **_odd("refused")),
    "subscriptions.json": _all("told", removed="forgotten", older="forgotten"),
    "mqtt-versions.json": _all("told", removed="forgotten", older="forgotten"),
    "dead-letters-replayed.json": _all("told", removed="forgotten", older="forgotten"),
    "sparkplug.db": _all("correct", emptied="told", removed="told", **_odd("refused")),
    "sparkplug.db-wal": _all("told", **_odd("refused")),
    "sparkplug.db.mark": _all("correct", **_odd("refused")),  # a warning, and written anew
}
"""File -> damage -> verdict of the next start."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A state folder as a killed gateway leaves it, and one of an earlier moment."""
    return make_state(tmp_path_factory.mktemp("made"))


def _copy(made: Path, folder: Path) -> Path:
    shutil.rmtree(folder / "state", ignore_errors=True)
    return Path(shutil.copytree(made, folder / "state"))


def _trials(attack: Attack) -> Iterator[tuple[str, Damage]]:
    """Each damage once; a random one as often as the form says."""
    for damage, inflict in DAMAGES.items():
        for _ in range(attack.size(short=1, long=60) if damage in RANDOM else 1):
            yield damage, inflict


@pytest.mark.parametrize("file", OWNER_OF)
def test_the_next_start_after_damage_at_rest(
    file: str,
    made: tuple[Path, Path],
    folder: Path,
    attack: Attack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng, found = random.Random(SEED), Counter[tuple[str, str]]()
    for damage, inflict in _trials(attack):
        state = _copy(made[0], folder)
        inflict(state / file, made[1] / file, rng)
        caplog.clear()
        with within(60):
            found[damage, verdict(OWNER_OF[file], state, lambda: caplog.text)] += 1
    _report(attack, file, found)
    for (damage, what), count in found.items():
        if damage not in RANDOM:  # a bit may be one that changes nothing
            assert what == AT_REST[file][damage], f"{damage} of {file}: {what}, {count} times"
        assert what != "forgotten" or AT_REST[file][damage] == what, f"{damage} of {file}"


@pytest.mark.parametrize("file", OWNER_OF)
def test_damage_while_running_changes_nothing_and_the_next_start_tells(
    file: str,
    made: tuple[Path, Path],
    folder: Path,
    attack: Attack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng, found = random.Random(SEED), Counter[tuple[str, str]]()
    for damage, inflict in _trials(attack):
        state = _copy(made[0], folder)
        caplog.clear()
        with within(60):
            with running(OWNER_OF[file], state) as before:
                assert before == "correct"
                inflict(state / file, made[1] / file, rng)
            found[damage, verdict(OWNER_OF[file], state, lambda: caplog.text)] += 1
    _report(attack, file, found)
    for damage, what in found:
        assert what != "forgotten" or AT_REST[file][damage] == what, f"{damage} of {file}"


def _open_log(state: Path) -> None:
    SqliteLog(state / "log.db", min_free_bytes=0).close()


def _open_results(state: Path) -> None:
    ResultsFile(state / "results.db").close()


DATABASES: dict[str, tuple[Callable[[Path], None], type[Exception]]] = {
    **{f"log.db{end}": (_open_log, LogError) for end in ("", "-wal", "-shm", ".mark", ".lock")},
    **{f"results.db{end}": (_open_results, SinkError) for end in ("", "-wal", "-shm", ".mark")},
}


@pytest.mark.parametrize("file", DATABASES)
def test_a_database_opens_no_pipe_folder_link_or_socket(
    file: str, folder: Path, attack: Attack
) -> None:
    start, error = DATABASES[file]
    told = 0
    odd = [what for what in ODD if (file, what) != ("log.db", "link")]  # a link to the log is one
    for what in odd:
        state = folder / what
        state.mkdir()
        start(state)
        DAMAGES[what](state / file, state / "elsewhere", random.Random(SEED))
        with within(20), pytest.raises(error, match=re.escape(file)) as raised:
            start(state)
        told += "not a regular file: move it away" in str(raised.value)
    attack.report(len(odd), lost=len(odd) - told, unit=f"odd kinds of {file}")


def _report(attack: Attack, file: str, found: Counter[tuple[str, str]]) -> None:
    verdicts = Counter[str]()
    for (_, what), count in found.items():
        verdicts[what] += count
    attack.note(", ".join(f"{what} {count}" for what, count in sorted(verdicts.items())))
    silent = ", ".join(damage for damage, what in found if what == "silent")
    attack.report(sum(found.values()), lost=verdicts["silent"], unit=f"damages of {file}")
    assert not silent

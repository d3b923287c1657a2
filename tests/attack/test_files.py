"""What lies where a file or folder of ours should be: links, pipes, odd names, open folders.

A registry is read in a child process with a time limit, because the failure may be a hang.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.commands.statefolder import make_state_folder
from deploy.doctor.machinechecks import check_access
from deploy.doctor.pipelinechecks import check_models
from models.dummy import write_dummy
from models.errors import UnexpectedFile
from models.registry import Registry
from tests.attack.account import Attack

NAME = "dummy-rul"
LIMIT_S = 60


def pipe(path: Path) -> None:
    os.mkfifo(path)


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def local_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def endless_text(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse


THINGS = [pipe, dangling_link, link_to_itself, link_to_device, folder, local_socket, endless_text]
PLACES = [
    "stable.json",
    "history.jsonl",
    ".lock",
    "versions",
    "versions/1",
    "versions/1/model.onnx",
    "versions/1/manifest.json",
]
ODD_NAMES = [
    "a\nb",
    "name\n",
    "tab\there",
    " blank",
    "\udcff",
    "a" * 200,
    "🙂",
    "-dash",
    "\x1b[31mred",
]

FOLLOW = """
import sys
from pathlib import Path
from models.registry import Registry
from pipeline.scoring.rollover import ModelWatch
for root in sorted(Path(sys.argv[1]).iterdir()):
    registry = Registry(root)
    watch = ModelWatch(registry, lambda: 0)
    for _ in range(2):
        watch.poll()
    for name in registry.names():
        registry.list_versions(name), registry.history(name), registry.stable_stamp(name)
    names = sorted(student.manifest.name for student in watch.running.values())
    print(root.name, *names, flush=True)
"""


def replace(path: Path, thing: Callable[[Path], None]) -> None:
    """Put something else where a file or folder was."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    thing(path)


def follow(roots: Path) -> tuple[dict[str, list[str]], str]:
    """Follow each registry below `roots` as a gateway does.

    Returns:
        Registry to the models that run, for every registry that was read to its end; and stderr.
    """
    command = [sys.executable, "-c", FOLLOW, str(roots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            output, errors = child.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            output, errors = child.communicate()
    lines = [line.split() for line in output.decode().splitlines()]
    return {root: names for root, *names in lines}, errors.decode(errors="backslashreplace")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two students; the second one scores a stream of its own and must go on."""
    made = Registry(tmp_path / "registry")
    write_dummy(tmp_path / "student")
    write_dummy(tmp_path / "other", task="activity")
    made.publish(tmp_path / "student", stable=True)
    made.publish(tmp_path / "other", stable=True)
    return made


def test_nothing_in_place_of_a_file_of_the_registry_stops_or_hangs_a_gateway(
    attack: Attack, registry: Registry, tmp_path: Path
) -> None:
    roots = tmp_path / "attacked"
    for number, place in enumerate(PLACES):
        for thing in THINGS:
            root = roots / f"{number}-{thing.__name__}"
            shutil.copytree(registry.root, root)
            replace(root / NAME / place, thing)
    every = sorted(root.name for root in roots.iterdir())
    running, errors = follow(roots)
    stopped = [name for name in every if "dummy-activity" not in running.get(name, [])]
    attack.report(count=len(every), lost=len(stopped), unit="files replaced")
    assert (stopped, errors[-2000:] if stopped else "") == ([], "")


def test_a_publisher_neither_hangs_on_such_a_file_nor_writes_through_it(
    registry: Registry, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("untouched")
    for place in ("history.jsonl", ".lock", "stable.json"):
        for thing in (pipe, local_socket, lambda path: path.symlink_to(target)):
            path = registry.root / NAME / place
            replace(path, thing)
            if place == "stable.json":  # it is replaced, which is the remedy that the error names
                registry.set_stable(NAME, 1)
                assert registry.read_stable(NAME) is not None
            else:
                with pytest.raises(UnexpectedFile, match=place):
                    registry.set_stable(NAME, 1)
                path.unlink()
    assert target.read_text() == "untouched"


def test_odd_names_are_skipped_and_told_with_escapes(
    attack: Attack, registry: Registry, tmp_path: Path
) -> None:
    roots = tmp_path / "attacked"
    roots.mkdir()
    registry.root.rename(roots / "one")
    odd = Registry(roots / "one")
    for name in ODD_NAMES:
        shutil.copytree(odd.root / NAME, odd.root / name)
    (odd.root / "link").symlink_to(odd.root / NAME)
    (odd.root / "README").write_text("a file")
    assert odd.names() == ["dummy-activity", NAME]
    running, errors = follow(roots)
    assert running == {"one": ["dummy-activity", NAME]}
    told = odd.odd_entries()
    untold = [entry for entry in told if f"skipped in the registry: {entry}" not in errors]
    attack.report(count=len(told), lost=len(untold), unit="odd names")
    assert len(told) == len(ODD_NAMES) + 2
    assert all(entry.isascii() and entry.isprintable() for entry in told)
    assert errors.count("skipped in the registry") == len(told), "once, not at every poll"
    found = check_models(odd.root)
    assert [finding.text for finding in found if finding.state == "warn"] == told
    listed = CliRunner().invoke(main, ["models", "--registry", str(odd.root), "list"])
    assert [f"skipped: {entry}" in listed.output for entry in told] == [True] * len(told)


@pytest.mark.parametrize(
    ("mode", "state", "told"),
    [
        (0o700, "ok", "its owner only"),
        (0o750, "warn", "its group may read"),
        (0o770, "warn", "its group may write"),
        (0o755, "warn", "every user may read"),
        (0o711, "warn", "every user may read"),
        (0o777, "fail", "every user may write"),
        (0o1777, "fail", "every user may write"),
    ],
)
def test_an_open_state_folder_is_told_or_refused(
    tmp_path: Path, mode: int, state: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "state of mine"
    folder.mkdir()
    folder.chmod(mode)
    (finding,) = check_access(folder)
    assert (finding.state, told in finding.text) == (state, True)
    if state == "fail":
        with pytest.raises(click.ClickException, match=told) as refused:
            make_state_folder(folder)
        text = str(refused.value)
    else:
        make_state_folder(folder)
        text = capsys.readouterr().err
    assert ("chmod 700 '" in text) == (state != "ok")
    assert folder.stat().st_mode & 0o7777 == mode, "the mode is the operator's to change"
    make_state_folder(folder, is_private=False)


def test_a_state_folder_that_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_state_folder(tmp_path / "new" / "state")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o700
    assert check_access(tmp_path / "missing") == []

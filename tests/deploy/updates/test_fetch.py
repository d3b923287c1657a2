"""The gateway's side of a fetch: what it asks for, what it bounds, and what it says."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from deploy.rollout.ceremony import rotate_online, rotate_root
from deploy.rollout.release import WHOLE, Plan, Release
from deploy.updates import childtransport, fetch
from deploy.updates.fetch import Fetcher, FetchFailed, FetchLimits, run_child
from tests.fakes.centre import (
    dummy_artifact,
    make_centre,
    now_s,
    root_bytes,
    root_keys,
    root_signers,
)
from tests.fakes.repositoryserver import RepositoryHandler, cut_after, stall
from tests.fakes.rolloutworld import NOW_S, World, in_process, world_of


@pytest.fixture(params=["folder", "web"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(tmp_path, request.param) as world:
        yield world


@pytest.fixture
def web(tmp_path: Path) -> Iterator[World]:
    with world_of(tmp_path, "web") as world:
        yield world


def files(world: World, number: int) -> tuple[bytes, bytes]:
    folder = world.folder / f"student-{number}"
    return (folder / "manifest.json").read_bytes(), (folder / "model.onnx").read_bytes()


def test_a_release_arrives_through_a_process(world):
    world.fetch_with_process()
    assert world.fetcher().fetch_index().releases == (world.release,)
    assert world.fetcher().fetch_student(world.release) == files(world, 1)


def test_an_index_that_is_known_is_not_downloaded_again(web):
    for _ in range(2):
        web.fetcher().fetch_index()
    asked = [path for path, _ in web.server.requests]
    assert len([path for path in asked if "releases.json" in path]) == 1
    assert asked.count("metadata/timestamp.json") == 2


@pytest.mark.parametrize("transport", ["folder", "web"])
@pytest.mark.parametrize("rotations", [1, 30])
def test_a_gateway_that_was_away_follows_every_rotated_root(tmp_path, rotations, transport):
    with world_of(tmp_path, transport, {"root": 2}) as world:
        world.fetcher().fetch_index()
        for _ in range(rotations):
            world.made.rotate("root", "timestamp", "snapshot", "targets")
        world.publish(2)
        world.fetch_with_process()
        assert world.fetcher().fetch_index().releases == (world.release,)
        assert world.trusted()["root"] == rotations + 1


def test_rotated_roots_that_have_expired_on_the_way_do_not_stop_a_gateway(world):
    world.fetcher().fetch_index()
    world.made.rotate("root")
    world.now_s = world.made.now_s = NOW_S + 3 * 365 * 86_400
    world.made.rotate("root", "timestamp")
    world.publish(2)
    assert world.fetcher().fetch_index().releases == (world.release,)


def test_a_real_centre_is_followed_through_all_of_its_rotations(tmp_path):
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path, version=3)
    centre.publish(artifact)
    release = Release(
        number=1,
        name=artifact.manifest.name,
        version=3,
        digest=artifact.digest,
        plan=Plan(),
        step_since_s=0,
        cutoff=WHOLE,
        created_s=0,
    )
    centre.write_index(lambda index: index.model_copy(update={"releases": (release,)}))
    (tmp_path / "root.json").write_bytes(root_bytes(centre))
    url, state = str(centre.folder.repository), tmp_path / "state" / "rollout"
    fetcher = Fetcher(url, tmp_path / "root.json", state, now_s)
    assert fetcher.fetch_index() == centre.index()
    assert fetcher.fetch_student(release) == (artifact.manifest_bytes, artifact.onnx_bytes)
    keys = root_signers(tmp_path / "centre" / "root")
    for role in ("timestamp", "snapshot", "targets"):
        rotate_online(centre, role, keys)
    rotate_root(centre, root_keys(tmp_path / "new"), keys)
    again = release.model_copy(update={"number": 2})
    centre.write_index(lambda index: index.model_copy(update={"releases": (again,)}))
    assert fetcher.fetch_index().releases == (again,)


def test_a_download_that_is_cut_goes_on_where_it_ended(web):
    """Every connection ends after a thousand bytes; no byte is fetched twice."""
    length = len(files(web, 1)[1])
    web.server.spoiled["targets/students"] = cut_after(1000)
    attempts = 0
    for attempt in range(100):
        try:
            assert web.fetcher().fetch_student(web.release) == files(web, 1)
            attempts = attempt
            break
        except FetchFailed as exc:
            assert exc.state == "away"
            assert "goes on from there" in str(exc)
    starts = [
        int(asked.removeprefix("bytes=").rstrip("-") or 0)
        for path, asked in web.server.requests
        if path.endswith("model.onnx")
    ]
    assert starts == list(range(0, length, 1000))
    assert attempts > 0
    assert list((web.state / "partial").iterdir()) == []


def test_a_server_that_cannot_resume_sends_everything_again(web):
    def whole(handler: RepositoryHandler, data: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(data))})
        handler.wfile.write(data)

    web.server.spoiled["targets/students"] = cut_after(100)
    with pytest.raises(FetchFailed, match="goes on from there"):
        web.fetcher().fetch_student(web.release)
    web.server.spoiled["targets/students"] = whole
    assert web.fetcher().fetch_student(web.release) == files(web, 1)


@pytest.mark.parametrize(("status", "span"), [(416, ""), (206, "bytes 7-9/99"), (206, "nonsense")])
def test_a_server_that_resumes_elsewhere_is_asked_for_everything(web, status, span):
    def confused(handler: RepositoryHandler, data: bytes) -> None:
        if handler.asked_from():
            handler.head(status, {"Content-Length": "0", "Content-Range": span})
        else:
            handler.give(data)

    web.server.spoiled["targets/students"] = cut_after(100)
    with pytest.raises(FetchFailed, match="goes on from there"):
        web.fetcher().fetch_student(web.release)
    web.server.spoiled["targets/students"] = confused
    assert web.fetcher().fetch_student(web.release) == files(web, 1)


def test_answers_in_chunks_are_read(web):
    def in_chunks(handler: RepositoryHandler, data: bytes) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        for part in (data[:10], data[10:]):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    web.server.spoiled["metadata/timestamp"] = in_chunks
    web.server.spoiled["targets"] = in_chunks
    assert web.fetcher().fetch_index().releases == (web.release,)
    assert web.fetcher().fetch_student(web.release) == files(web, 1)


@pytest.mark.parametrize("damage", ["changed", "longer", "named pipe"])
def test_a_part_that_a_power_cut_has_damaged_is_fetched_again(web, damage):
    web.server.spoiled["targets/students"] = cut_after(100)
    with pytest.raises(FetchFailed, match="goes on from there"):
        web.fetcher().fetch_student(web.release)
    web.server.spoiled.clear()
    (part,) = (web.state / "partial").iterdir()
    if damage == "changed":
        part.write_bytes(bytes(100))
    elif damage == "longer":
        part.write_bytes(bytes(100_000))
    else:
        part.unlink()
        os.mkfifo(part)
    assert web.fetcher().fetch_student(web.release) == files(web, 1)


def test_parts_and_files_of_abandoned_releases_do_not_pile_up(web):
    for number in range(2, 9):
        release = web.publish(number)
        web.server.spoiled[f"targets/students/dummy-rul/{number}"] = cut_after(10)
        with pytest.raises(FetchFailed):
            web.fetcher().fetch_student(release)
        web.server.spoiled.clear()
        web.fetcher().fetch_student(release)
    assert len(list((web.state / "files").iterdir())) <= 6
    assert len(list((web.state / "partial").iterdir())) <= 5


def test_a_centre_that_is_away_says_where_it_was_looked_for(tmp_path):
    with world_of(tmp_path, "web") as world:
        url = world.url
        fetcher = world.fetcher()
    with pytest.raises(FetchFailed, match="cannot be reached") as failed:
        fetcher.fetch_index()
    assert failed.value.state == "away"
    assert url.removeprefix("http://") in str(failed.value)


def test_a_folder_that_is_not_mounted_is_away(tmp_path):
    with world_of(tmp_path, "folder") as world:
        world.made.folder.rename(tmp_path / "elsewhere")
        with pytest.raises(FetchFailed, match="is not there: connect or mount it") as failed:
            world.fetcher().fetch_index()
    assert failed.value.state == "away"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (302, "with a redirect to another address"),
        (503, "HTTP status 503"),
        (206, "HTTP status 206"),
        (416, "HTTP status 416"),
    ],
)
def test_an_answer_that_is_no_file_is_away(web, status, words):
    def answer(handler: RepositoryHandler, data: bytes) -> None:
        handler.head(status, {"Content-Length": "0", "Location": "http://127.0.0.1:9/"})

    web.server.spoiled["metadata"] = answer
    with pytest.raises(FetchFailed, match=words) as failed:
        web.fetcher().fetch_index()
    assert failed.value.state == "away"


def test_the_whole_fetch_has_a_limit_of_time(web):
    """The server stalls for longer than any pause is allowed to be."""
    web.fetch_with_process()
    web.limits = FetchLimits(seconds=1.5, stall_s=120, grace_s=120)
    web.server.spoiled["metadata/timestamp"] = stall
    with pytest.raises(FetchFailed, match=r"has not ended within 1\.5 s") as failed:
        web.fetcher().fetch_index()
    assert failed.value.state == "away"
    web.server.spoiled.clear()
    web.limits = World.limits_of_a_good_line()
    assert web.fetcher().fetch_index().releases == (web.release,)


def test_a_fetch_that_needs_too_much_memory_ends(world):
    world.made.signed("targets").unrecognized_fields["padding"] = [0] * 1_000_000
    world.made.renew("targets", "snapshot", "timestamp")
    world.fetch_with_process()
    world.limits = FetchLimits(memory_mb=24)
    with pytest.raises(FetchFailed, match="needs more memory than a fetch may take") as failed:
        world.fetcher().fetch_index()
    assert failed.value.state == "refused"
    world.made.restore(world.honest)
    world.made.signed("targets").unrecognized_fields.clear()
    world.limits = World.limits_of_a_good_line()
    world.publish(2)
    assert world.fetcher().fetch_index().releases == (world.release,)


def test_the_kernel_bounds_the_process(web):
    limits = FetchLimits(seconds=250, stall_s=120, memory_mb=111, cpu_s=77)
    request = {
        "url": web.url,
        "root": str(web.folder / "root.json"),
        "folder": str(web.state),
        "targets": {},
        "now_s": web.now_s,
        "ca_file": "",
        **asdict(limits),
    }
    web.server.spoiled["metadata"] = stall
    command = [sys.executable, "-m", "deploy.updates.fetchchild"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(request).encode())
            child.stdin.close()
            wait_until(lambda: bool(web.server.requests), "asked")
            bounds = psutil.Process(child.pid)
            assert bounds.rlimit(psutil.RLIMIT_CPU) == (77, 77)
            assert bounds.rlimit(psutil.RLIMIT_CORE) == (0, 0)
            assert bounds.rlimit(psutil.RLIMIT_FSIZE) == (8_000_000, 8_000_000)
            space = bounds.rlimit(psutil.RLIMIT_AS)[0]
            assert 111 * 2**20 < space < 111 * 2**20 + bounds.memory_info().vms
        finally:
            child.kill()


def test_a_process_that_hangs_is_killed(monkeypatch, world):
    """As after an alarm that never rings, such as in a read from a broken disk."""
    monkeypatch.setattr(fetch, "_AFTER_S", 0.0)
    request = {"seconds": 0.5, "cpu_s": 1, "memory_mb": 1}
    monkeypatch.setattr(sys, "executable", sys.executable)
    monkeypatch.setattr(
        fetch, "tied_to_parent", lambda _: [sys.executable, "-c", "import time; time.sleep(600)"]
    )
    with pytest.raises(FetchFailed, match=r"ended with signal 9 within its limits of 0\.5 s"):
        run_child(request)


FETCH_IN_THREAD = """
import sys, threading
from pathlib import Path
from deploy.updates.fetch import Fetcher
url, root, state, now_s = sys.argv[1:]
fetcher = Fetcher(url, Path(root), Path(state), lambda: int(now_s))
threading.Thread(target=fetcher.fetch_index, daemon=True).start()
sys.stdin.read()
"""


def test_a_gateway_that_stops_does_not_wait_for_a_fetch(web, tmp_path):
    """The fetch would last ten minutes; its process ends with the gateway."""
    web.server.spoiled["metadata"] = stall
    arguments = [web.url, tmp_path / "root.json", web.state, str(web.now_s)]
    with subprocess.Popen(
        [sys.executable, "-c", FETCH_IN_THREAD, *map(str, arguments)], stdin=subprocess.PIPE
    ) as gateway:
        wait_until(lambda: bool(web.server.requests), "asked")
        (child,) = psutil.Process(gateway.pid).children()
        assert gateway.stdin is not None
        gateway.stdin.close()
        assert gateway.wait(240) == 0
        child.wait(240)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[", b"x" * 70_000, b'{"state": "fine"}'])
def test_an_answer_that_is_none_is_refused(world, answer):
    world.child = lambda request: answer
    with pytest.raises(FetchFailed):
        world.fetcher().fetch_index()


def test_no_room_is_said_before_a_download_begins(world, monkeypatch):
    world.fetcher().fetch_index()
    found = os.statvfs(world.state)
    fields = list(found)
    fields[3] = fields[4] = 1  # free blocks
    monkeypatch.setattr(childtransport.os, "statvfs", lambda _: os.statvfs_result(fields))
    with pytest.raises(FetchFailed, match=r"bytes free, the download needs [\d,]+: make") as failed:
        world.fetcher().fetch_student(world.release)
    assert failed.value.state == "full"
    monkeypatch.undo()
    assert world.fetcher().fetch_student(world.release) == files(world, 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    folder = tmp_path / "state"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as exc:
        pytest.skip(f"needs mount: {exc}")
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
    return path


def test_a_full_disk_stops_the_fetch_and_nothing_else(small_disk, world):
    fetcher = world.fetcher()
    with pytest.raises(FetchFailed, match="make room") as failed:
        fetcher.fetch_index()  # the download asks for a megabyte of reserve
    assert failed.value.state == "full"
    filler = fill(small_disk)
    world.made.renew("timestamp")
    before = world.trusted()
    with pytest.raises(FetchFailed, match="make room") as failed:
        fetcher.fetch_index()
    assert failed.value.state == "full"
    assert world.trusted() == before
    filler.unlink()
    with pytest.raises(FetchFailed, match="bytes free"):
        fetcher.fetch_index()
    assert world.trusted()["timestamp"] == before["timestamp"] + 1


def test_marks_that_cannot_be_written_hand_nothing_out(world, monkeypatch):
    def full(path: Path, values: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, "write_object", full)
    with pytest.raises(FetchFailed, match=r"cannot be written .*: make room") as failed:
        world.fetcher().fetch_index()
    assert failed.value.state == "full"


def test_a_file_in_place_of_the_state_folder_is_said(world):
    world.state.parent.mkdir()
    world.state.write_text("not a folder")
    with pytest.raises(FetchFailed, match="the gateway's user must be able to write it") as failed:
        world.fetcher().fetch_index()
    assert failed.value.state == "full"


def test_a_pinned_root_that_is_not_there_says_what_to_do(world, tmp_path):
    (tmp_path / "root.json").unlink()
    with pytest.raises(FetchFailed, match=r"copy root\.json from the centre"):
        world.fetcher().fetch_index()


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>"])
def test_a_pinned_root_that_is_damaged_says_what_to_do(world, tmp_path, content):
    (tmp_path / "root.json").write_bytes(content)
    with pytest.raises(FetchFailed, match="the pinned root is no valid root metadata"):
        world.fetcher().fetch_index()


def test_a_gateway_without_the_extra_says_how_to_install_it(world, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchFailed, match=r"pip install .*\[rollout\]") as failed:
        world.fetcher().fetch_index()
    assert failed.value.state == "off"


def test_a_folder_with_a_space_in_its_name_is_read(tmp_path):
    with world_of(tmp_path / "usb stick", "folder") as world:
        assert world.fetcher().fetch_index().releases == (world.release,)


def test_a_request_goes_over_one_line_and_comes_back_as_one_line(world):
    world.child = lambda request: run_child(json.loads(json.dumps(dict(request))))
    world.fetcher().fetch_index()
    answers: list[bytes] = []

    def kept(request):
        answers.append(in_process(request))
        return answers[-1]

    world.child = kept
    world.fetcher().fetch_index()
    assert b"\n" not in answers[0]

"""`kpstream demo` on either broker: the output for a new user, ended by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.fakes.ports import free_port


@pytest.mark.slow
@pytest.mark.parametrize(
    "broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.needs_mosquitto)]
)
def test_the_demo_scores_and_ends_cleanly_on_ctrl_c(tmp_path: Path, broker: str) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "deploy.cli", "demo", "--broker", broker, "--port", str(port)),
        *("--engines", "2", "--people", "2", "--transformers", "0", "--keep", str(tmp_path)),
    ]
    with (tmp_path / "demo.txt").open("wb") as output:
        demo = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(lambda: "scored" in (tmp_path / "demo.txt").read_text(), demo)
        _wait(lambda: _stored(port) > 3, demo)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 3  # broker, gateway, fleet
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait()
    text = (tmp_path / "demo.txt").read_text()
    assert "(balanced)" in text
    assert re.search(r"activity +accuracy \d", text), text
    assert not [child for child in children if child.is_running()], "a child was left behind"


@pytest.mark.slow
def test_the_demo_judges_forecasts_and_faults_of_transformers(tmp_path: Path) -> None:
    arguments = ("--people", "0", "--engines", "0", "--transformers", "2", "--seconds", "12")
    with _running(tmp_path, "--port", str(free_port()), *arguments) as demo:
        assert demo.wait(90) == 0
    text = (tmp_path / "demo-1.txt").read_text()
    assert "(balanced)" in text
    assert "2 power transformers with sensor faults" in text
    assert re.search(r"forecast +1, 6, 12, 24 h ahead: MAE \d\.\d\d, .* of seasonal-naive's", text)
    assert re.search(r"faults +\d+ of \d+ found.*; \d+ false alarms in \d+ days without", text), (
        text
    )


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: prctl")
@pytest.mark.parametrize(
    ("number", "children"),  # broker, gateway, fleet: while it starts, and when it runs
    [
        (signal.SIGTERM, 1),
        (signal.SIGTERM, 2),
        (signal.SIGTERM, 3),
        (signal.SIGHUP, 2),
        (signal.SIGKILL, 1),
        (signal.SIGKILL, 2),
        (signal.SIGKILL, 3),
    ],
)
def test_every_end_of_the_demo_ends_its_children(
    tmp_path: Path, number: signal.Signals, children: int
) -> None:
    if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup")
    with _running(tmp_path, "--port", "0") as demo:
        process = psutil.Process(demo.pid)
        _wait(lambda: len(process.children(recursive=True)) >= children, demo)
        started = process.children(recursive=True)
        demo.send_signal(number)
        code = demo.wait(120)
        assert code != 0 or children == 3
        assert not psutil.wait_procs(started, timeout=120)[1]


@pytest.mark.slow
def test_demos_in_parallel_and_in_one_folder_report_only_their_own_figures(
    tmp_path: Path,
) -> None:
    arguments = ("--port", str(free_port()), "--seconds", "5")
    with _running(tmp_path, *arguments) as one, _running(tmp_path, *arguments) as two:
        assert [demo.wait(60) for demo in (one, two)] == [0, 0]
    with _running(tmp_path, *arguments) as again:
        assert again.wait(60) == 0
    texts = [path.read_text() for path in sorted(tmp_path.glob("demo-*.txt"))]
    assert len(texts) == 3
    for number in (1, 2, 3):
        (text,) = (text for text in texts if f"run-{number}/state" in text)
        assert "(balanced)" in text
        assert "no truth" not in text
    urls = [re.search(r"http://\S+/", text) for text in texts]
    assert all(urls)
    assert urls[0][0] != urls[1][0]  # type: ignore[index]


@contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "deploy.cli", "demo", "--engines", "2", "--people", "1"),
        *("--keep", str(folder), *arguments),
    ]
    number = len(list(folder.glob("demo-*.txt"))) + 1
    with (folder / f"demo-{number}.txt").open("wb") as output:
        demo = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield demo
    finally:
        demo.kill()
        demo.wait()


def _stored(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            found = re.search(rb"kpstream_stored_total (\d+)", answer.read())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _wait(holds: object, demo: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert demo.poll() is None, "the demo ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)

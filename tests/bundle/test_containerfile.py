"""The container file installs what a bundle holds. No container is built here."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.bundle.target import MACHINES, Target
from tests.bundle.containerfile import CONTAINERFILE, instructions
from tests.fakes.wheels import make_bundle_content, pack_content

# https://docs.docker.com/reference/dockerfile/, without what a gateway has no use for
KNOWN = {"ARG", "FROM", "COPY", "RUN", "ENV", "WORKDIR", "USER", "CMD"}


def runs() -> list[str]:
    return [rest for word, rest in instructions() if word == "RUN"]


def test_every_instruction_is_one_and_the_shell_reads_every_run() -> None:
    found = instructions()
    assert {word for word, _ in found} <= KNOWN
    assert found[0][0] == "ARG"
    assert [rest for word, rest in found if word == "FROM"] == ["${BASE} AS installed", "${BASE}"]
    for run in runs():
        subprocess.run(["sh", "-n", "-c", run], check=True)


def test_the_image_has_the_python_of_the_bundle_that_it_takes() -> None:
    text = CONTAINERFILE.read_text()
    base = dict(instructions())["ARG"].partition("=")[2]
    assert base.endswith("python:3.11-slim-bookworm")
    (copied,) = [rest for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    for machine in MACHINES:
        name = f"{Target(machine, '3.11').bundle_name('9.9')}.tar"
        assert Path(f"dist/{name}").match(copied.split()[0])
    assert "make bundle PYTHON=3.11" in text


def test_its_lines_take_the_bundle_of_the_machine_and_ask_for_every_hash(tmp_path: Path) -> None:
    """Run with programs that only note how they are called."""
    for machine in MACHINES:
        target = Target(machine, "3.11")
        content = tmp_path / machine
        archive = pack_content(content, make_bundle_content(content, target))
        archive.rename(tmp_path / archive.name)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python3", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n')
        (programs / name).chmod(0o755)
    (programs / "uname").write_text("#!/bin/sh\necho aarch64\n")
    (programs / "uname").chmod(0o755)
    run = runs()[0].replace("/opt/kpstream/bin/", f"{programs}/").replace("/bundle", str(tmp_path))
    path = f"{programs}:/usr/bin:/bin"
    subprocess.run(["sh", "-c", run], check=True, env={"PATH": path})
    about = (tmp_path / "bundle.json").read_text()
    assert '"machine": "aarch64"' in about
    made, installed, checked = (tmp_path / "calls").read_text().splitlines()
    assert made == "python3 -m venv --without-pip /opt/kpstream"
    assert installed.startswith("python wheels/pip-26.3-py3-none-any.whl/pip install --no-index ")
    assert installed.endswith("--find-links wheels --require-hashes -r requirements.txt")
    assert checked == "python wheels/pip-26.3-py3-none-any.whl/pip check"

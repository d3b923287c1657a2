"""`train-redistill schedule`: files that the tools they are for accept."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from training.schedule import KINDS, QUIET, cron_line, schedule, systemd_units

WORDS = ["--data", "/srv/the pumps/data 100%.toml", "--publish", "--name", "a'b\"c$HOME"]


def write(folder: Path, kind: str, *options: str, words=WORDS):
    base = ["--kind", kind, "--folder", str(folder), *options, "--", *words]
    return CliRunner().invoke(schedule, base)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", ["hourly", "daily", "weekly"])
def test_a_timer_is_written_and_trains_only_if_needed(tmp_path: Path, kind, every) -> None:
    done = write(tmp_path, kind, "--every", every)
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in tmp_path.iterdir())
    assert (
        files
        == {
            "systemd": ["retrain.service", "retrain.timer"],
            "cron": ["retrain.cron"],
            "kubernetes": ["retrain.yaml"],
        }[kind]
    )
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert text.count("--if-needed") == 1
    assert all(f"wrote {tmp_path / file}" in done.output for file in files)


def test_the_units_pass_systemd(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("needs systemd-analyze")
    for name, text in systemd_units("retrain", "daily", "root", ["/bin/true", *WORDS]).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [tool, "verify", "--man=no", str(tmp_path / "retrain.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "retrain" in line]
    assert (done.returncode, told) == (0, [])


def test_the_service_keeps_every_word_and_takes_quiet_codes_as_success() -> None:
    service = systemd_units("retrain", "daily", "kpstream", ["/bin/train", *WORDS])[
        "retrain.service"
    ]
    (line,) = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    assert '"/srv/the pumps/data 100%%.toml"' in line
    assert "$$HOME" in line
    assert f"SuccessExitStatus={' '.join(map(str, QUIET))}" in service
    assert "Type=oneshot" in service


def test_the_cron_line_keeps_every_word() -> None:
    line = cron_line("retrain", "weekly", ["/bin/train", *WORDS])
    assert line.count("\n") == 1
    minute = line.split()[:5]
    assert minute == ["15", "3", "*", "*", "0"]
    command = line.split(maxsplit=5)[5].replace(r"\%", "%")
    assert shlex.split(command)[-len(WORDS) :] == WORDS


def test_the_job_is_yaml_forbids_a_second_run_and_keeps_every_word(tmp_path: Path) -> None:
    write(tmp_path, "kubernetes")
    job = yaml.safe_load((tmp_path / "retrain.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    assert len(spec["schedule"].split()) == 5
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    (line,) = container["args"]
    assert shlex.split(line.split("; code=")[0]) == ["train-redistill", *WORDS, "--if-needed"]


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (3, 0), (4, 0), (6, 0), (7, 0), (8, 0)])
def test_quiet_codes_end_the_job_well_and_failures_do_not(tmp_path: Path, code, wanted) -> None:
    fake = tmp_path / "train-redistill"
    for given, expected in ((code, wanted), (2, 2), (5, 5), (130, 130)):
        fake.write_text(f"#!/bin/sh\nexit {given}\n")
        fake.chmod(0o755)
        write(tmp_path, "kubernetes", words=["--publish"])
        job = yaml.safe_load((tmp_path / "retrain.yaml").read_text())
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        done = subprocess.run(
            [*container["command"], *container["args"]],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            check=False,
        )
        assert done.returncode == expected


@pytest.mark.parametrize(
    ("options", "words", "told"),
    [
        (("--name", "No"), WORDS, "--name 'No'"),
        ((), ["--data", "a\nb"], "line break"),
        (("--kind", "at"), WORDS, "'at' is not one of"),
    ],
)
def test_what_no_timer_takes_is_refused(tmp_path: Path, options, words, told) -> None:
    done = write(tmp_path / "units", "cron", *options, words=words)
    assert done.exit_code == 2
    assert told in done.output
    assert not (tmp_path / "units").exists()

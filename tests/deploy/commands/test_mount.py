"""`kpstream mount`: what is kept is listed and forgotten again, and faults are named."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from deploy.commands.mount import mount
from pipeline.scoring.mounting import FILE_NAME, Mounting, Mountings

DEVICE = ("lab", "anna", "imu")
STRAIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def run(state: Path, *words: str) -> Result:
    return CliRunner().invoke(mount, [*words, "--state-dir", str(state)])


def test_a_mounting_is_listed_and_forgotten(tmp_path: Path) -> None:
    mountings = Mountings(tmp_path, lambda _: None)
    mountings.put(DEVICE, Mounting(STRAIGHT, (("x", "y", "z"),), 1_800_000_000_000, 34.5, 90.0))
    assert (
        "lab/anna/imu  tilted by 34.5, turned by 90 degrees, measured 2027-"
        in run(tmp_path, "--list").output
    )
    said = run(tmp_path, "anna", "--remove")
    assert said.output == "lab/anna/imu is scored as it comes, from the next window on\n"
    assert run(tmp_path, "--list").output == "no device of this gateway has a mounting\n"
    assert "found: none" in run(tmp_path, "anna", "--remove").output


def test_a_damaged_file_is_an_error_and_no_empty_list(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b'{"x')
    for words in (["--list"], ["anna", "--remove"]):
        said = run(tmp_path, *words)
        assert said.exit_code == 1, words
        assert f"Error: {file} is unusable (unexpected" in said.output, words
        assert "ignored" not in said.output, words
        assert said.output.strip().endswith("move the file away"), words


def test_faults_are_named(tmp_path: Path) -> None:
    assert "name a DEVICE, or use --list" in run(tmp_path).output
    refused = run(tmp_path, "anna")
    assert refused.exit_code == 1
    assert f"no results at {tmp_path / 'results.db'}" in refused.output

"""The run folder: refused with the way on, and kept after Ctrl-C."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from training.errors import RunFolderError
from training.runfolder import INTERRUPTED, open_run_folder, tell_how_to_continue


def test_the_folder_holds_the_recipe(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "runs" / "one", "seed = 1\n")

    assert (tmp_path / "runs" / "one" / "recipe.toml").read_text() == "seed = 1\n"


def test_a_file_in_the_way_is_named_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    with pytest.raises(RunFolderError, match=r"taken/run cannot be written \(.*\): .* with --out"):
        open_run_folder(tmp_path / "taken" / "run", "")


def test_ctrl_c_says_how_the_run_goes_on(tmp_path: Path) -> None:
    shown = io.StringIO()

    with (
        pytest.raises(SystemExit) as ended,
        tell_how_to_continue(Console(file=shown), tmp_path),
    ):
        raise KeyboardInterrupt

    assert ended.value.code == INTERRUPTED
    assert f"--out {tmp_path} continues" in shown.getvalue()


def test_another_end_passes_through(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="own"),
        tell_how_to_continue(Console(file=io.StringIO()), tmp_path),
    ):
        raise ValueError("own")

"""The run folder: refused with the way on, locked, and kept after Ctrl-C."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from training.errors import CheckpointError, RunFolderError
from training.runfolder import (
    INTERRUPTED,
    default_folder,
    open_run_folder,
    require_room,
)


def console() -> Console:
    return Console(file=io.StringIO())


def test_the_folder_holds_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with open_run_folder(folder, "seed = 1\n", console()):
        assert (folder / "recipe.toml").read_text() == "seed = 1\n"


def test_the_default_folder_is_the_same_in_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = default_folder("rul", "seed = 1\n", "a" * 64)
    monkeypatch.chdir(tmp_path)
    assert default_folder("rul", "seed = 1\n", "a" * 64) == here
    assert here.is_absolute()
    assert default_folder("rul", "seed = 2\n", "a" * 64) != here


def test_a_file_in_the_way_is_named_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    with (
        pytest.raises(RunFolderError, match=r"taken/run cannot be written \(.*\): .* with --out"),
        open_run_folder(tmp_path / "taken" / "run", "", console()),
    ):
        pass


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, "", console()):
        with (
            pytest.raises(RunFolderError, match=r"another run works in .*: wait for its end"),
            open_run_folder(tmp_path, "", console()),
        ):
            pass
    with open_run_folder(tmp_path, "", console()):
        pass


def test_the_state_of_another_recipe_is_kept(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, "seed = 1\n", console()):
        (tmp_path / "last.pt").write_bytes(b"state")
    with (
        pytest.raises(CheckpointError, match="a run with another recipe: choose another folder"),
        open_run_folder(tmp_path, "seed = 2\n", console()),
    ):
        pass
    assert (tmp_path / "recipe.toml").read_text() == "seed = 1\n"
    (tmp_path / "last.pt").unlink()
    with open_run_folder(tmp_path, "seed = 2\n", console()):
        assert (tmp_path / "recipe.toml").read_text() == "seed = 2\n"


def test_a_registry_without_room_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_room(tmp_path / "not" / "there")
    assert not list(tmp_path.iterdir())

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(RunFolderError, match=r"Read-only file system\), so no student could be"):
        require_room(tmp_path / "not" / "there")


def test_ctrl_c_says_how_the_run_goes_on(tmp_path: Path) -> None:
    shown = io.StringIO()

    with (
        pytest.raises(SystemExit) as ended,
        open_run_folder(tmp_path, "", Console(file=shown)),
    ):
        raise KeyboardInterrupt

    assert ended.value.code == INTERRUPTED
    assert f"--out {tmp_path} continues" in shown.getvalue()


def test_another_end_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own"), open_run_folder(tmp_path, "", console()):
        raise ValueError("own")

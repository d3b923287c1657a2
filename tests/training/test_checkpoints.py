"""The state of a training: whole, undamaged, of this run, or refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.checkpoints import has_state, read_state, write_state  # noqa: E402
from training.errors import CheckpointError  # noqa: E402

pytestmark = pytest.mark.needs_training


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "fold-1" / "last.pt"
    assert read_state(path, "one") is None
    assert not has_state(tmp_path)
    write_state(path, {"identity": "one", "weights": torch.arange(3)})
    assert has_state(tmp_path)
    found = read_state(path, "one")
    assert found is not None
    assert found["weights"].tolist() == [0, 1, 2]
    with pytest.raises(CheckpointError, match="another recipe or other data: choose another"):
        read_state(path, "two")


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_state(path, {"identity": "one", "weights": torch.arange(3)})
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        for damage in (
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
            content[:place],
        ):
            path.write_bytes(damage)
            with pytest.raises(CheckpointError, match=r"last\.pt is damaged, .*: delete it"):
                read_state(path, "one")


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    write_state(path, {"identity": "one"})

    def fail(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, {"identity": "two"})
    assert [one.name for one in tmp_path.iterdir()] == ["last.pt"]
    assert read_state(path, "one") == {"identity": "one"}

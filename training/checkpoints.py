"""The state of an interrupted training: written whole or not at all, read only if undamaged."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from training.errors import CheckpointError

__all__ = ["STATE_FILE", "has_state", "read_state", "write_state"]

STATE_FILE = "last.pt"
_HEAD = b"kpstream training state 1\n"
_DIGEST_BYTES = 32


def has_state(folder: Path) -> bool:
    """Whether a run in this folder, or one of its folds, can continue."""
    return any(folder.glob(STATE_FILE)) or any(folder.glob(f"*/{STATE_FILE}"))


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the state of a run, which begins with a digest of its content.

    Raises:
        OSError: It could not be written; the state before it is still there.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(
        state, buffer
    )  # writing to the file, torch would hide a full disk behind its own error
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(_HEAD + hashlib.sha256(content).digest() + content)
        temporary.replace(path)
    except OSError as exc:  # a failed write does not name its file
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    finally:
        temporary.unlink(missing_ok=True)  # a full disk needs the room


def read_state(path: Path, identity: str) -> dict[str, Any] | None:
    """Read the state of a run; None if there is none.

    Args:
        path: The file.
        identity: What the state must have under the key `identity`.

    Raises:
        CheckpointError: It is damaged, or belongs to another run.
    """
    import torch

    if not path.exists():
        return None
    try:
        content = path.read_bytes()
        digest, packed = (
            content[len(_HEAD) :][:_DIGEST_BYTES],
            content[len(_HEAD) + _DIGEST_BYTES :],
        )
        if not content.startswith(_HEAD) or hashlib.sha256(packed).digest() != digest:
            msg = f"{path} is damaged, or of another version: delete it to start again"
            raise CheckpointError(msg)
        state: dict[str, Any] = torch.load(io.BytesIO(packed), weights_only=True)
    except OSError as exc:
        msg = f"{path} cannot be read ({exc.strerror}): mend that, or delete it to start again"
        raise CheckpointError(msg) from exc
    if state.get("identity") != identity:
        msg = (
            f"{path} belongs to a run with another recipe or other data: choose another folder "
            "with --out, or delete the file to start again"
        )
        raise CheckpointError(msg)
    return state

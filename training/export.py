"""From a trained student to an artifact: ONNX graph, parity check, manifest.

An artifact is written only if ONNX Runtime, loaded by the gateway's own code, gives the numbers of
the trained student: at most 1e-4 (cycles or probability) apart on real windows, one by one and in
batches of 64 (see `_at_a_step` for the one exception).
"""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.artifact import Artifact, write_artifact
from models.features import scale
from models.manifest import Draft, Scaler
from models.scores import RulScores
from models.session import Student
from training.distill import score_student
from training.errors import ExportError

__all__ = [
    "MAX_STUDENT_BYTES",
    "OPSET",
    "PARITY",
    "export_artifact",
    "export_onnx",
    "score_raw",
    "score_torch",
]

OPSET = 17
PARITY = 1e-4
MAX_STUDENT_BYTES = 300_000
_SINGLES = 256  # windows that are also scored one by one
_INVISIBLE = 1e-5  # of the range of a channel; sensors resolve 1e-3


def export_onnx(student: nn.Module, length: int, channels: int, output: str) -> bytes:
    """The graph of a student: `windows` [batch, length, channels] to `output`.

    Opset 17, all weights inside, any batch size.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter gives a graph of 30 plain operators with all weights inside; its
        # successor needs onnxscript and is not better here.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Both speak of batch sizes in recurrent layers; _check_parity proves them, 1 and 64.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python boolean")
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size")
        torch.onnx.export(
            student,
            (torch.zeros(2, length, channels),),
            buffer,  # type: ignore[arg-type]  # a file object works, the stubs know paths only
            input_names=["windows"],
            output_names=[output],
            dynamic_axes={"windows": {0: "batch"}, output: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def export_artifact(
    student: nn.Module, draft: Draft, windows: NDArray[np.float32], folder: Path
) -> Artifact:
    """Export a student, prove parity on real windows, and write the artifact.

    Args:
        student: the module of `Method.exported`, in evaluation mode.
        draft: the manifest without the graph.
        windows: `[n, length, channels]` raw windows to compare on.
        folder: where the artifact goes.

    Raises:
        ExportError: too large, or ONNX Runtime disagrees; nothing is written to `folder`.
        ArtifactError: the gateway's checks refuse it; nothing is written to `folder`.
    """
    length, channels = draft.window.length, len(draft.channels)
    onnx = export_onnx(student, length, channels, draft.decoding.output)
    if len(onnx) > MAX_STUDENT_BYTES:
        msg = f"the graph has {len(onnx)} bytes, a student may have {MAX_STUDENT_BYTES}"
        raise ExportError(msg)
    with tempfile.TemporaryDirectory() as scratch:
        loaded = Student(write_artifact(scratch, draft, onnx))
        loaded.self_test()
        _check_parity(student, loaded, draft.scaler, windows)
    return write_artifact(folder, draft, onnx)


def score_torch(
    student: nn.Module, scaler: Scaler, windows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores of the torch module on raw windows: `[n]` cycles or `[n, classes]`."""
    return score_student(student, torch.from_numpy(scale(windows, scaler)))


def score_raw(student: Student, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of a loaded artifact on raw windows: `[n]` cycles or `[n, classes]`."""
    scores = student.score(windows)
    return scores.rul if isinstance(scores, RulScores) else scores.probabilities


def _check_parity(
    trained: nn.Module, loaded: Student, scaler: Scaler, windows: NDArray[np.float32]
) -> None:
    wanted = score_torch(trained, scaler, windows)
    some = np.unique(np.linspace(0, len(windows) - 1, _SINGLES).astype(int))
    batches = [score_raw(loaded, windows[at : at + 64]) for at in range(0, len(windows), 64)]
    singles = np.concatenate([score_raw(loaded, windows[at : at + 1]) for at in some])
    for size, found, at in (
        (64, np.concatenate(batches), np.arange(len(windows))),
        (1, singles, some),
    ):
        apart = np.abs(found - wanted[at]).reshape(len(at), -1).max(axis=1)
        odd = np.flatnonzero(~(apart <= PARITY))
        if len(odd) and not (
            len(odd) <= 1 + len(at) // 100
            and _at_a_step(trained, scaler, windows[at[odd]], found[odd])
        ):
            msg = (
                f"ONNX Runtime and the trained student differ by {apart.max():.3g} at batch size "
                f"{size} ({len(odd)} of {len(at)} windows beyond {PARITY}): no artifact was written"
            )
            raise ExportError(msg)


def _at_a_step(
    trained: nn.Module,
    scaler: Scaler,
    windows: NDArray[np.float32],
    found: NDArray[np.float32],
) -> bool:
    """Whether the trained student itself jumps to the found scores under invisible noise.

    Anchor voting is a step function of the probabilities: where the trimmed mass ends between two
    anchors within rounding, either side is right. Up to one such window in a hundred is let pass.
    """
    random = np.random.default_rng(0)
    scaled = np.repeat(scale(windows, scaler)[None], 64, axis=0)
    scaled += random.normal(0, _INVISIBLE, scaled.shape).astype(np.float32)
    with torch.no_grad():
        scores = trained(torch.from_numpy(scaled).flatten(0, 1)).numpy()
    near = np.abs(scores.reshape(64, *found.shape) - found) <= 10 * PARITY
    return bool(near.reshape(64, len(found), -1).all(axis=2).any(axis=0).all())

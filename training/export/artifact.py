"""Export of a trained student to an artifact: ONNX graph, parity check, manifest.

An artifact is written only if ONNX Runtime, loaded by the gateway's own code, gives the numbers of
the trained student on real windows, one by one and in batches of 64. The limit is 1e-5 of the range
of the score (0.00125 of 125 cycles; 1e-5 of a probability). There are two exceptions, both checked:
the difference is no larger than that of float32 itself (`_is_rounding`), or a window lies on a step
of the vote (`_is_at_step`).
"""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.artifact import Artifact, write_artifact
from models.features import scale
from models.manifest import Draft, Scaler
from models.session import Student
from models.tasks.classfeatures import FEATURES
from models.tasks.familiarity import MAX_DISTANCE
from models.tasks.number import BoundedNumber, NumberAnswer
from models.tasks.registry import find_task
from training.errors import ExportError
from training.export.features import Featured, score_both, with_features
from training.scoring import scale_windows, score_torch
from training.uncertainty.familiarity import FamiliarStudent, measure_stage_distances

__all__ = [
    "MAX_STUDENT_BYTES",
    "OPSET",
    "PARITY",
    "export_artifact",
    "export_onnx",
    "score_raw",
]

OPSET = 17
PARITY = 1e-5
"""Limit as a share of the range of the score: bounds of a number, or 1 for probabilities."""
MAX_STUDENT_BYTES = 400_000  # 100 000 numbers of four bytes
_SINGLES = 256  # windows that are also scored one by one
_INVISIBLE = 1e-5  # of the range of a channel; sensors resolve 1e-3
_NO_WORSE = 2.0  # times the error of float32: ONNX Runtime sums in another order
_FEATURES_APART = 1e-3  # of a feature of length 1
_ROUNDING = 20.0  # times PARITY: a larger difference is never rounding


def export_onnx(student: nn.Module, length: int, channels: int, outputs: Sequence[str]) -> bytes:
    """Export the graph of a student: `windows` [batch, length, channels] to its outputs, in order.

    The graph has opset 17, contains all weights, and accepts any batch size.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter gives a graph of 30 plain operators that contains all weights;
        # its successor needs onnxscript and is no better here.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Both warn about batch sizes in recurrent layers; _check_parity checks 1 and 64.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python boolean")
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size")
        torch.onnx.export(
            student,
            (torch.zeros(2, length, channels),),
            buffer,  # type: ignore[arg-type]  # a file object works, the stubs know paths only
            input_names=["windows"],
            output_names=[*outputs],
            dynamic_axes={name: {0: "batch"} for name in ("windows", *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def export_artifact(
    student: nn.Module, draft: Draft, windows: NDArray[np.float32], folder: Path
) -> Artifact:
    """Export a student, prove parity on real windows, and write the artifact.

    Args:
        student: Module of `Method.exported`, in evaluation mode.
        draft: Manifest without the graph.
        windows: Raw windows `[n, length, channels]` to compare on.
        folder: Folder of the artifact.

    Raises:
        ExportError: The graph is too large, or ONNX Runtime disagrees; nothing is written to
            `folder`.
        ArtifactError: The gateway's checks refuse the artifact; nothing is written to `folder`.
    """
    length, channels = draft.window.length, len(draft.channels)
    outputs = find_task(draft.task).answer.outputs(draft.decoding)
    featured = with_features(student) if FEATURES in outputs else None
    if FEATURES in outputs and featured is None:
        msg = "the manifest has features, but the student has no encoder that would give them"
        raise ExportError(msg)
    onnx = export_onnx(featured or student, length, channels, [*outputs])
    if len(onnx) > MAX_STUDENT_BYTES:
        msg = (
            f"the graph has {len(onnx)} bytes, and a student may have at most {MAX_STUDENT_BYTES}: "
            "use fewer or narrower layers in the recipe"
        )
        raise ExportError(msg)
    with tempfile.TemporaryDirectory() as scratch:
        loaded = Student(write_artifact(scratch, draft, onnx))
        loaded.self_test()
        trained = student.student if isinstance(student, FamiliarStudent) else student
        _check_parity(trained, loaded, draft.scaler, windows, PARITY * _range_of(draft))
        if featured is not None:
            _check_features(featured, loaded, draft.scaler, windows)
        if isinstance(student, FamiliarStudent):
            _check_distances(student, loaded, draft.scaler, windows)
    return write_artifact(folder, draft, onnx)


def score_raw(student: Student, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score raw windows with a loaded artifact: `[n]` numbers or `[n, classes]` probabilities."""
    return student.score(windows).values


def _range_of(draft: Draft) -> float:
    """Return the range of the scores: that of the number, or 1 for probabilities."""
    if not isinstance(find_task(draft.task).answer, NumberAnswer):
        return 1.0
    low, high = cast(BoundedNumber, draft.decoding).bounds
    return high - low


def _check_parity(
    trained: nn.Module, loaded: Student, scaler: Scaler, windows: NDArray[np.float32], limit: float
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
        odd = np.flatnonzero(~(apart <= limit))
        if not len(odd):
            continue
        inputs, own, other = windows[at[odd]], wanted[at[odd]], found[odd]
        if apart.max() <= _ROUNDING * limit and _is_rounding(trained, scaler, inputs, own, other):
            continue
        few = len(odd) <= 1 + len(at) // 100
        if not (few and _is_at_step(trained, scaler, inputs, other, limit)):
            msg = (
                f"ONNX Runtime and the trained student differ by {apart.max():.3g} at batch size "
                f"{size} ({len(odd)} of {len(at)} windows beyond {limit:.3g}), so no artifact was "
                "written: check the operators of the student"
            )
            raise ExportError(msg)


def _check_features(
    trained: Featured, loaded: Student, scaler: Scaler, windows: NDArray[np.float32]
) -> None:
    some = windows[np.unique(np.linspace(0, len(windows) - 1, _SINGLES).astype(int))]
    _, found = loaded.score_with_features(some)
    apart = float(np.abs(found - score_both(trained, scaler, some)[1]).max())
    if apart > _FEATURES_APART:
        msg = (
            f"ONNX Runtime and the trained student differ by {apart:.3g} in a feature, so no "
            "artifact was written: check the operators of the student"
        )
        raise ExportError(msg)


def _check_distances(
    trained: FamiliarStudent, loaded: Student, scaler: Scaler, windows: NDArray[np.float32]
) -> None:
    some = windows[np.unique(np.linspace(0, len(windows) - 1, _SINGLES).astype(int))]
    wanted = measure_stage_distances(
        trained.student, trained.familiarity, scale_windows(some, scaler, None)
    )
    found = getattr(loaded.score(some), "distances", None)
    apart = np.inf if found is None else float(np.abs(found - wanted).max())
    if not apart <= PARITY * MAX_DISTANCE:
        msg = (
            f"ONNX Runtime and the trained student differ by {apart:.3g} in the distance to what "
            f"was learned (limit {PARITY * MAX_DISTANCE:.3g}), so no artifact was written: check "
            "the operators of the student"
        )
        raise ExportError(msg)


def _is_rounding(
    trained: nn.Module,
    scaler: Scaler,
    windows: NDArray[np.float32],
    wanted: NDArray[np.float32],
    found: NDArray[np.float32],
) -> bool:
    """Whether the graph is as close to the student in float64 as the student in float32 is.

    Logits of about 10 have errors of some 1e-5 in float32, and the vote multiplies them by the
    distance of the voting anchors, which is tens of cycles. A student of few engines, whose votes
    spread widely, differs from itself in float64 by 0.0004 cycles.
    """
    exact = copy.deepcopy(trained).double()
    with torch.no_grad():
        truth = exact(torch.from_numpy(scale(windows, scaler)).double()).numpy()
    own, other = np.abs(wanted - truth).max(), np.abs(found - truth).max()
    return bool(other <= _NO_WORSE * own)


def _is_at_step(
    trained: nn.Module,
    scaler: Scaler,
    windows: NDArray[np.float32],
    found: NDArray[np.float32],
    limit: float,
) -> bool:
    """Whether the trained student itself jumps to the found scores under negligible noise.

    Anchor voting is a step function of the probabilities: where the trimmed mass ends between two
    anchors within rounding, either side is right. One such window in a hundred is accepted.
    """
    random = np.random.default_rng(0)
    scaled = np.repeat(scale(windows, scaler)[None], 64, axis=0)
    scaled += random.normal(0, _INVISIBLE, scaled.shape).astype(np.float32)
    with torch.no_grad():
        scores = trained(torch.from_numpy(scaled).flatten(0, 1)).numpy()
    near = np.abs(scores.reshape(64, *found.shape) - found) <= 10 * limit
    return bool(near.reshape(64, len(found), -1).all(axis=2).any(axis=0).all())

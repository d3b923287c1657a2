"""A loaded student: raw windows in, scores out. The only file that imports ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Artifact
from models.errors import GraphRefused, ScoreFailed, SelfTestFailed
from models.features import scale, unscale
from models.manifest import Interval, Manifest, RulDecoding
from models.scores import ActivityScores, RulScores, Scores

__all__ = ["MAX_BATCH", "Student"]

# Windows per run. Measured with a CNN of 370 kB: above 64 the time per window hardly falls, but
# the memory of intermediate tensors grows from 10 to 40 MB at 256.
MAX_BATCH = 64
# What a score may depend on its batch: of a RUL's range, and of a probability. Float32 sums in
# another order at another batch size; a vote of anchors far apart multiplies the difference.
_REPEATABLE_RUL, _REPEATABLE = 1e-5, 1e-4


class Student:
    """A student ready to score; safe to call from one thread at a time.

    Raises:
        GraphRefused: ONNX Runtime does not load the graph.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._manifest = artifact.manifest
        self._digest = artifact.digest
        self._session = _open_session(artifact)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the artifact it was loaded from."""
        return self._manifest

    @property
    def digest(self) -> str:
        """The digest of that artifact."""
        return self._digest

    def score(self, windows: NDArray[np.float32]) -> Scores:
        """Score a batch of windows.

        Args:
            windows: [batch, length, channels] float32 in raw units, channels in manifest order.
                batch may be 0 or above `MAX_BATCH`.

        Returns:
            One row per window, in order. A window with a number that is not finite, or whose
            output is not finite, has `valid` False and harms no other row. A row does not depend
            on the batch around it by more than 1e-5 of `max_rul`, or 1e-4 of a probability (the
            self-test checks it).

        Raises:
            ValueError: the shape is not [batch, length, channels] of the manifest.
            ScoreFailed: ONNX Runtime refused; no window has a score.
        """
        raw, valid = self._run(windows)
        return _decode(self._manifest, raw, valid)

    def self_test(self) -> None:
        """Prove on made-up windows that the numbers are usable.

        Raises:
            SelfTestFailed: an output that is not finite, out of range, does not sum to 1, or
                changes with the batch it is computed in.
        """
        windows = _test_windows(self._manifest)
        try:
            raw, valid = self._run(windows)
            single = np.concatenate([self._run(window[None])[0] for window in windows])
        except ScoreFailed as exc:
            msg = f"self-test of {_title(self._manifest)} failed: {exc}"
            raise SelfTestFailed(msg) from exc
        _check_outputs(self._manifest, raw, valid)
        drift = float(np.max(np.abs(raw - single)))
        limit = _REPEATABLE
        if isinstance(self._manifest.decoding, RulDecoding):
            limit = _REPEATABLE_RUL * self._manifest.decoding.max_rul
        if not drift <= limit:
            msg = (
                f"self-test of {_title(self._manifest)} failed: a score changes by {drift:.3g} "
                f"with the size of its batch (limit {limit:.3g}): no layer may mix windows"
            )
            raise SelfTestFailed(msg)

    def _run(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        shape = (self._manifest.window.length, len(self._manifest.channels))
        if windows.ndim != 3 or windows.shape[1:] != shape:
            msg = f"windows have shape {windows.shape}, {_title(self._manifest)} needs [n, {shape}]"
            raise ValueError(msg)
        scaled = scale(windows.astype(np.float32, copy=False), self._manifest.scaler)
        valid = np.isfinite(scaled).all(axis=(1, 2))
        # Operators such as Relu or Max may turn NaN into a number that looks like a score, and
        # nothing not finite may reach the other windows of the batch.
        scaled[~valid] = 0
        outputs = [
            self._infer(scaled[at : at + MAX_BATCH]) for at in range(0, len(scaled), MAX_BATCH)
        ]
        raw = np.concatenate([self._empty_output(), *outputs])
        valid &= np.isfinite(raw).all(axis=tuple(range(1, raw.ndim)))
        return raw, valid

    def _infer(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (output,) = self._session.run(
                [self._manifest.decoding.output], {self._manifest.input: scaled}
            )
        except Exception as exc:  # ONNX Runtime raises a dozen unrelated classes
            msg = f"ONNX Runtime refused {len(scaled)} windows of {_title(self._manifest)}: {exc}"
            raise ScoreFailed(msg) from exc
        wanted = (len(scaled), *self._empty_output().shape[1:])
        if output.shape != wanted or output.dtype != np.float32:
            msg = (
                f"{_title(self._manifest)} gave {output.dtype} of shape {output.shape} "
                f"instead of float32 {wanted}"
            )
            raise ScoreFailed(msg)
        return np.asarray(output)

    def _empty_output(self) -> NDArray[np.float32]:
        decoding = self._manifest.decoding
        shape = (0,) if isinstance(decoding, RulDecoding) else (0, len(decoding.labels))
        return np.empty(shape, dtype=np.float32)


def _open_session(artifact: Artifact) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False  # patterns are kept per batch size, and sizes vary
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without it, bytes that look like ONNX Runtime's own format would skip what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            artifact.onnx_bytes,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # a refused graph would be tried again, with prints on stdout
        )
    except Exception as exc:  # ONNX Runtime raises a dozen unrelated classes
        msg = f"ONNX Runtime does not load model.onnx of {_title(artifact.manifest)}: {exc}"
        raise GraphRefused(msg) from exc


def _decode(manifest: Manifest, raw: NDArray[np.float32], valid: NDArray[np.bool_]) -> Scores:
    decoding = manifest.decoding
    clean = np.where(valid.reshape(-1, *[1] * (raw.ndim - 1)), raw, np.float32(0))
    if not isinstance(decoding, RulDecoding):
        known = np.ones(len(clean), dtype=np.bool_)
        if decoding.unknown is not None:
            known = clean.max(axis=1) >= np.float32(decoding.unknown.threshold)
        return ActivityScores(decoding.labels, clean, clean.argmax(axis=1), valid, known)
    top = np.float32(decoding.max_rul)
    rul = clean.clip(np.float32(0), top)
    if manifest.interval is None:
        return RulScores(rul, rul, rul, valid)
    low, high = (rul + end for end in _ends(manifest.interval, rul))
    return RulScores(rul, low.clip(np.float32(0), top), high.clip(np.float32(0), top), valid)


def _ends(interval: Interval, rul: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Lower and upper end relative to the scores."""
    table = interval.table
    if table is None:
        return tuple(np.full_like(rul, end) for end in (interval.low, interval.high))
    return tuple(
        np.interp(rul, table.rul, ends).astype(np.float32) for ends in (table.low, table.high)
    )


def _test_windows(manifest: Manifest) -> NDArray[np.float32]:
    """Return windows around the middle of the scaler (raw units), and one of raw zeros."""
    shape = (manifest.window.length, len(manifest.channels))
    random = np.random.default_rng(0)
    scaled = np.concatenate(
        [
            np.zeros((1, *shape)),
            random.uniform(-1, 1, (1, *shape)),
            random.normal(0, 1, (4, *shape)),
            np.linspace(-1, 1, shape[0])[None, :, None] * np.ones((1, *shape)),
        ]
    ).astype(np.float32)
    return np.concatenate([unscale(scaled, manifest.scaler), np.zeros((1, *shape), np.float32)])


def _check_outputs(manifest: Manifest, raw: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    if not valid.all():
        row = int(np.flatnonzero(~valid)[0])
        msg = f"self-test of {_title(manifest)} failed: output of window {row} is {raw[row]}"
        raise SelfTestFailed(msg)
    decoding = manifest.decoding
    # The last window is of raw zeros, far from anything a scaler has seen: finite is enough.
    typical = raw[:-1]
    if isinstance(decoding, RulDecoding):
        if typical.min() < -1e-3 or typical.max() > decoding.max_rul * (1 + 1e-5):
            msg = (
                f"self-test of {_title(manifest)} failed: RUL from {typical.min()} to "
                f"{typical.max()} leaves [0, {decoding.max_rul}]: clip it inside the graph"
            )
            raise SelfTestFailed(msg)
        return
    error = float(np.max(np.abs(raw.sum(axis=1) - 1)))
    if error > 1e-3 or raw.min() < 0:
        msg = (
            f"self-test of {_title(manifest)} failed: class probabilities miss the sum 1 by "
            f"{error:.3g} (smallest {raw.min()}): end the graph with Softmax"
        )
        raise SelfTestFailed(msg)


def _title(manifest: Manifest) -> str:
    return f"{manifest.name} v{manifest.version}"

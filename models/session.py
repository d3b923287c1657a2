"""A loaded student: raw windows in, scores out."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from models.errors import GraphRefused, ScoreFailed, SelfTestFailed
from models.features import scaler_arrays, unscale
from models.manifest import Manifest
from models.runtime import ort
from models.tasks.classes import ClassesDecoding, ClassScores
from models.tasks.classfeatures import FEATURES
from models.tasks.contract import Scores
from models.tasks.outputs import Outputs
from models.tasks.registry import find_task

__all__ = ["MAX_BATCH", "Student"]

# Windows per run. Measured with the starter students in the allocator of a gateway, which maps
# large buffers anew each time (`deploy.processes.memory`): the time per window of rul-fd001 is the
# same from 16 to 64, that of har-waist and forecast-transformer is 30 % and 60 % more at 64 than at
# 24, because their intermediate tensors become large. Below 16 the calls cost more.
MAX_BATCH = 24


class Student:
    """A student ready to score; several threads may call it at once.

    ONNX Runtime allows it, and nothing else here changes after the start.

    Raises:
        GraphRefused: ONNX Runtime does not load the graph.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._manifest = artifact.manifest
        self._answer = find_task(artifact.manifest.task).answer
        self._outputs = self._answer.outputs(artifact.manifest.decoding)
        self._scored = self._outputs
        if self.has_features:
            self._scored = {name: dims for name, dims in self._outputs.items() if name != FEATURES}
        self._decode = self._answer.decoder(artifact.manifest.decoding, artifact.manifest.interval)
        self._factor, self._offset = scaler_arrays(artifact.manifest.scaler)
        self._digest = artifact.digest
        self._session = _open_session(artifact)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the loaded artifact."""
        return self._manifest

    @property
    def digest(self) -> str:
        """The digest of the loaded artifact."""
        return self._digest

    def score(self, windows: NDArray[np.float32]) -> Scores:
        """Score a batch of windows.

        Args:
            windows: [batch, length, channels] float32 in raw units, channels in manifest order.
                batch may be 0 or above `MAX_BATCH`.

        Returns:
            One row per window, in order. A window that is not finite, or whose output is not
            finite, has `valid` False and affects no other row. A row changes with the batch around
            it by at most the tolerance of its task's answer; the self-test checks this.

        Raises:
            ValueError: The shape differs from [batch, length, channels] of the manifest.
            ScoreFailed: ONNX Runtime refused the batch; no window has a score.
        """
        return self._decode(*self._run(windows, self._scored), windows)

    @property
    def has_features(self) -> bool:
        """Whether `score_with_features` may be called."""
        decoding = self._manifest.decoding
        return isinstance(decoding, ClassesDecoding) and decoding.features is not None

    def score_with_features(
        self, windows: NDArray[np.float32]
    ) -> tuple[ClassScores, NDArray[np.float32]]:
        """Score a batch of windows as `score` does; the features, [batch, size], are in the scores.

        Raises:
            ValueError: As `score`, or the student has no features.
            ScoreFailed: As `score`.
        """
        if not self.has_features:
            msg = f"{_title(self._manifest)} has no output {FEATURES!r}"
            raise ValueError(msg)
        scores = cast(ClassScores, self._decode(*self._run(windows, self._outputs), windows))
        return scores, np.asarray(scores.features)

    def self_test(self) -> None:
        """Check on made-up windows that the numbers are usable.

        Raises:
            SelfTestFailed: An output is not finite or out of range, probabilities do not sum to 1,
                or a score changes with its batch.
        """
        windows = _test_windows(self._manifest)
        try:
            raw, valid = self._run(windows, self._outputs)
            singles = [self._run(window[None], self._outputs)[0] for window in windows]
        except ScoreFailed as exc:
            msg = f"self-test of {_title(self._manifest)} failed: {exc}"
            raise SelfTestFailed(msg) from exc
        self._check_outputs(raw, valid)
        tolerances = self._answer.tolerance(self._manifest.decoding)
        for name, output in raw.items():
            drift = np.abs(output - np.concatenate([single[name] for single in singles]))
            limit = np.broadcast_to(tolerances[name], drift.shape)
            if not (drift <= limit).all():
                worst = np.unravel_index(np.argmax(drift - limit), drift.shape)
                msg = (
                    f"self-test of {_title(self._manifest)} failed: a score changes by "
                    f"{drift[worst]:.3g} with the size of its batch (limit {limit[worst]:.3g}): no "
                    "layer may mix windows"
                )
                raise SelfTestFailed(msg)

    def _run(
        self, windows: NDArray[np.float32], outputs: Mapping[str, tuple[int, ...]]
    ) -> tuple[Outputs, NDArray[np.bool_]]:
        """The raw values of some outputs, and which rows are valid."""
        shape = (self._manifest.window.length, len(self._manifest.channels))
        if windows.ndim != 3 or windows.shape[1:] != shape:
            msg = f"windows have shape {windows.shape}, {_title(self._manifest)} needs [n, {shape}]"
            raise ValueError(msg)
        valid = np.ones(len(windows), np.bool_)
        parts: list[list[NDArray[np.float32]]] = []
        for at in range(0, len(windows), MAX_BATCH):
            scaled = self._scaled(windows[at : at + MAX_BATCH], valid[at : at + MAX_BATCH])
            parts.append(self._infer(scaled, outputs))
        raw: dict[str, NDArray[np.float32]] = {}
        for place, (name, dims) in enumerate(outputs.items()):
            none = np.empty((0, *dims), dtype=np.float32)
            raw[name] = output = np.concatenate([none, *(part[place] for part in parts)])
            valid &= np.isfinite(output).all(axis=tuple(range(1, output.ndim)))
        return raw, valid

    def _scaled(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Scale windows; those that are not finite become 0, and False in `valid`."""
        with np.errstate(over="ignore", invalid="ignore"):  # as models.features.scale
            scaled = windows.astype(np.float32, copy=False) * self._factor
            scaled += self._offset
            if not np.isfinite(scaled.sum()):  # seldom; the sum of finite numbers may overflow
                valid[:] = np.isfinite(scaled).all(axis=(1, 2))
                # Operators such as Relu or Max may turn NaN into a number that looks like a score,
                # and an infinity could reach the other windows of the batch.
                scaled[~valid] = 0
        return scaled

    def _infer(
        self, scaled: NDArray[np.float32], outputs: Mapping[str, tuple[int, ...]]
    ) -> list[NDArray[np.float32]]:
        """Some outputs of one batch, in their order."""
        try:
            found = self._session.run([*outputs], {self._manifest.input: scaled})
        except Exception as exc:  # ONNX Runtime raises a dozen unrelated classes
            msg = f"ONNX Runtime refused {len(scaled)} windows of {_title(self._manifest)}: {exc}"
            raise ScoreFailed(msg) from exc
        for (name, dims), output in zip(outputs.items(), found, strict=True):
            wanted = (len(scaled), *dims)
            if output.shape != wanted or output.dtype != np.float32:
                msg = (
                    f"{_title(self._manifest)} returned {output.dtype} of shape {output.shape} "
                    f"as {name} instead of float32 {wanted}"
                )
                raise ScoreFailed(msg)
        return list(found)

    def _check_outputs(self, raw: Outputs, valid: NDArray[np.bool_]) -> None:
        if valid.all():
            flaw = self._answer.flaw(raw, self._manifest.decoding)
        else:
            row = int(np.flatnonzero(~valid)[0])
            odd = [output for output in raw.values() if not np.isfinite(output[row]).all()]
            flaw = f"output of window {row} is {(odd or [*raw.values()])[0][row]}"
        if flaw is not None:
            msg = f"self-test of {_title(self._manifest)} failed: {flaw}"
            raise SelfTestFailed(msg)


def _open_session(artifact: Artifact) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False  # patterns are cached per batch size, and sizes vary
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Fused eight-bit kernels saturate on CPUs without VNNI, which makes another student of it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Otherwise bytes in ONNX Runtime's own format would bypass the checks of models.onnxfile.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            artifact.onnx_bytes,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # otherwise a refused graph is retried, with prints on stdout
        )
    except Exception as exc:  # ONNX Runtime raises a dozen unrelated classes
        msg = f"ONNX Runtime does not load model.onnx of {_title(artifact.manifest)}: {exc}"
        raise GraphRefused(msg) from exc


def _test_windows(manifest: Manifest) -> NDArray[np.float32]:
    """Windows around the middle of the scaler, in raw units, and a last one of raw zeros."""
    shape = (manifest.window.length, len(manifest.channels))
    size = shape[0] * shape[1]
    random = Random(0)  # noqa: S311 - no secret; numpy's generators would cost a gateway 3 MB
    normal = [random.gauss(0, 1) for _ in range(size)]
    scaled = np.concatenate(
        [
            np.zeros((1, *shape)),
            np.reshape([random.uniform(-1, 1) for _ in range(size)], (1, *shape)),
            [np.reshape(np.roll(normal, shift), shape) for shift in range(4)],
            np.linspace(-1, 1, shape[0])[None, :, None] * np.ones((1, *shape)),
        ]
    ).astype(np.float32)
    return np.concatenate([unscale(scaled, manifest.scaler), np.zeros((1, *shape), np.float32)])


def _title(manifest: Manifest) -> str:
    return f"{manifest.name} v{manifest.version}"

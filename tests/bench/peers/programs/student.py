"""What a script has to know of a student to score with it: session, scaler and window."""

from __future__ import annotations

import json
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Student:
    """A student from its folder (`model.onnx` and `manifest.json`).

    Attributes:
        names: Channels, in their order.
        length: Readings of a full window.
        first: Readings before the first score.
        hop: Readings between two windows.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._input, self._output = manifest["input"], manifest["decoding"]["output"]
        self._scale = np.array(manifest["scaler"]["scale"], np.float32)
        self._offset = np.array(manifest["scaler"]["offset"], np.float32)
        self.names = [channel["name"] for channel in manifest["channels"]]
        window = manifest["window"]
        self.length, self.hop, self.first = (
            window[key] for key in ("length", "hop", "min_readings")
        )

    def run(self, windows: Any) -> Any:
        """Score raw windows `[n, length, channels]`; returns `[n, outputs]`."""
        scaled = windows * self._scale + self._offset
        scores = self._session.run([self._output], {self._input: scaled})[0]
        return scores.reshape(len(windows), -1)

    def is_due(self, readings: int) -> bool:
        """Whether a window ends with this reading (the first one is 1)."""
        return readings >= self.first and (readings - self.first) % self.hop == 0

    def window(self, rows: Any) -> Any:
        """The last readings of a device as a window; the first one fills what is missing."""
        window = np.array(rows, dtype=np.float32)[-self.length :]
        missing = self.length - len(window)
        if missing > 0:
            window = np.concatenate([np.repeat(window[:1], missing, axis=0), window])
        return window

    def rows(self, message: dict[str, Any]) -> list[tuple[int, list[float]]]:
        """The readings of a decoded message: event time in ms, values."""
        values = message["values"]
        if "ts" in message:
            return [(message["ts"], [values[name] for name in self.names])]
        columns = zip(*[values[name] for name in self.names])  # noqa: B905 also Python 3.9
        at, step = message["t0"], message["dt_ms"]
        return [(at + n * step, list(row)) for n, row in enumerate(columns)]


class Progress:
    """Counts that a peer writes into a file and the benchmark reads: readings, scores, state.

    State is 0 before the peer is ready and 1 afterwards. The benchmark sets 2 for a peer that has
    to be told when to begin.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 24)

    @staticmethod
    def create(path: str | os.PathLike[str]) -> Progress:
        """Make the file; all counts are zero."""
        Path(path).write_bytes(bytes(24))
        return Progress(path)

    def set(self, readings: int, scores: int, state: int = 1) -> None:
        """Tell how far this process is."""
        self._map[:24] = struct.pack("<qqq", readings, scores, state)

    def get(self) -> tuple[int, int, int]:
        """Readings, scores and state."""
        return struct.unpack("<qqq", self._map[:24])  # type: ignore[return-value]

"""Export of a forecasting student: the ONNX graph with forecast and backtest.

The graph gets one window, `[batch, length + backtest, channels]`, as the manifest's scaler leaves
it, and runs the student twice in one batch: on the newest `length` readings, and on the `length`
readings before the newest `backtest`. Both outputs are in raw units. Nothing that only training
needs is in the graph.
"""

from __future__ import annotations

import copy
import io
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.manifest import Scaler
from models.runtime import ort
from training.errors import ExportError, MissingExtraError
from training.export.artifact import MAX_STUDENT_BYTES, OPSET, PARITY
from training.export.quantize import quantize
from training.students.normalise import Forecaster

__all__ = [
    "FORECAST_OUTPUTS",
    "MAX_DIFFERENCE",
    "ForecastGraph",
    "GraphTimes",
    "check_graph",
    "export_forecaster",
    "largest_difference",
    "quantize_forecaster",
    "run_graph",
    "time_graph",
]

FORECAST_OUTPUTS = ("forecast", "backtest")
MAX_DIFFERENCE = 0.1
"""Largest difference of a student in eight bits from float32, in deviations of the channel."""
_CALIBRATION = 512  # windows that set the ranges of eight-bit activations
_BLOCKS = 30
_WINDOWS = 100
_BATCH = 64


class ForecastGraph(nn.Module):
    """The graph for gateways around a trained student.

    Args:
        student: Student with its band set.
        scaler: Scaler of the manifest; the graph undoes it at the end.
        backtest: Newest readings that are forecast from what came before them.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, student: Forecaster, scaler: Scaler, backtest: int) -> None:
        super().__init__()
        self.student = student
        self.backtest = backtest
        self.channels = len(scaler.scale)
        scale = torch.tensor(scaler.scale, dtype=torch.float64)
        offset = torch.tensor(scaler.offset, dtype=torch.float64)
        self.register_buffer("factor", (1 / scale).float()[:, None])
        self.register_buffer("offset", (-offset / scale).float()[:, None])

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast scaled windows `[batch, length + backtest, channels]`.

        Returns:
            `forecast` `[batch, horizon, channels, 3]` and `backtest`
            `[batch, backtest, channels, 3]`, quantiles p10, p50, p90 in raw units.
        """
        newest, before = windows[:, self.backtest :], windows[:, : -self.backtest]
        quantiles = self.student(torch.cat([newest, before]))
        raw = quantiles * self.factor + self.offset
        steps = (self.student.horizon, self.channels, 3)
        both = raw.reshape(2, -1, *steps)
        past = both[1][:, : self.backtest]
        return both[0].reshape(-1, *steps), past.reshape(-1, self.backtest, *steps[1:])


@dataclass(frozen=True, slots=True)
class GraphTimes:
    """Time of one window in ONNX Runtime at batch 1 on one thread, in milliseconds."""

    p50_ms: float
    p99_ms: float


def export_forecaster(graph: ForecastGraph, channels: int) -> bytes:
    """Export the graph; it accepts any batch size.

    Raises:
        ExportError: The graph is larger than a student may be.
    """
    graph = copy.deepcopy(graph).eval()
    length = graph.student.length + graph.backtest
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # As in training.export.artifact.export_onnx.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        torch.onnx.export(
            graph,
            (torch.zeros(2, length, channels),),
            buffer,  # type: ignore[arg-type]  # a file object works, the stubs know paths only
            input_names=["windows"],
            output_names=list(FORECAST_OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("windows", *FORECAST_OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    steps = {"forecast": graph.student.horizon, "backtest": graph.backtest}
    onnx = _state_sizes(buffer.getvalue(), {name: [steps[name], channels, 3] for name in steps})
    if len(onnx) > MAX_STUDENT_BYTES:
        msg = (
            f"the graph has {len(onnx)} bytes, and a student may have at most {MAX_STUDENT_BYTES}: "
            "use a smaller width, rank or committee in the recipe"
        )
        raise ExportError(msg)
    return onnx


def run_graph(onnx: bytes, scaled: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Run a graph on scaled windows in batches of 64: `forecast` and `backtest`, raw units."""
    session = _session(onnx)
    found = [
        session.run(list(FORECAST_OUTPUTS), {"windows": scaled[at : at + _BATCH]})
        for at in range(0, len(scaled), _BATCH)
    ]
    return [np.concatenate([batch[place] for batch in found]) for place in range(2)]


def largest_difference(
    found: list[NDArray[np.float32]], wanted: list[NDArray[np.float32]], scaler: Scaler
) -> float:
    """Largest difference of two runs, in standard deviations of the channel."""
    scale = np.array(scaler.scale, dtype=np.float64)[:, None]
    return max(
        float(np.abs((one.astype(np.float64) - other) * scale).max())
        for one, other in zip(found, wanted, strict=True)
    )


def check_graph(
    onnx: bytes, graph: ForecastGraph, scaler: Scaler, scaled: NDArray[np.float32]
) -> float:
    """Check that ONNX Runtime gives the numbers of the trained student.

    The limit is 1e-5 of the channel's deviation. Beyond it the graph may differ from the student in
    float64 by twice as much as the student in float32 does: that is rounding.

    Args:
        onnx: Exported graph.
        graph: The same graph in torch.
        scaler: Scaler of the manifest.
        scaled: Windows `[n, length + backtest, channels]` to compare on, scaled.

    Returns:
        The largest difference, in deviations of the channel.

    Raises:
        ExportError: The two differ.
    """
    found = run_graph(onnx, scaled)
    wanted = _run_torch(graph, scaled, torch.float32)
    apart = largest_difference(found, wanted, scaler)
    if apart <= PARITY:
        return apart
    exact = _run_torch(graph, scaled, torch.float64)
    if largest_difference(found, exact, scaler) <= 2 * largest_difference(wanted, exact, scaler):
        return apart
    msg = (
        f"ONNX Runtime and the trained student differ by {apart:.3g} deviations (limit {PARITY}), "
        "so no artifact was written: check the operators of the student"
    )
    raise ExportError(msg)


def quantize_forecaster(
    onnx: bytes,
    scaled: NDArray[np.float32],
    scaler: Scaler,
    checked: NDArray[np.float32],
) -> bytes:
    """Quantise the dense layers and convolutions to eight bits; the ridge stays in float32.

    Args:
        onnx: Graph in float32.
        scaled: Training windows `[n, length + backtest, channels]`, scaled; 512 of them, spread
            evenly, give the ranges of the activations.
        scaler: Scaler of the manifest.
        checked: Later windows of the same shape, scaled, on which both graphs are compared.

    Raises:
        ExportError: A number differs from the graph in float32 by more than `MAX_DIFFERENCE`.
    """
    some = np.unique(np.linspace(0, len(scaled) - 1, _CALIBRATION).astype(int))
    small = quantize(onnx, scaled[some], float_inputs=True)
    apart = largest_difference(run_graph(small, checked), run_graph(onnx, checked), scaler)
    if not apart <= MAX_DIFFERENCE:
        msg = (
            f"in eight bits a forecast differs by {apart:.3g} deviations of its channel (limit "
            f"{MAX_DIFFERENCE}): ship the student in float32"
        )
        raise ExportError(msg)
    return small


def time_graph(onnx: bytes, scaled: NDArray[np.float32]) -> GraphTimes:
    """Time single windows; of thirty blocks of 100 windows the one with the lowest p99 counts.

    On a machine that does other work, a slower block shows when the process was preempted.
    """
    session = _session(onnx)
    blocks = []
    for _ in range(_BLOCKS):
        taken = np.empty(_WINDOWS)
        for index in range(_WINDOWS):
            window = scaled[index % len(scaled)][None]
            began = time.perf_counter_ns()
            session.run(list(FORECAST_OUTPUTS), {"windows": window})
            taken[index] = (time.perf_counter_ns() - began) / 1e6
        blocks.append(np.quantile(taken, [0.5, 0.99]))
    p50, p99 = min(blocks, key=lambda quantiles: float(quantiles[1]))
    return GraphTimes(round(float(p50), 4), round(float(p99), 4))


def _state_sizes(onnx_bytes: bytes, sizes: dict[str, list[int]]) -> bytes:
    """Write the sizes of the outputs into the graph: the exporter loses them behind the batch."""
    try:
        import onnx
    except ImportError as exc:
        module = "onnx"
        raise MissingExtraError(module) from exc
    model = onnx.load_model_from_string(onnx_bytes)
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim[1:]
        for dim, size in zip(dims, sizes[output.name], strict=True):
            dim.dim_value = size
    found: bytes = model.SerializeToString()
    return found


def _run_torch(
    graph: ForecastGraph, scaled: NDArray[np.float32], precision: torch.dtype
) -> list[NDArray[np.float32]]:
    graph = copy.deepcopy(graph).eval().to(precision)
    found = []
    with torch.no_grad():
        for at in range(0, len(scaled), _BATCH):
            batch = torch.from_numpy(scaled[at : at + _BATCH]).to(precision)
            found.append([output.numpy() for output in graph(batch)])
    return [np.concatenate([batch[place] for batch in found]) for place in range(2)]


def _session(onnx: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(onnx, sess_options=options, providers=["CPUExecutionProvider"])

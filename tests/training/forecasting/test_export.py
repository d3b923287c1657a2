"""The exported graph: parity, the backtest, size, eight bits, nothing but the student."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.features import scale, unscale  # noqa: E402
from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.errors import ExportError  # noqa: E402
from training.export.quantize import quantize  # noqa: E402
from training.forecasting.export import (  # noqa: E402
    ForecastGraph,
    check_graph,
    export_forecaster,
    largest_difference,
    quantize_forecaster,
    run_graph,
    time_graph,
)
from training.forecasting.loop import train_student  # noqa: E402
from training.forecasting.quantiles import set_bands  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402
from training.students.forecasters import STUDENTS  # noqa: E402

pytestmark = pytest.mark.needs_training

LENGTH, BACKTEST, HORIZON = 40, 6, 16
RECIPE = ForecastRecipe(
    data="dummy-forecast", length=LENGTH, horizon=HORIZON, backtest=BACKTEST, leads=(1,), width=16,
    rank=4, patch=8, epochs=1, steps=4,
)  # fmt: skip
DATA = make_dummy_series(readings=500)
SCALER = DATA.scaler()


def trained_graph(student, **changes):
    recipe = dataclasses.replace(RECIPE, student=student, **changes)
    trained = train_student(recipe, DATA)
    set_bands(trained, DATA, recipe)
    return ForecastGraph(trained.student, SCALER, BACKTEST)


@pytest.fixture(scope="module", params=STUDENTS)
def exported(request):
    graph = trained_graph(request.param)
    return graph, export_forecaster(graph, len(DATA.channels))


def raw_windows(count=70):
    length = LENGTH + BACKTEST
    return unscale(DATA.windows("validation", length, HORIZON).inputs(slice(0, count)), SCALER)


def test_onnx_runtime_gives_the_numbers_of_the_student(exported):
    graph, onnx = exported

    apart = check_graph(onnx, graph, SCALER, scale(raw_windows(), SCALER))

    assert apart < 1e-4


def test_outputs_are_the_forecasts_of_both_look_backs_in_raw_units(exported):
    graph, onnx = exported
    scaled = scale(raw_windows(5), SCALER)

    forecast, backtest = run_graph(onnx, scaled)

    with torch.no_grad():
        newest = graph.student(torch.from_numpy(scaled[:, BACKTEST:])).numpy()
        before = graph.student(torch.from_numpy(scaled[:, :LENGTH])).numpy()[:, :BACKTEST]
    factor = 1 / np.array(SCALER.scale)[:, None]
    offset = -np.array(SCALER.offset)[:, None] * factor
    assert forecast.shape == (5, HORIZON, 3, 3)
    assert backtest.shape == (5, BACKTEST, 3, 3)
    assert np.allclose(forecast, newest * factor + offset, atol=1e-4)
    assert np.allclose(backtest, before * factor + offset, atol=1e-4)


def test_the_backtest_is_the_forecast_that_was_made_then(exported):
    _, onnx = exported
    scaled = scale(raw_windows(BACKTEST + 1), SCALER)

    forecast, backtest = run_graph(onnx, scaled)

    # Window i ends i readings after window 0, so its backtest starts where window 0 ended.
    assert np.allclose(backtest[BACKTEST], forecast[0, :BACKTEST], atol=1e-4)


def test_a_constant_and_a_huge_window_give_finite_ordered_quantiles(exported):
    _, onnx = exported
    windows = np.stack([np.zeros((46, 3)), np.full((46, 3), 1e4)]).astype(np.float32)

    for output in run_graph(onnx, windows):
        assert np.isfinite(output).all()
        assert (np.diff(output, axis=3) >= 0).all()


def test_another_graph_is_refused(exported):
    graph, onnx = exported
    other = ForecastGraph(graph.student, SCALER, BACKTEST)
    other.offset = other.offset + 0.01

    with pytest.raises(ExportError, match="check the operators"):
        check_graph(onnx, other, SCALER, scale(raw_windows(), SCALER))


def test_a_student_above_the_limit_is_refused():
    graph = trained_graph("mlp", width=512)

    with pytest.raises(ExportError, match="at most 400000"):
        export_forecaster(graph, len(DATA.channels))


def network_graph():
    """A network whose last layer moves the forecast as a trained one does."""
    graph = trained_graph("mlp", width=64)
    torch.manual_seed(0)
    torch.nn.init.normal_(graph.student.body.members[0].head[1].weight, std=0.5)
    return graph, export_forecaster(graph, len(DATA.channels))


def test_eight_bits_stay_near_and_are_timed():
    _, onnx = network_graph()
    scaled = scale(raw_windows(), SCALER)

    small = quantize_forecaster(onnx, scaled, SCALER, scaled)

    assert len(small) < 0.9 * len(onnx)  # the graph is small, its nodes are not
    assert 0 < largest_difference(run_graph(small, scaled), run_graph(onnx, scaled), SCALER) < 0.1
    times = time_graph(small, scaled)
    assert 0 < times.p50_ms <= times.p99_ms


def test_a_quiet_window_with_one_jump_is_not_clipped_in_eight_bits():
    _, onnx = network_graph()
    scaled = scale(raw_windows(), SCALER)
    jump = 0.01 * np.random.default_rng(0).normal(size=(5, LENGTH + BACKTEST, 3))
    jump[:, LENGTH - 3] += 4.0
    jump = jump.astype(np.float32)

    small = quantize_forecaster(onnx, scaled, SCALER, jump)

    # Normalised, the jump is beyond every reading of the calibration windows.
    apart, clipped = (
        largest_difference(run_graph(one, jump), run_graph(onnx, jump), SCALER)
        for one in (small, quantize(onnx, scaled))
    )
    assert apart < 0.1
    assert clipped > 3 * apart


def test_eight_bits_far_from_the_student_are_refused():
    _, onnx = network_graph()
    scaled = scale(raw_windows(), SCALER)

    with pytest.raises(ExportError, match="ship the student in float32"):
        quantize_forecaster(onnx, np.zeros_like(scaled), SCALER, scaled)

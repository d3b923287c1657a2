"""Forecasting students: shapes, the start from the ridge, normalisation, the band."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.students.forecasters import STUDENTS, build_forecaster  # noqa: E402
from training.students.normalise import knot_leads  # noqa: E402
from training.students.ridge import RidgeFactors  # noqa: E402

pytestmark = pytest.mark.needs_training

LENGTH, HORIZON = 50, 20
NETWORKS = [name for name in STUDENTS if name not in ("ridge", "dlinear")]


def factors():
    random = np.random.default_rng(0)
    down = random.normal(0, 0.1, (LENGTH, 4)).astype(np.float32)
    up = random.normal(0, 0.1, (4, HORIZON)).astype(np.float32)
    return RidgeFactors(down, up, 0.1, 1.0)


def build(student, **sizes):
    torch.manual_seed(0)
    known = dict(width=8, rank=4, patch=12, blocks=1, members=1, dropout=0.2)
    return build_forecaster(student, factors(), **{**known, **sizes}).eval()


def windows(channels=3):
    random = torch.Generator().manual_seed(1)
    return 5 + 3 * torch.randn(6, LENGTH, channels, generator=random)


def moved(student):
    """A student as after training: no weight is zero."""
    torch.manual_seed(2)
    with torch.no_grad():
        for weights in student.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    return student


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_quantiles_of_every_step_and_channel_are_ordered(student, channels):
    found = moved(build(student))(windows(channels))

    assert found.shape == (6, HORIZON, channels, 3)
    assert (found.diff(dim=3) >= 0).all()


@pytest.mark.parametrize("student", NETWORKS)
def test_an_untrained_network_forecasts_as_the_ridge(student):
    for members in (1, 2):
        middle = build(student, members=members)(windows())[..., 1]

        assert torch.allclose(middle, build("ridge")(windows())[..., 1], atol=1e-5)


@pytest.mark.parametrize("student", STUDENTS)
def test_a_channel_does_not_see_the_others(student):
    net, inputs = moved(build(student)), windows()
    changed = inputs.clone()
    changed[:, :, 2] += torch.randn(6, LENGTH)

    before, after = net(inputs), net(changed)

    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2], after[:, :, 2])


@pytest.mark.parametrize("student", STUDENTS)
def test_level_and_scale_of_a_window_pass_through(student):
    net, inputs = moved(build(student)), windows()

    before, after = net(inputs), net(16 * inputs - 40)

    assert torch.allclose(after[..., 1], 16 * before[..., 1] - 40, atol=2e-2)
    assert torch.allclose(after, 16 * before - 40, atol=0.2)


def test_a_band_with_the_power_of_a_half_grows_with_the_root_of_the_scale():
    net, inputs = moved(build("mlp", power=0.5)), windows()

    wide, narrow = (found[..., 2] - found[..., 1] for found in (net(16 * inputs), net(inputs)))

    assert torch.allclose(wide, 4 * narrow, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("student", STUDENTS)
def test_a_constant_channel_is_forecast_as_constant(student):
    inputs = windows()
    inputs[:, :, 1] = 7.0

    found = moved(build(student))(inputs)

    assert torch.isfinite(found).all()
    # The deviation of a constant channel is sqrt(1e-5), so p50 adds next to nothing.
    assert (found[:, :, 1, 1] - 7.0).abs().max() < 0.1


def test_the_loss_of_the_band_does_not_reach_the_body():
    net = moved(build("mlp"))
    series = windows().transpose(1, 2).reshape(-1, LENGTH)

    net.knot_widths(net.forecast(series)[2]).sum().backward()

    assert net.width.weight.grad is not None
    assert all(weights.grad is None for weights in net.body.parameters())


def test_widths_between_two_knots_lie_on_a_line():
    net = build("mlp")
    knots = knot_leads(HORIZON)
    widths = torch.arange(len(knots), dtype=torch.float32) ** 2

    found = widths @ net.between

    assert torch.allclose(found[knots], widths)
    middle = (knots[3] + knots[5]) // 2
    assert knots[3] < middle < knots[5]
    line = np.interp(range(HORIZON), knots, widths.numpy())
    assert np.allclose(found.numpy(), line, atol=1e-5)


def test_dlinear_of_low_rank_is_smaller():
    sizes = [
        sum(weights.numel() for weights in build("dlinear", rank=rank).parameters())
        for rank in (0, 4)
    ]

    assert sizes == [2 * (LENGTH * HORIZON + HORIZON), 2 * (LENGTH * 4 + 4 * HORIZON + HORIZON)]

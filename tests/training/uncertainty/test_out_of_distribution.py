"""The out-of-distribution guard: distances against numpy, and their effect on probabilities."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.uncertainty.out_of_distribution import (  # noqa: E402
    OutOfDistributionGuard,
    _statistics,
    fit_class_distance,
    measure_distances,
    shrink_probabilities,
)

pytestmark = pytest.mark.needs_training


@pytest.fixture(scope="module")
def people():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], 60)  # class 2 does not occur
    windows = random.normal(0, 1, (180, 40, 3)) * (1 + labels)[:, None, None]
    return torch.from_numpy(windows.astype(np.float32)), labels


def test_the_statistics_are_those_of_numpy(people):
    values = people[0].numpy()
    found = _statistics(people[0]).numpy()
    time = np.linspace(-1, 1, 40)
    wanted = [
        values.mean(axis=1),
        values.std(axis=1),
        values.min(axis=1),
        values.max(axis=1),
        values[:, -1],
        values[:, -8:].mean(axis=1),
        np.einsum("nlc,l->nc", values, time) / (time**2).sum(),
        np.abs(np.diff(values, axis=1)).mean(axis=1),
    ]
    np.testing.assert_allclose(found, np.concatenate(wanted, axis=1), atol=1e-5)


def test_the_distance_is_that_of_mahalanobis_to_the_nearest_activity(people):
    windows, labels = people
    values = _statistics(windows).numpy().astype(np.float64)
    middle, spread = values.mean(axis=0), values.std(axis=0)
    values = (values - middle) / spread
    means = [values[labels == label].mean(axis=0) for label in (0, 1, 3)]
    scatter = values - np.array(means)[np.searchsorted([0, 1, 3], labels)]
    inverse = np.linalg.inv(scatter.T @ scatter / 180 + 0.01 * np.eye(24))
    wanted = np.sqrt(
        np.min([np.einsum("ij,jk,ik->i", values - m, inverse, values - m) for m in means], axis=0)
    )
    found = measure_distances(fit_class_distance(windows, labels), windows)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_windows_of_another_kind_are_farther_than_nearly_all_known_ones(people):
    distance = fit_class_distance(*people)
    known = measure_distances(distance, people[0])
    ramp = torch.linspace(-3, 3, 40)[None, :, None].expand(5, -1, 3)
    assert measure_distances(distance, ramp).min() > np.quantile(known, 0.99)


def test_probabilities_keep_their_order_and_go_below_the_ceiling():
    rows = torch.tensor([[0.98, 0.01, 0.01]] * 4)
    distances = torch.tensor([1.0, 9.5, 9.75, 10.0])
    found = shrink_probabilities(rows, distances, max_distance=10.0, ceiling=0.6)
    torch.testing.assert_close(found[:2], rows[:2])
    assert 0.6 < float(found[2].max()) < 0.98
    assert float(found[3].max()) <= 0.6
    assert (found.argmax(dim=1) == 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))
    sure = shrink_probabilities(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1e9]), 10.0, 0.6)
    assert float(sure.max()) == pytest.approx(0.6)


def test_windows_of_a_batch_do_not_influence_each_other(people):
    distance = fit_class_distance(*people)
    middle = float(np.median(measure_distances(distance, people[0])))
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(120, 3), torch.nn.Softmax(1))
    guard = OutOfDistributionGuard(student, distance, middle, 0.5).eval()
    with torch.no_grad():
        whole = guard(people[0])
        torch.testing.assert_close(whole[7:8], guard(people[0][7:8]), atol=1e-5, rtol=1e-5)
    far = measure_distances(distance, people[0]) >= middle
    assert (whole[torch.from_numpy(far)].max(dim=1).values <= 0.5 + 1e-6).all()

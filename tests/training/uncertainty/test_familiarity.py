"""The familiarity of students of numbers, on made-up engines whose condition is known."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import write_artifact  # noqa: E402
from models.features import scale  # noqa: E402
from models.manifest import Draft  # noqa: E402
from models.session import Student  # noqa: E402
from models.tasks.familiarity import MAX_DISTANCE  # noqa: E402
from models.tasks.number import Interval  # noqa: E402
from training.candidate import train_candidate  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.export.quantize import quantize  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402
from training.students.conditions import fit_conditions  # noqa: E402
from training.uncertainty.familiarity import (  # noqa: E402
    REJECTS,
    FamiliarStudent,
    Shifted,
    fit_familiarity,
    fit_stage_distance,
    measure_stage_distances,
)
from training.windows import WindowSet, join_windows  # noqa: E402

pytestmark = pytest.mark.needs_training


@pytest.fixture(scope="module", params=[0, 3], ids=["held-out", "folds"])
def candidate(request, tmp_path_factory):
    recipe = shipped_recipe("rul-fd001", epochs=3, method="none", folds=request.param)
    folder = tmp_path_factory.mktemp("run")
    return train_candidate(make_dummy("rul", groups=20), recipe, "student", folder, command="test")


def test_own_windows_are_familiar_and_those_of_another_condition_are_not(candidate):
    student = Student(candidate.artifact)
    student.self_test()
    own = make_dummy("rul", groups=60).train
    own = own.windows[own.groups >= 20]
    spread = candidate.held_out.windows.mean(axis=1).std(axis=0)
    shifted = own + 3 * spread * np.where(np.arange(len(spread)) % 2, 1, -1).astype(np.float32)
    assert student.score(own).unfamiliar.mean() <= 0.15
    assert student.score(shifted).unfamiliar.mean() >= 0.9
    rule = candidate.artifact.manifest.decoding.familiar
    assert rule.rejects <= REJECTS
    assert candidate.artifact.manifest.metrics["calibration"]["unfamiliar_share"] == rule.rejects


def test_an_interval_widens_with_the_shift_up_to_the_whole_range(candidate):
    student = Student(candidate.artifact)
    own = candidate.held_out.windows[::50]
    scores = [student.score(own + np.float32(size)) for size in (0, 1e3, 1e5)]
    widths = [(score.high - score.low).mean() for score in scores]
    assert widths[0] < widths[1] == widths[2] == 125


def test_eight_bits_do_not_change_the_distance(candidate, tmp_path):
    whole, windows = candidate.artifact, candidate.held_out.windows
    onnx = quantize(whole.onnx_bytes, scale(windows, whole.manifest.scaler))
    content = {field: getattr(whole.manifest, field) for field in Draft.model_fields}
    small = Student(write_artifact(tmp_path / "int8", Draft(**content), onnx))
    small.self_test()
    found, wanted = small.score(windows), Student(whole).score(windows)
    assert not np.array_equal(found.rul, wanted.rul)
    np.testing.assert_allclose(found.distances, wanted.distances, atol=1e-3)


def engines(channels: int, *, conditions: int = 0, seed: int = 0) -> WindowSet:
    """Engines that wear from 0 to 1 in all channels, after three settings if there are any."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(100)[::-1], 10).astype(np.int64)
    wear = (1 - labels / 100)[:, None, None] * np.linspace(0.5, 1, channels)
    values = wear + random.normal(0, 0.05, (1000, 12, channels))
    if conditions:
        at = 10.0 * random.integers(0, conditions, (1000, 12))
        values += at[:, :, None]
        settings = np.stack([at, at / 100, 100 + 0 * at], axis=2)
        settings[:, :, :2] += random.normal(0, 1e-3, (1000, 12, 2))
        values = np.concatenate([settings, values], axis=2)
    return WindowSet(values.astype(np.float32), labels, np.repeat(np.arange(10), 100))


def test_a_worn_engine_is_not_lost():
    own, new = engines(4), engines(4, seed=1)
    distance = fit_stage_distance(torch.from_numpy(own.windows), own.labels, 99, 12)
    far = measure_stage_distances(torch.nn.Identity(), distance, torch.from_numpy(new.windows))
    limit = np.quantile(far, 0.97)
    for low, high in ((0, 8), (8, 50), (50, 100)):
        chosen = (new.labels >= low) & (new.labels < high)
        assert np.mean(far[chosen] > limit) < 0.1
    reversed_wear = new.windows.copy()
    reversed_wear[:, :, 0] = 0.5 - reversed_wear[:, :, 0]
    far = measure_stage_distances(torch.nn.Identity(), distance, torch.from_numpy(reversed_wear))
    assert np.mean(far[new.labels < 10] > limit) > 0.95


@pytest.mark.parametrize("channels", [4, 40])
def test_the_distance_is_that_of_mahalanobis_to_the_nearest_stage(channels):
    own = engines(channels)
    distance = fit_stage_distance(torch.from_numpy(own.windows), own.labels, 99, 12)
    assert distance.is_diagonal == (channels == 40)
    found = distance(torch.from_numpy(own.windows)).numpy()
    means = own.windows.mean(axis=1).astype(np.float64)
    spread = means.std(axis=0)
    means /= spread
    stages = np.digitize(own.labels, np.multiply((0.08, 0.2, 0.4, 0.64, 0.88), 99))
    centres = np.stack([means[stages == stage].mean(axis=0) for stage in range(6)])
    scatter = means - centres[stages]
    wanted = []
    for stage in range(6):
        part = scatter[stages == stage]
        cov = 0.7 * part.T @ part / len(part) + 0.3 * scatter.T @ scatter / len(scatter)
        cov += 0.05 * np.trace(cov) / channels * np.eye(channels)
        inverse = np.linalg.inv(cov) if channels == 4 else np.diag(1 / np.diag(cov))
        apart = means - centres[stage]
        wanted.append(np.einsum("ij,jk,ik->i", apart, inverse, apart))
    np.testing.assert_allclose(found, np.sqrt(np.min(wanted, axis=0)), rtol=1e-3)


def test_joined_machines_that_wear_in_two_directions_have_centres_of_their_own():
    def joined(seed: int) -> WindowSet:
        first, second = engines(4, seed=seed), engines(4, seed=seed + 10)
        second.windows[:, :, 2:] *= -1
        return join_windows([first, second])

    own, new = joined(0), joined(1)
    between = engines(4, seed=2).windows[-100:]  # it wears in no direction of its last two channels
    between[:, :, 2:] *= 0
    worn = new.labels < 40
    found = {}
    for has_halves in (False, True):
        distance = fit_stage_distance(
            torch.from_numpy(own.windows), own.labels, 99, 12, has_halves=has_halves
        )
        far = [distance(torch.from_numpy(part)).numpy() for part in (new.windows, between[60:])]
        limit = np.quantile(far[0], 0.97)
        assert np.mean(far[0][worn] > limit) < 0.1
        found[has_halves] = np.mean(far[1] > limit)
    assert len(distance.centres) == 12
    assert found[False] < 0.1
    assert found[True] > 0.9


def test_halves_of_points_that_are_all_the_same_are_no_error():
    same = torch.ones(50, 12, 4)
    distance = fit_stage_distance(same, np.arange(50), 49, 12, has_halves=True)
    assert len(distance.centres) == 6
    assert np.isfinite(distance(same).numpy()).all()


def test_new_settings_are_far_even_where_the_sensors_read_as_usual():
    own = engines(4, conditions=3)
    conditions = fit_conditions(own.windows)
    distance = fit_stage_distance(torch.from_numpy(own.windows), own.labels, 99, 12, conditions)
    student = torch.nn.Sequential(conditions, torch.nn.Identity())
    near = measure_stage_distances(student, distance, torch.from_numpy(own.windows))
    moved = own.windows.copy()
    moved[:, :, 1] += 0.05
    far = measure_stage_distances(student, distance, torch.from_numpy(moved))
    assert np.quantile(near, 0.97) < far.min()


def test_both_outputs_of_a_student_with_conditions_come_from_one_scaling():
    own = engines(4, conditions=3)
    conditions = fit_conditions(own.windows)
    scaled = torch.from_numpy(own.windows)
    distance = fit_stage_distance(scaled, own.labels, 99, 12, conditions)
    body = torch.nn.Flatten()
    student = torch.nn.Sequential(conditions, body)
    numbers, far = FamiliarStudent(student, distance)(scaled)
    np.testing.assert_array_equal(numbers, student(scaled))
    np.testing.assert_array_equal(far, measure_stage_distances(student, distance, scaled))


def test_copies_of_the_first_reading_in_front_of_a_short_window_do_not_count():
    own = engines(4)
    scaled = torch.from_numpy(own.windows)
    distance = fit_stage_distance(scaled, own.labels, 99, 6)
    padded = scaled.clone()
    padded[:, :6] = padded[:, 6:7]
    np.testing.assert_array_equal(distance(padded), distance(scaled))


def test_a_channel_that_never_moves_is_no_reason_to_fail():
    own = engines(4)
    still = own.windows.copy()
    still[:, :, 2] = 0
    distance = fit_stage_distance(torch.from_numpy(still), own.labels, 99, 12)
    far = measure_stage_distances(torch.nn.Identity(), distance, torch.from_numpy(still))
    assert np.isfinite(far).all()
    assert np.median(far) < 10
    assert (distance(torch.full((1, 12, 4), 3e38)) == MAX_DISTANCE).all()


def rule_of(error: float) -> float:
    """How far the interval of a student widens whose errors grow with the distance."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 100)
    distances = random.uniform(0, 10, 2000).astype(np.float32)
    labels = np.full(2000, 60)
    beyond = np.maximum(distances - 9.7, 0)
    far = random.uniform(0, 60, 2000).astype(np.float32)
    beyond = np.maximum(far / 9.7 - 1, 0)
    scored = (60 + error * beyond * random.choice([-1, 1], 2000)).astype(np.float32)
    interval = Interval(level=0.9, low=-10.0, high=10.0)
    shifted = Shifted(scored, far, labels, groups, np.zeros(2000, np.bool_))
    rule = fit_familiarity(distances, groups, shifted, interval, 125)
    low = np.clip(scored - 10, 0, 125)
    share = np.clip((far - rule.limit) / (rule.whole - rule.limit), 0, 1)
    inside = (low * (1 - share) <= 60) & (60 <= scored + 10 + (115 - scored) * share)
    assert inside[far > rule.limit].mean() > 0.85
    return rule.whole / rule.limit


def test_an_interval_widens_the_faster_the_larger_the_errors_are():
    assert rule_of(0) > rule_of(30) > rule_of(100)


def test_no_joined_set_has_more_of_its_windows_beyond_the_limit_than_it_may():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 100)
    sets = (groups >= 30).astype(np.int64)
    distances = (random.uniform(0, 10, 4000) * (1 + 0.5 * sets)).astype(np.float32)
    same = np.zeros(4000, np.int64)
    shifted = Shifted(distances, distances, same, groups, np.zeros(4000, np.bool_))
    interval = Interval(level=0.9, low=-10.0, high=10.0)
    one, each = (
        fit_familiarity(distances, groups, shifted, interval, 125, which) for which in (None, sets)
    )
    assert np.mean(distances[sets == 1] > one.limit) > 2 * REJECTS
    assert np.mean(distances[sets == 1] > each.limit) == pytest.approx(REJECTS, abs=2e-3)
    assert each.rejects == pytest.approx(np.mean(distances > each.limit))
    assert each.rejects < REJECTS


def test_a_task_of_numbers_without_a_familiarity_trains_as_before(tmp_path):
    data = replace(make_dummy("rul", groups=6), name="small")
    recipe = shipped_recipe("rul-fd001", epochs=1, method="none")
    made = train_candidate(data, recipe, "few", tmp_path, command="test")
    assert made.artifact.manifest.decoding.familiar is not None

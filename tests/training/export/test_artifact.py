import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact  # noqa: E402
from models.features import scale  # noqa: E402
from models.session import Student  # noqa: E402
from models.tasks.familiarity import MAX_DISTANCE  # noqa: E402
from training.candidate import recipe_of, train_candidate  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.errors import ExportError  # noqa: E402
from training.export.artifact import MAX_STUDENT_BYTES, PARITY, export_artifact, score_raw  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402
from training.uncertainty.familiarity import FamiliarStudent, StageDistance  # noqa: E402

pytestmark = pytest.mark.needs_training
NAMES = {"rul": "rul-fd001", "activity": "har-waist"}


@pytest.fixture(scope="module", params=[("rul", "kp"), ("rul", "none"), ("activity", "kp")])
def candidate(request, tmp_path_factory):
    task, method = request.param
    recipe = shipped_recipe(NAMES[task], epochs=2, method=method)
    folder = tmp_path_factory.mktemp("run")
    return train_candidate(make_dummy(task), recipe, "student", folder, command="test --x")


def test_the_artifact_scores_as_the_trained_student_in_batches_of_any_size(candidate):
    student = Student(candidate.artifact)
    windows = candidate.held_out.windows
    for size in (1, 7, 64, len(windows)):
        parts = [score_raw(student, windows[at : at + size]) for at in range(0, 70, size)]
        found = np.concatenate(parts)
        limit = PARITY * (125 if found.ndim == 1 else 1)
        np.testing.assert_allclose(found, candidate.scored[: len(found)], atol=limit, rtol=0)


def test_the_manifest_has_everything_a_gateway_needs(candidate):
    manifest = read_artifact(candidate.artifact.path).manifest
    data = make_dummy(manifest.task)
    assert manifest.channels == data.channels
    assert (manifest.window.length, manifest.window.hop) == (data.length, data.hop)
    assert manifest.stream == data.stream
    assert manifest.metrics["held_out"] == candidate.metrics
    assert manifest.onnx.size_bytes < MAX_STUDENT_BYTES
    assert (manifest.interval is not None) == (manifest.task == "rul")


def test_the_lineage_contains_the_whole_recipe(candidate):
    lineage = candidate.artifact.manifest.lineage
    recipe = recipe_of(candidate.artifact)
    assert recipe == shipped_recipe(NAMES[recipe.task], epochs=2, method=recipe.method)
    assert lineage.command.startswith("# test --x\n")
    assert lineage.data_digest == make_dummy(recipe.task).digest
    assert (lineage.teacher is None) == (recipe.method == "none")
    held_out = [int(word) for word in lineage.data.split() if word.isdigit()]
    assert held_out == sorted(set(candidate.held_out.groups.tolist()))


def test_the_scaler_has_not_seen_held_out_windows(candidate):
    manifest = candidate.artifact.manifest
    data = make_dummy(manifest.task)
    seen = data.train.without_groups(np.unique(candidate.held_out.groups))
    scaled = scale(seen.windows, manifest.scaler)
    if manifest.task == "rul":
        np.testing.assert_allclose(scaled.min(axis=(0, 1)), 0, atol=1e-4)
        np.testing.assert_allclose(scaled.max(axis=(0, 1)), 1, atol=1e-4)
    else:
        np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-4)
        np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=1e-4)


class Unequal(torch.nn.Module):
    """Trained module whose graph differs from it, because tracing freezes a constant."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, windows):
        self.calls += 1
        return windows.mean(dim=(1, 2)) * 0 + float(self.calls)


def test_no_artifact_is_written_when_the_graph_disagrees(candidate, tmp_path):
    draft = with_one_output(candidate.artifact.manifest)
    if draft.task != "rul":
        return  # one output shape is enough
    with pytest.raises(ExportError, match="no artifact was written"):
        export_artifact(Unequal(), draft, candidate.held_out.windows, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


class Step(torch.nn.Module):
    """A step of one cycle at the mean 0.5, which the graph takes a hair earlier."""

    def forward(self, windows):
        edge = 0.5 - 1e-6 if torch.jit.is_tracing() else 0.5
        mean = windows.mean(dim=(1, 2))
        return mean * 0 + (mean >= edge).to(mean.dtype)


class Rough(torch.nn.Module):
    """Adds and subtracts a large number, so that float32 rounds differently in another order."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, windows):
        sums = windows.flatten(1).sum(dim=1) * 1000
        rounded = sums + 1e5 - 1e5
        return (rounded + self.shift * torch.jit.is_tracing()).clamp(0, 125)


def test_rounding_of_float32_passes_and_an_equal_error_of_the_graph_does_not(candidate, tmp_path):
    draft = with_one_output(candidate.artifact.manifest)
    if draft.task != "rul":
        return
    identity = draft.scaler.model_copy(update={"scale": (1.0,) * 14, "offset": (0.0,) * 14})
    draft = draft.model_copy(update={"scaler": identity})
    random = np.random.default_rng(0)
    windows = random.uniform(0, 2.5e-4, (500, 30, 14)).astype(np.float32)
    export_artifact(Rough(0.0), draft, windows, tmp_path / "a")
    with pytest.raises(ExportError, match="500 of 500"):
        export_artifact(Rough(0.05), draft, windows, tmp_path / "b")


@pytest.mark.parametrize("edgy", [1, 40])
def test_one_window_on_a_step_of_the_vote_passes_but_not_many(candidate, tmp_path, edgy):
    draft = with_one_output(candidate.artifact.manifest)
    if draft.task != "rul":
        return
    identity = draft.scaler.model_copy(update={"scale": (1.0,) * 14, "offset": (0.0,) * 14})
    draft = draft.model_copy(update={"scaler": identity})
    windows = np.full((2000, 30, 14), 0.25, dtype=np.float32)
    windows[:edgy] = np.float32(0.5 - 5e-7)
    if edgy == 1:
        export_artifact(Step(), draft, windows, tmp_path / "a")
    else:
        with pytest.raises(ExportError, match=r"40 of 2000"):
            export_artifact(Step(), draft, windows, tmp_path / "a")


def test_no_artifact_is_written_when_it_is_too_large(candidate, tmp_path):
    huge = torch.nn.Linear(1000, 110)
    draft = with_one_output(candidate.artifact.manifest)
    with pytest.raises(ExportError, match="a student may have at most 400000"):
        export_artifact(Large(huge), draft, candidate.held_out.windows, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_student_without_an_encoder_has_no_features(candidate, tmp_path):
    manifest = candidate.artifact.manifest
    if manifest.task != "activity":
        return
    with pytest.raises(ExportError, match="no encoder"):
        export_artifact(
            Large(torch.nn.Linear(1000, 6)), manifest, candidate.held_out.windows, tmp_path / "a"
        )


def test_a_student_of_classes_gives_features_and_the_manifest_says_where_known_ones_lie(candidate):
    student, manifest = Student(candidate.artifact), candidate.artifact.manifest
    assert student.has_features == (manifest.task == "activity")
    if not student.has_features:
        return
    windows = candidate.held_out.windows
    scores, features = student.score_with_features(windows)
    np.testing.assert_array_equal(scores.values, student.score(windows).values)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-4)
    known = manifest.decoding.features
    assert known.centre_vectors().shape == (6, features.shape[1])
    nearest = (features @ known.sample_vectors().T).argmax(axis=1)
    found = known.sample_labels()[nearest]  # the sample is of these windows
    assert np.mean(found == candidate.held_out.labels) > 0.9
    assert manifest.metrics["examples"]["examples_misnamed"] <= 0.1


def with_one_output(draft):
    extra = {"features", "familiar"} & set(type(draft.decoding).model_fields)
    decoding = draft.decoding.model_copy(update=dict.fromkeys(extra))
    return draft.model_copy(update={"decoding": decoding})


def test_no_artifact_is_written_when_the_distance_disagrees(candidate, tmp_path):
    draft = candidate.artifact.manifest
    if draft.task != "rul":
        return

    class Odd(StageDistance):
        def forward(self, windows, apart=None):
            found = super().forward(windows, apart) + float(torch.jit.is_tracing())
            return found.clamp(0, MAX_DISTANCE)

    distance = Odd(np.zeros((1, 14)), np.ones((1, 14)), 30)
    student = FamiliarStudent(Step(), distance)
    with pytest.raises(ExportError, match="distance to what was learned"):
        export_artifact(student, draft, candidate.held_out.windows, tmp_path / "a")
    assert not (tmp_path / "a").exists()


class Large(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, windows):
        wide = windows.flatten(1)[:, :1].expand(-1, 1000)
        return self.layer(wide).sum(dim=1)

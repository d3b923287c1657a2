import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.methods.knowledge_pruning import KnowledgePruning, symmetric_kl, vote  # noqa: E402
from training.recipes import Recipe  # noqa: E402
from training.students.encoders import ConvEncoder  # noqa: E402

pytestmark = pytest.mark.needs_training


def literal_loss(similarities, labels):
    """The formulas of the specification, element by element, in float64."""
    batch, count = similarities.shape
    target = np.zeros((batch, count))
    for i in range(batch):
        same = [10.0 if j < batch and labels[i] == labels[j] else 0.0 for j in range(count)]
        target[i] = np.exp(same) / np.sum(np.exp(same))
    rows = columns = 0.0
    for i in range(batch):
        for j in range(count):
            in_row = np.exp(similarities[i, j]) / np.sum(np.exp(similarities[i]))
            in_column = np.exp(similarities[i, j]) / np.sum(np.exp(similarities[:, j]))
            rows += target[i, j] * (np.log(target[i, j]) - np.log(in_row))
            columns += target[i, j] * (np.log(target[i, j]) - np.log(in_column))
    return (rows / count + columns / count) / 2


def make_method(task="rul", answers=126, seed=0, **changes):
    torch.manual_seed(seed)
    recipe = Recipe(task=task, conv_channels=(4,), kernels=(3,), strides=(2,), feature_size=8)
    recipe = Recipe(**{**{f: getattr(recipe, f) for f in recipe.__slots__}, **changes})
    anchors = np.random.default_rng(seed).standard_normal((answers, 16)).astype(np.float32)
    counts = np.ones(answers, dtype=np.int64)
    return KnowledgePruning(ConvEncoder(recipe, 6, 3), recipe, anchors, counts)


@pytest.mark.parametrize("labels", [[3, 3, 5, 0], [1, 2, 3, 4], [7, 7, 7, 7]])
def test_the_loss_is_that_of_the_formulas(labels):
    similarities = np.random.default_rng(1).normal(0, 3, (4, 9))
    loss = symmetric_kl(torch.tensor(similarities), torch.tensor(labels))
    assert float(loss) == pytest.approx(literal_loss(similarities, labels), rel=1e-9)


def test_with_distinct_labels_the_positive_mass_of_the_target_is_known():
    # KL of uniform similarities to the target: only the target's entropy is left besides log N.
    batch, count = 4, 10
    positive = np.exp(10) / (np.exp(10) + count - 1)
    rest = (1 - positive) / (count - 1)
    minus_entropy = positive * np.log(positive) + (count - 1) * rest * np.log(rest)
    loss = symmetric_kl(torch.zeros(batch, count, dtype=torch.float64), torch.arange(batch))
    rows = batch * (minus_entropy + np.log(count)) / count
    columns = batch * (minus_entropy + np.log(batch)) / count
    assert float(loss) == pytest.approx((rows + columns) / 2, rel=1e-9)


def test_every_anchor_is_a_column_of_the_batch_and_duplicates_are_kept(monkeypatch):
    method = make_method(answers=6, task="activity").eval()
    seen = {}
    monkeypatch.setattr(
        "training.methods.knowledge_pruning.symmetric_kl",
        lambda similarities, labels: seen.update(s=similarities) or similarities.sum(),
    )
    method.loss(torch.randn(4, 6, 3), torch.tensor([2, 2, 0, 2]))
    assert seen["s"].shape == (4, 4 + 4)
    assert torch.equal(seen["s"][:, 0], seen["s"][:, 1])


def test_the_order_of_the_batch_does_not_matter():
    method = make_method().eval()
    windows, labels = torch.randn(5, 6, 3), torch.tensor([125, 3, 125, 60, 3])
    order = torch.tensor([3, 0, 4, 2, 1])
    swapped = method.loss(windows[order], labels[order])
    torch.testing.assert_close(method.loss(windows, labels), swapped)


def test_alpha_learns_unless_the_recipe_fixes_it():
    for learns in (True, False):
        method = make_method(learn_alpha=learns)
        method.loss(torch.randn(5, 6, 3), torch.arange(5)).backward()
        assert (method.log_alpha.grad is not None) == learns


def test_a_certain_answer_wins_the_vote():
    for answer in (0, 60, 125):
        one_hot = torch.nn.functional.one_hot(torch.tensor([answer]), 126).float()
        assert float(vote(one_hot, 0.1)) == pytest.approx(answer)


def test_a_uniform_vote_is_the_middle_up_to_the_trimmed_tenth():
    result = float(vote(torch.full((1, 126), 1 / 126), 0.1))
    assert 55 <= result <= 70


def test_the_vote_drops_the_least_likely_tenth():
    probabilities = torch.zeros(1, 126)
    probabilities[0, [10, 100, 110]] = torch.tensor([0.08, 0.42, 0.50])
    assert float(vote(probabilities, 0.1)) == pytest.approx((42 + 55) / 0.92, rel=1e-5)
    assert float(vote(probabilities, 0.0)) == pytest.approx(0.8 + 42 + 55, rel=1e-5)


def test_the_vote_stays_on_the_grid():
    probabilities = torch.softmax(torch.randn(200, 126) * 20, dim=1)
    result = vote(probabilities, 0.1)
    assert 0 <= float(result.min())
    assert float(result.max()) <= 125


def test_the_folded_student_gives_the_scores_of_the_unfolded_one():
    method = make_method(prior_correction=0.0).eval()
    windows = torch.randn(32, 6, 3)
    with torch.no_grad():
        features = method.encoder(windows)
        features = features / (features.norm(dim=1, keepdim=True) + 1e-8)
        aligned = method.anchors @ method.alignment.weight.T + method.alignment.bias
        aligned = aligned / (aligned.norm(dim=1, keepdim=True) + 1e-8)
        logits = method.log_alpha.exp() * features @ aligned.T
        unfolded = vote(torch.softmax(logits, dim=1), 0.1)
        folded = method.exported().eval()(windows)
    torch.testing.assert_close(folded, unfolded, atol=1e-3, rtol=1e-5)


def test_the_exported_student_has_no_text_anchors_and_does_not_train_on():
    method = make_method()
    exported = method.exported()
    assert not any("anchors" in name or "align" in name for name in exported.state_dict())
    before = exported.table.clone()
    with torch.no_grad():
        method.alignment.weight.add_(1.0)
        next(method.encoder.parameters()).add_(1.0)
    assert torch.equal(exported.table, before)
    assert not torch.equal(next(exported.encoder.parameters()), next(method.encoder.parameters()))


def test_a_feature_of_zeros_gives_a_finite_score():
    method = make_method().eval()
    with torch.no_grad():
        for weight in method.encoder.parameters():
            weight.zero_()
        score = method.exported()(torch.randn(3, 6, 3))
    assert torch.isfinite(score).all()

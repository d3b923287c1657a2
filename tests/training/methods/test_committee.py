"""A committee: the mean of members that learn independently."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.methods.build import build_method  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402

pytestmark = pytest.mark.needs_training

HAR = ("har-waist", (128, 9), 6)


@pytest.mark.parametrize(("task", "method"), [("rul", "kp"), ("rul", "none"), ("activity", "kp")])
def test_a_committee_scores_the_mean_of_its_members(task, method):
    name, shape, answers = ("rul-fd001", (30, 14), 126) if task == "rul" else HAR
    recipe = shipped_recipe(name, members=3, method=method)
    torch.manual_seed(3)  # an untrained member may score zero for every window
    built = build_method(recipe, *shape, np.ones(answers, dtype=np.int64)).eval()
    windows = torch.randn(5, *shape)
    scores = [member.exported()(windows) for member in built.members]
    torch.testing.assert_close(built.exported()(windows), sum(scores) / 3)
    assert not torch.equal(scores[0], scores[1])
    labels = torch.tensor([0, 1, 2, 3, 3])
    alone = sum(member.loss(windows, labels) for member in built.members)
    torch.testing.assert_close(built.loss(windows, labels), alone)


def test_one_member_equals_the_student_without_a_committee():
    recipe = shipped_recipe("rul-fd001")
    counts = np.ones(126, dtype=np.int64)
    torch.manual_seed(3)
    one = build_method(recipe, 30, 14, counts)
    torch.manual_seed(3)
    first = build_method(shipped_recipe("rul-fd001", members=2), 30, 14, counts).members[0]
    for left, right in zip(one.parameters(), first.parameters(), strict=True):
        assert torch.equal(left, right)

"""The plain head: its losses."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.methods.build import build_method  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402

pytestmark = pytest.mark.needs_training


def test_huber_grows_linearly_from_a_tenth_of_the_range_on():
    recipe = shipped_recipe("rul-fd001", method="none", loss="huber")
    method = build_method(recipe, 30, 14, np.ones(126, dtype=np.int64)).eval()
    windows = torch.zeros(1, 30, 14)
    with torch.no_grad():
        method.head.weight.zero_()
        losses = []
        for share in (0.5, 0.6, 0.7):
            method.head.bias.fill_(share)
            losses.append(float(method.loss(windows, torch.tensor([0]))))
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)

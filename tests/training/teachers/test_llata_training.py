import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.fakes.smallseries import make_series  # noqa: E402
from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.errors import TeacherError  # noqa: E402
from training.teachers.llata_config import LlataConfig  # noqa: E402
from training.teachers.llata_training import (  # noqa: E402
    LlataEpoch,
    LlataTraining,
    may_text_teach,
)
from training.teachers.llata_windows import training_windows  # noqa: E402

pytestmark = pytest.mark.needs_training

DATA = make_series()
CONFIG = LlataConfig(heads=4, word_count=9, epochs=1, batch=32, stride=4, start="none")


def make(folder, config=CONFIG):
    windows = training_windows(DATA, 16, 4, config.stride)
    return LlataTraining(DATA, config, tiny_backbone(), folder / "run", windows)


@pytest.mark.parametrize(
    ("validation", "text", "may_teach"), [(0.5, 0.4, True), (0.5, 0.5, False), (0.5, None, False)]
)
def test_the_textual_branch_teaches_only_if_it_was_better(validation, text, may_teach):
    assert may_text_teach(LlataEpoch(1, {}, validation, text, False, 1.0)) is may_teach
    assert not may_text_teach(None)


def test_states_of_the_textual_branch_are_computed_once(tmp_path):
    first = make(tmp_path)
    assert first.text.shape == (len(first.windows), 4, 2, 24)  # tokens and three states
    caches = sorted(path.name for path in tmp_path.glob("text-*"))
    assert len(caches) == 2  # training and validation

    def refuse(*inputs, **options):
        pytest.fail("the blocks of the textual branch ran again")

    second = make(tmp_path)
    second.net.textual.register_forward_pre_hook(refuse)
    assert second.train(lambda epoch: None, float("inf"))
    np.testing.assert_array_equal(second.text, first.text)
    assert sorted(path.name for path in tmp_path.glob("text-*")) == caches


def test_the_state_of_another_run_is_refused(tmp_path):
    make(tmp_path).train(lambda epoch: None, float("inf"))
    with pytest.raises(TeacherError, match="other settings or data: delete it"):
        make(tmp_path, LlataConfig(heads=4, word_count=9, start="none", stride=4))

import pytest

from training.errors import TeacherError
from training.teachers.llata_config import LlataConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "gpt2"}, "backbone is 'gpt2', expected smollm2 or minilm or none"),
        ({"text": "on"}, "text is 'on'"),
        ({"share": 0}, "share is 0, expected above 0"),
        ({"epochs": 2.5}, "epochs is 2.5, expected int"),
        ({"folds": 0}, "folds is 0, expected at least 1"),
        ({"folds": 5, "features": True}, "each fold has states of its own"),
        ({"backbone": "none", "text": "live"}, "expected off without a backbone"),
        ({"text": "cached", "alignment": "paper"}, "it is not trained"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(TeacherError, match=message):
        LlataConfig(**settings)


def test_every_setting_is_part_of_the_request():
    request = LlataConfig(rate=1e-3).as_request()
    assert request["rate"] == 1e-3
    assert set(request) == set(LlataConfig.__dataclass_fields__)

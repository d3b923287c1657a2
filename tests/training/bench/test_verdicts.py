"""The rule that says whether a teacher helps: one for teachers and for their students."""

import pytest

from training.bench.verdicts import controls_of, crossed, over_seeds, verdict

LOWER = [-0.01, -0.01, -0.011]
NOTHING = [0.001, -0.001, 0.0]
HIGHER = [0.004, 0.005, 0.006]


def said(teacher, over_none, *over):
    return verdict(teacher, over_seeds(over_none), [over_seeds(one) for one in over])


@pytest.mark.parametrize(
    ("over_none", "over_random", "over_no_model", "expected"),
    [
        (LOWER, LOWER, LOWER, "helps"),
        (LOWER, NOTHING, LOWER, "not shown"),
        (LOWER, LOWER, HIGHER, "not shown"),
        (LOWER, [], LOWER, "not shown"),
        (LOWER, LOWER, [], "not shown"),
        (LOWER, LOWER[:2], LOWER, "not shown"),
        (HIGHER, LOWER, LOWER, "hurts"),
        (NOTHING, LOWER, LOWER, "not shown"),
        (LOWER[:2], LOWER, LOWER, ""),
        ([], LOWER, LOWER, ""),
    ],
)
def test_help_needs_every_interval_below_zero(over_none, over_random, over_no_model, expected):
    assert said("llata", over_none, over_random, over_no_model) == expected


def test_a_control_with_a_lower_error_is_no_help():
    for control in ("llata-random", "timellm-none", "llata-shuffled", "random", "minilm random"):
        assert said(control, LOWER) == "lower, a control"
        assert said(control, HIGHER) == "hurts"
    assert said("ensemble", LOWER) == "helps"


@pytest.mark.parametrize(
    ("teacher", "controls"),
    [
        ("timellm", ("timellm-random", "timellm-none")),
        ("llata-minilm", ("llata-minilm-random", "llata-none")),
        ("llata-shuffled", ()),
        ("none", ()),
        ("ridge", ()),
        ("smollm2", ("random", "none")),
        ("no prompt", ("random", "none")),
        ("minilm, text", ("minilm random", "none")),
        ("minilm random", ()),
    ],
)
def test_both_kinds_of_tables_ask_for_random_weights_and_for_no_model(teacher, controls):
    assert controls_of(teacher) == controls


def test_trainings_and_seeds_are_both_samples():
    assert crossed({}) is None
    assert str(crossed({(0, 0): 1.0, (1, 0): 3.0})) == "+2.0000"
    over_trainings = crossed({(t, s): float(t) for t in range(3) for s in range(3)})
    over_students = crossed({(t, s): float(s) for t in range(3) for s in range(3)})
    assert over_trainings == over_students
    assert over_trainings.half == pytest.approx(2.484, abs=1e-3)

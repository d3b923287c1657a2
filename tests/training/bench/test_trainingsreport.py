"""The table of teachers that were trained several times."""

from training.bench.trainingsreport import first_trainings, trainings_table


def line(teacher, training, seed, mse, **more):
    return {
        "teacher": teacher,
        "teacher_seed": training,
        "seed": seed,
        "teacher_validation": None if teacher == "none" else {"mse": 0.6 + training / 10},
        "validation": {"mse": mse + 0.1},
        "test": {"mse": mse},
        **more,
    }


def made(teacher, *values):
    """Lines by training and seed; `values` has one list of errors for each training."""
    return [
        line(teacher, training, seed, mse)
        for training, errors in enumerate(values)
        for seed, mse in enumerate(errors)
    ]


def row(text, name):
    rows = [one.strip("| ").split(" | ") for one in text.splitlines() if one.startswith("|")]
    return next(one for one in rows if one[0] == name)


NONE = made("none", [0.5, 0.51, 0.52])


def test_teachers_that_were_trained_once_have_no_table():
    lines = [*NONE, *made("llata", [0.4, 0.41, 0.42])]
    assert trainings_table(lines) == ""
    assert first_trainings(lines) == lines


def test_the_luck_of_the_teacher_widens_the_interval():
    steady = [*NONE, *made("llata", *[[0.4, 0.41, 0.42]] * 3)]
    assert row(trainings_table(steady), "llata")[7] == "-0.1000 ± 0.0000"
    # Every seed of the student agrees that one training is good and another one is bad.
    lucky = [*NONE, *made("llata", [0.3, 0.31, 0.32], [0.4, 0.41, 0.42], [0.5, 0.51, 0.52])]
    found = row(trainings_table(lucky), "llata")
    assert found[1:4] == ["3", "3", "0.7000 (0.1000)"]
    assert found[6] == "0.3100, 0.4100, 0.5100"
    assert found[7] == "-0.1000 ± 0.2484"
    assert found[10] == "not shown"


def test_a_control_of_the_same_training_and_seed_is_subtracted():
    lines = [*NONE, *made("llata", *[[0.4, 0.41, 0.42]] * 3)]
    lines += made("llata-random", *[[0.45, 0.46, 0.47]] * 3)
    found = row(trainings_table(lines), "llata")
    assert found[8:11] == ["-0.0500 ± 0.0000", "", "not shown"]  # the net without its model misses
    lines += made("llata-none", *[[0.46, 0.47, 0.48]] * 3)
    found = row(trainings_table(lines), "llata")
    assert found[9:11] == ["-0.0600 ± 0.0000", "helps"]
    assert row(trainings_table(lines), "llata-random")[10] == "lower, a control"


def test_a_seed_that_one_training_lacks_is_left_out():
    lines = [*NONE, *made("llata", [0.4, 0.41, 0.42], [0.4, 0.41])]
    found = row(trainings_table(lines), "llata")
    assert found[1:3] == ["2", "2"]
    assert found[7] == "-0.1000"  # two trainings give no interval
    assert found[8:] == []  # so there is no verdict


def test_lines_made_before_there_were_several_trainings_are_of_the_first():
    old = line("llata", 0, 0, 0.4)
    del old["teacher_seed"]
    assert first_trainings([old, line("llata", 1, 0, 0.3)]) == [old]

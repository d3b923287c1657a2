"""The page of the teacher trials: what its rows say."""

from training.bench.teachersreport import write_teachers_page


def line(method, seed, mse, **more):
    return {
        "benchmark": "ETTh1-96",
        "student": "llata",
        "method": method,
        "seed": seed,
        "test_stride": 23,
        "test": {"mse": mse, "mae": 0.4},
        "held_out": {"mse": 0.7},
        **more,
    }


def cells(page, method):
    rows = [row.strip("| \n").split(" | ") for row in page.read_text().splitlines()]
    return next(row for row in rows if row[0] == method)


def test_a_row_has_the_mean_and_the_paired_difference_from_none(tmp_path):
    lines = [line("none", seed, 0.4 + seed / 100, best_pass=1) for seed in (1, 2, 3)]
    # Seed 4 has no partner, so it is in the mean and not in the difference.
    shifts = {1: -0.001, 2: -0.002, 3: -0.003, 4: 0.2}
    lines += [line("smollm2", s, 0.4 + s / 100 + shift, best_pass=0) for s, shift in shifts.items()]
    page = write_teachers_page(lines, tmp_path)
    row = cells(page, "smollm2")
    assert row[1] == "4"
    assert row[2] == "0.7000 (0.0000)"
    assert row[5] == "-0.0020 ± 0.0025"
    assert row[11] == "0, 0, 0, 0"
    assert cells(page, "none")[5] == ""


def test_a_teacher_helps_only_if_it_is_better_than_random_weights_too(tmp_path):
    lines = [line("none", seed, 0.4) for seed in (1, 2, 3)]
    lines += [line("smollm2", seed, 0.39 + seed / 10_000) for seed in (1, 2, 3)]
    assert cells(write_teachers_page(lines, tmp_path), "smollm2")[6:8] == ["", "not shown"]
    same = [line("random", seed, 0.39 + seed / 10_000) for seed in (1, 2, 3)]
    row = cells(write_teachers_page([*lines, *same], tmp_path), "smollm2")
    assert row[6:8] == ["+0.0000 ± 0.0000", "not shown"]
    worse = [line("random", seed, 0.4) for seed in (1, 2, 3)]
    page = write_teachers_page([*lines, *worse], tmp_path)
    assert cells(page, "smollm2")[7] == "helps"
    assert cells(page, "random")[6:8] == ["", "not shown"]


def test_conditions_that_training_did_not_have_are_columns_and_papers_are_rows(tmp_path):
    unseen = {"test ETTm2": {"mse": 0.2}, "test, channel missing": {"mse": 0.5}}
    few = {"benchmark": "ETTm1-96, 10 %", "settings": {"share": 0.1}}
    page = write_teachers_page([line("none", 1, 0.4, **unseen, **few)], tmp_path)
    assert cells(page, "none")[8:] == ["0.2000", "0.5000"]  # a short history was not measured
    assert cells(page, "*LLaTA (CALF); GPT-2, 6 blocks; look-back 96*")[3] == "0.468"
    assert "TIME-LLM; Llama-7B" not in page.read_text()  # it is beside our TIME-LLM
    other = line("none", 1, 0.4, **few) | {"student": "timellm"}
    page = write_teachers_page([other], tmp_path)
    assert cells(page, "*TIME-LLM; Llama-7B; look-back 512*")[3] == "0.346"


def test_one_seed_has_neither_spread_nor_interval_and_ridge_has_no_seed(tmp_path):
    ridge = line("ridge", 1, 0.5)
    del ridge["held_out"]
    page = write_teachers_page([line("none", 1, 0.4), line("random", 1, 0.41), ridge], tmp_path)
    assert cells(page, "random")[3:6] == ["0.4100", "0.4000", "+0.0100"]
    assert cells(page, "ridge")[2] == ""


def test_teachers_and_benchmarks_have_tables_of_their_own(tmp_path):
    other = line("none", 1, 0.3) | {"student": "timellm"}
    few = line("none", 1, 0.5) | {"benchmark": "ETTh1-96, 5 %"}
    text = write_teachers_page([line("none", 1, 0.4), few, other], tmp_path).read_text()
    heads = [row for row in text.splitlines() if row.startswith("## ")]
    assert heads == ["## LLaTA: ETTh1-96", "## LLaTA: ETTh1-96, 5 %", "## TIME-LLM: ETTh1-96"]

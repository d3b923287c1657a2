"""The paper's ground: networks as published, runs that resume, one training under two protocols."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

import torch

from training.bench.paperdropout import errors_of
from training.bench.paperground import (
    ARMS,
    BENCHMARKS,
    PaperRun,
    extra_runs,
    main_runs,
    missing_paper_runs,
)
from training.bench.papernets import NETWORKS, build_paper_network
from training.bench.paperruns import CHECKPOINTS, do_paper_run, prepare_ground, train_plain
from training.recipes import Recipe
from training.students.encoders import BiLstmEncoder

pytestmark = pytest.mark.needs_training
NOWHERE = Path("nowhere")


@pytest.mark.parametrize(
    ("network", "weights", "width"),
    [("bilstm", 17_560, 8), ("cnn", 518_672, 256), ("penet", 519_360, 256)],
)
def test_networks_have_the_weights_of_the_code_line(network: str, weights: int, width: int) -> None:
    encoder, found = build_paper_network(network, 30, 14, anchors=False)
    assert sum(each.numel() for each in encoder.parameters()) == weights
    assert found == width
    encoder, found = build_paper_network(network, 30, 14, anchors=True)
    assert encoder(torch.zeros(2, 30, 14)).shape == (2, found)


def test_the_fast_bi_lstm_is_the_bi_lstm() -> None:
    fast, _ = build_paper_network("bilstm", 30, 14, anchors=True)
    known = BiLstmEncoder(Recipe(task="rul", feature_size=8), 30, 14)
    names = {"second_forward": "", "second_backward": "_reverse"}
    weights = {
        key: value for key, value in fast.state_dict().items() if not key.startswith("second")
    }
    for part, ending in names.items():
        for key, value in getattr(fast, part).state_dict().items():
            weights[f"second.{key}{ending}"] = value
    known.load_state_dict(weights)
    windows = torch.randn(5, 30, 14)
    torch.testing.assert_close(fast.eval()(windows), known.eval()(windows))


def test_seed_0_of_every_cell_comes_first_and_a_finished_run_is_not_repeated() -> None:
    runs = main_runs()
    cells = len(NETWORKS) * len(BENCHMARKS) * len(ARMS)
    assert len(runs) == 3 * cells == len({run.key for run in runs})
    assert {run.seed for run in runs[:cells]} == {0}
    assert missing_paper_runs(runs, [{"config": runs[0].key}]) == runs[1:]
    assert not {run.key for run in extra_runs()} & {run.key for run in runs}


@pytest.mark.parametrize("task", ["rul", "activity"])
@pytest.mark.parametrize("arm", ARMS)
def test_one_training_is_measured_at_every_checkpoint(task: str, arm: str) -> None:
    ground = prepare_ground(f"dummy-{task}", NOWHERE, 0)
    passes = 12 if task == "rul" else 4
    run = PaperRun("bilstm", f"dummy-{task}", arm, 0, passes)
    line = do_paper_run(run, ground)
    count = CHECKPOINTS["number" if task == "rul" else "class"]
    names = {"rmse", "nasa_score"} if task == "rul" else {"macro_f1"}
    readouts = {
        ("none", "rul"): {"head", "capped", "head-decayed", "capped-decayed"},
        ("none", "activity"): {"head", "head-decayed"},
    }.get((arm, task), {"vote", "mean", "argmax"} if task == "rul" else {"nearest"})
    assert set(line["held_out"]) == readouts
    for part in ("test", "sample"):
        assert set(line[part]) == readouts
        for measures in line[part].values():
            assert {name: len(values) for name, values in measures.items()} == dict.fromkeys(
                names, count
            )
    again = do_paper_run(run, ground)
    assert {**again, "seconds": 0} == {**line, "seconds": 0}


def test_both_branches_of_the_plain_head_begin_alike_and_part() -> None:
    line = do_paper_run(
        PaperRun("bilstm", "dummy-rul", "none", 0, 12), prepare_ground("dummy-rul", NOWHERE, 0)
    )
    kept, decayed = (line["test"][name]["rmse"] for name in ("head", "head-decayed"))
    assert kept[:15] == decayed[:15]
    assert kept[15:] != decayed[15:]


@pytest.mark.parametrize("variant", ["alpha-absent", "unit-anchors"])
def test_a_variant_changes_the_training(variant: str) -> None:
    ground = prepare_ground("dummy-rul", NOWHERE, 0)
    usual = do_paper_run(PaperRun("bilstm", "dummy-rul", "text", 0, 1), ground)
    varied = do_paper_run(PaperRun("bilstm", "dummy-rul", "text", 0, 1, variant), ground)
    assert usual["held_out"] != varied["held_out"]


def test_the_errors_of_a_plain_head_are_measured_with_and_without_dropout() -> None:
    ground = prepare_ground("dummy-rul", NOWHERE, 0)
    model = train_plain(PaperRun("bilstm", "dummy-rul", "none", 0, 2), ground)
    quiet = errors_of(model, ground.sample, dropping=False)
    assert quiet == errors_of(model, ground.sample, dropping=False)
    assert quiet != errors_of(model, ground.sample, dropping=True)
    assert quiet[1] >= abs(quiet[0])
    with pytest.raises(TypeError, match="has anchors"):
        train_plain(PaperRun("bilstm", "dummy-rul", "text", 0, 2), ground)

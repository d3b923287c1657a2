"""`kpstream explain`: a table for people, JSON for programs, errors that say what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from models.seen import Seen
from tests.pipeline.explain.plant import STEP, T0, Plant, line, tick

SEEN = Seen(low=(-9.0, -9.0, 8.0), middle=(0.0, 0.0, 8.5), high=(9.0, 9.0, 9.0))


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant.make(tmp_path, SEEN)
    for number in range(8):
        made.send(line([number]), line([number], device="press-2"))
    made.send(tick(50))
    made.store()
    yield made
    made.close()


def explain(plant: Plant, *words: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(
        main, ["explain", *words, "--state-dir", str(plant.folder)]
    )


def test_the_table_has_every_channel_the_most_important_first(plant: Plant) -> None:
    done = explain(plant, "press-1")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("plant/press-1/engine: Remaining useful life ")
    assert "window of 4 readings, 2023-11-14 22:13:20.400 UTC to " in done.output
    rows = re.findall(r"^(T24|T30|Nf) +(█*) +([-+][\d.]+|0) ", done.output, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == ["Nf", "T24", "T30"]
    bars = [len(bar) for _, bar, _ in rows]
    assert bars[0] == 8
    assert bars == sorted(bars, reverse=True)
    assert re.search(r"^Nf .* 8\.\.9, below *$", done.output, re.MULTILINE)
    assert re.search(r"^T24 .* -9\.\.9 *$", done.output, re.MULTILINE)
    assert f"{rows[0][0]} " in done.output.splitlines()[-1]


def test_json_is_that_of_the_api_and_at_chooses_the_score(plant: Plant) -> None:
    for at in (str(T0 + STEP * 4), "2023-11-14T22:13:20.400", "2023-11-14T23:13:20.400+01:00"):
        page = json.loads(explain(plant, "plant/press-1", "--at", at, "--json").output)
        assert page["end_ms"] == T0 + STEP * 4 + 1
        assert page["is_same_score"]
        assert len(page["explanation"]["channels"]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody",), "no score of nobody; streams with scores: plant/press-1/engine, plant/pre"),
        (("press-1", "--at", "2023-11-14T23:00:00"), "the last one before is of 2023-11-14 22:13"),
        (("press-1", "--at", "noon"), "'noon' is neither epoch milliseconds nor a time such as"),
    ],
)
def test_what_is_not_there_is_refused_with_what_there_is(
    plant: Plant, words: tuple[str, ...], said: str
) -> None:
    done = explain(plant, *words)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())


def test_readings_that_have_left_the_log_are_said_to_be_gone(plant: Plant) -> None:
    plant.log.close()
    (plant.folder / "log.db").unlink()
    done = explain(plant, "press-1")
    assert done.exit_code == 1
    assert "there is no log at" in done.output


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["explain", "x", "--state-dir", str(tmp_path / "empty")])
    assert done.exit_code == 1
    assert "no gateway has used this state folder; see --state-dir" in done.output

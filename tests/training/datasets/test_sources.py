"""Values of `--task`, the data behind them, and the range of the answers."""

from dataclasses import replace

import pytest

from models.errors import UnknownTask
from models.tasks.registry import find_task, registered, tasks
from training.datasets.benchmarks import BENCHMARKS
from training.datasets.contract import largest_number
from training.datasets.dummy import make_dummy
from training.datasets.sources import find_source, find_task_by_option, task_options
from training.errors import DataSetError, RecipeError
from training.recipes import labelled_tasks, parse_recipe, shipped_recipe


def test_every_task_has_one_option_and_new_tasks_get_theirs():
    known = ["rul", "har", *(task.name for task in tasks()[2:])]
    assert task_options() == known
    assert [find_task_by_option(option) for option in task_options()] == list(tasks())
    with registered(replace(find_task("rul"), name="load")) as load:
        assert task_options() == [*known, "load"]
        assert find_task_by_option("load") is load
        assert find_source("load") is None
    with pytest.raises(UnknownTask, match="'load' is not one of 'rul', 'har'"):
        find_task_by_option("load")


def test_the_starter_of_a_source_has_a_recipe_of_its_task():
    for task in labelled_tasks():
        source = find_source(task.name)
        assert shipped_recipe(source.starter).task == task.name


def test_the_answers_of_a_data_set_are_those_of_its_task():
    numbers, classes = make_dummy("rul", groups=2), make_dummy("activity", groups=2)
    assert (numbers.largest, numbers.num_answers) == (125, 126)
    assert (classes.largest, classes.num_answers) == (None, 6)
    assert numbers.contract is find_task("rul")


def test_numbers_that_do_not_begin_at_zero_are_refused():
    class Shifted:
        bounds = (-10.0, 10.0)

    shifted = replace(find_task("rul"), name="shifted", new_decoding=lambda *given: Shifted())
    with registered(shifted), pytest.raises(DataSetError, match="begin at -10"):
        largest_number("shifted")


@pytest.mark.parametrize("key", ["length = 50", "conditions = true", "truncation = 0.5"])
def test_keys_for_numbers_are_refused_for_classes(key):
    with pytest.raises(RecipeError, match="activity does not"):
        parse_recipe(f'task = "activity"\n{key}')


def test_a_task_that_learns_from_series_has_no_labelled_benchmark_and_no_recipe_here():
    series = [task.name for task in tasks() if task not in labelled_tasks()]
    for name in series:
        assert f"dummy-{name}" not in BENCHMARKS
        with pytest.raises(DataSetError, match="make_dummy_series"):
            make_dummy(name)
        with pytest.raises(RecipeError, match=f"task is '{name}', expected one of"):
            parse_recipe(f'task = "{name}"')

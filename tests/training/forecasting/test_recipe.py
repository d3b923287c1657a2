"""The recipe of a forecasting student: TOML, defaults, refusals."""

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.errors import RecipeError  # noqa: E402
from training.forecasting.recipe import (  # noqa: E402
    ForecastRecipe,
    format_forecast_recipe,
    parse_forecast_recipe,
    shipped_forecast_recipe,
)

pytestmark = pytest.mark.needs_training


@pytest.mark.parametrize("changed_only", [False, True])
def test_a_recipe_survives_being_written_and_read(changed_only):
    recipe = ForecastRecipe(data="ETTh1", length=512, leads=(1, 24), dropout=0.3, loss="huber")

    assert (
        parse_forecast_recipe(format_forecast_recipe(recipe, changed_only=changed_only)) == recipe
    )


def test_changes_replace_the_values_of_the_text():
    recipe = parse_forecast_recipe('data = "ETTh1"\nseed = 3', seed=4, epochs=None)

    assert (recipe.seed, recipe.epochs) == (4, ForecastRecipe(data="x").epochs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("length = 96", "'data' is missing"),
        ('data = "x"\nlenght = 96', "unknown key 'lenght'"),
        ('data = "x"\nlength = "long"', "not of type int"),
        ('data = "x"\nlength = 0', "positive number"),
        ('data = "x"\ntask = "rul"', "expected one of"),
        ('data = "x"\nstudent = "lstm"', "expected one of"),
        ('data = "x"\nhorizon = 12', "at most the horizon"),
        ('data = "x"\nleads = [24, 1]', "ascending"),
        ('data = "x"\nleads = [1, 97]', "after the horizon"),
        ('data = "x"\nshare = 0', "share"),
        ('data = "x"\nrank = 0', "rank"),
        ('data = "x"\ndropout = 1', "dropout"),
        ('data = "x"\nteacher_weight = -1', "negative"),
        ("data = ", "not TOML"),
    ],
)
def test_an_invalid_recipe_names_the_key(text, reason):
    with pytest.raises(RecipeError, match=reason):
        parse_forecast_recipe(text)


def test_full_rank_is_for_dlinear_only():
    assert dataclasses.replace(ForecastRecipe(data="x"), student="dlinear", rank=0).rank == 0


@pytest.mark.parametrize("name", ["forecast-hourly", "forecast-15min"])
def test_shipped_recipes_can_be_read(name):
    recipe = shipped_forecast_recipe(name, seed=7)

    assert (recipe.task, recipe.seed) == ("forecast", 7)
    assert recipe.leads[-1] <= recipe.horizon

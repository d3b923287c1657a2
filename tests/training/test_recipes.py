import pytest

from training.errors import RecipeError
from training.recipes import Recipe, format_recipe, parse_recipe, read_recipe, shipped_recipe


@pytest.mark.parametrize("name", ["rul-fd001", "har-waist"])
def test_a_shipped_recipe_survives_the_lineage(name):
    recipe = shipped_recipe(name)
    assert parse_recipe(format_recipe(recipe)) == recipe
    assert parse_recipe(f"# train-redistill --task rul\n{format_recipe(recipe)}") == recipe


def test_the_short_form_leaves_out_defaults():
    recipe = shipped_recipe("har-waist")
    short = format_recipe(recipe, changed_only=True)
    assert parse_recipe(short) == recipe
    assert format_recipe(Recipe("rul"), changed_only=True) == 'task = "rul"\n'


def test_changes_replace_values_of_the_file_unless_none():
    recipe = shipped_recipe("rul-fd001", seed=7, epochs=None, method="none")
    assert (recipe.seed, recipe.method) == (7, "none")
    assert recipe.epochs == shipped_recipe("rul-fd001").epochs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task =", "not TOML"),
        ("epochs = 3", "'task' is missing"),
        ("task = 'sleep'", "task is 'sleep'"),
        ("task = 'rul'\nepoch = 3", "unknown key 'epoch'"),
        ("task = 'rul'\nepochs = '3'", "epochs = '3' is not of type int"),
        ("task = 'rul'\nepochs = true", "epochs = True is not of type int"),
        ("task = 'rul'\nkernels = [5, 'a', 3]", "is not of type tuple"),
        ("task = 'rul'\nkernels = [4, 3, 3]", "kernels must be odd"),
        ("task = 'rul'\nkernels = [5, 3]", "one entry per convolution"),
        ("task = 'rul'\nepochs = 0", "must be positive"),
        ("task = 'rul'\nhold_out = 1", "expected hold_out in"),
    ],
)
def test_an_invalid_recipe_is_refused_with_the_name_of_the_key(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "nothing.toml")


def test_an_integer_is_accepted_for_a_float():
    assert parse_recipe("task = 'rul'\nrotation_deg = 10") == Recipe("rul", rotation_deg=10.0)

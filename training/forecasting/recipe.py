"""The recipe of a forecasting student: one flat TOML file with every setting of the run."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from training.errors import RecipeError
from training.recipes import read_table
from training.students.forecasters import STUDENTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "LOSSES",
    "ForecastRecipe",
    "format_forecast_recipe",
    "parse_forecast_recipe",
    "parse_forecast_table",
    "read_forecast_recipe",
    "shipped_forecast_recipe",
]

LOSSES = ("squared", "absolute", "huber")
"""Losses of p50. All students of the benchmark use `squared`, because it is judged by MSE."""


@dataclass(frozen=True, slots=True)
class ForecastRecipe:
    """All settings of a run. Every field is a key of the TOML file."""

    data: str
    """Name of the data set, e.g. `ETTh1`."""
    task: str = "forecast"
    """Always `forecast`: it tells this recipe from those of the other tasks."""
    length: int = 96
    """Readings in the look-back."""
    horizon: int = 96
    """Readings in the forecast."""
    backtest: int = 24
    """Newest readings of a window that the student forecasts a second time; at most `horizon`."""
    leads: tuple[int, ...] = (1, 6, 12, 24)
    """Steps ahead that a gateway stores, ascending."""
    hop: int = 1
    """Readings between two windows of a gateway."""
    alarm_share: float = 0.01
    """Share of ordinary windows that may raise an alarm."""
    student: str = "mlp"
    """`ridge`, `dlinear`, `mlp`, `patch` or `conv`; see `training.students.forecasters`."""
    width: int = 128
    """Width of hidden layers."""
    rank: int = 32
    """Rank of the last layer; for `dlinear` of both layers, where 0 is full rank."""
    patch: int = 16
    """Readings in a patch."""
    blocks: int = 2
    """Blocks of the patch mixer."""
    members: int = 1
    """Networks in the committee; the forecast is their mean."""
    dropout: float = 0.1
    """Share of hidden numbers dropped in training."""
    band_power: float = 1.0
    """Power of the window's deviation in the width of the band."""
    loss: str = "squared"
    """Loss of p50: `squared`, `absolute`, or `huber` (delta 0.5 standard deviations)."""
    epochs: int = 4
    """Passes at most; validation ends the run earlier (`patience`)."""
    steps: int = 0
    """Batches in a pass; 0: as many as the training windows fill."""
    batch_size: int = 64
    """Windows in a batch; each gives one series per channel."""
    learning_rate: float = 1e-3
    """Highest rate; it rises over 100 steps and falls as a cosine."""
    start_rate: float = 0.1
    """Rate of the ridge inside a network, as a share of `learning_rate`."""
    weight_decay: float = 1e-2
    """Decay of AdamW."""
    average_decay: float = 0.995
    """Decay of the moving average of the weights; the average is the student."""
    patience: int = 4
    """Passes without a better validation error after which the run ends."""
    least_gain: float = 0.005
    """Share of the ridge's validation error by which a pass must be better to replace it: on ETTh1
    smaller gains on validation are noise."""
    stride: int = 1
    """Readings between two training windows; a teacher's file has the same."""
    ridge_stride: int = 1
    """Readings between two windows that the ridge is fitted on."""
    validation_stride: int = 1
    """Readings between two validation windows."""
    share: float = 1.0
    """Share of the training part, from its beginning, that is learned from (few-shot)."""
    teacher: str = "none"
    """`none`, or the name of the teacher whose products the run gets."""
    teacher_seed: int = 0
    """Which training of the teacher the products are of; another number trains it anew."""
    teacher_weight: float = 0.5
    """Weight of the distance to the teacher's forecast where it is nearer to the truth."""
    scales_weight: float = 0.0
    """Weight of the distance to the teacher's forecast at four resolutions."""
    features_weight: float = 0.0
    """Weight of the distance between the geometries of student's and teacher's features."""
    seed: int = 0
    """Seed of weights, order and dropout."""

    def __post_init__(self) -> None:
        self._check_names()
        self._check_sizes()
        self._check_shares()

    def _check_names(self) -> None:
        for key, known in (("task", ("forecast",)), ("student", STUDENTS), ("loss", LOSSES)):
            if getattr(self, key) not in known:
                msg = f"recipe: {key} is {getattr(self, key)!r}, expected one of {known}"
                raise RecipeError(msg)

    def _check_sizes(self) -> None:
        for key in ("length", "horizon", "backtest", "hop", "width", "patch", "blocks", "members"):
            if getattr(self, key) < 1:
                msg = f"recipe: {key} is {getattr(self, key)}, expected a positive number"
                raise RecipeError(msg)
        for key in ("batch_size", "patience", "stride", "ridge_stride", "validation_stride"):
            if getattr(self, key) < 1:
                msg = f"recipe: {key} is {getattr(self, key)}, expected a positive number"
                raise RecipeError(msg)
        if self.rank < (0 if self.student == "dlinear" else 1) or self.epochs < 0 or self.steps < 0:
            msg = (
                f"recipe: rank is {self.rank}, epochs {self.epochs}, steps {self.steps}: expected "
                "a positive rank (0 only for dlinear), and epochs and steps of at least 0"
            )
            raise RecipeError(msg)
        if self.backtest > self.horizon:
            msg = (
                f"recipe: backtest is {self.backtest} with horizon {self.horizon}: a backtest "
                "checks the first steps of a forecast, so it is at most the horizon"
            )
            raise RecipeError(msg)
        if not self.leads or sorted(set(self.leads)) != list(self.leads) or self.leads[0] < 1:
            msg = f"recipe: leads is {list(self.leads)}, expected ascending numbers from 1 on"
            raise RecipeError(msg)
        if self.teacher_seed < 0:
            msg = f"recipe: teacher_seed is {self.teacher_seed}, expected a number from 0 on"
            raise RecipeError(msg)
        if self.leads[-1] > self.horizon:
            msg = f"recipe: leads ends with {self.leads[-1]}, after the horizon of {self.horizon}"
            raise RecipeError(msg)

    def _check_shares(self) -> None:
        for key in ("dropout", "average_decay"):
            if not 0 <= getattr(self, key) < 1:
                msg = f"recipe: {key} is {getattr(self, key)}, expected a share in [0, 1)"
                raise RecipeError(msg)
        if not 0 < self.share <= 1 or self.learning_rate <= 0 or self.start_rate < 0:
            msg = (
                f"recipe: share is {self.share}, learning_rate {self.learning_rate}, start_rate "
                f"{self.start_rate}: expected share in (0, 1], a positive rate, start_rate >= 0"
            )
            raise RecipeError(msg)
        if not 0 <= self.least_gain < 1:
            msg = f"recipe: least_gain is {self.least_gain}, expected a share in [0, 1)"
            raise RecipeError(msg)
        if not 0 < self.alarm_share < 1:
            msg = f"recipe: alarm_share is {self.alarm_share}, expected a share in (0, 1)"
            raise RecipeError(msg)
        if min(self.teacher_weight, self.scales_weight, self.features_weight) < 0:
            msg = "recipe: teacher_weight, scales_weight and features_weight must not be negative"
            raise RecipeError(msg)


def parse_forecast_recipe(text: str, **changes: Any) -> ForecastRecipe:
    """Build a recipe from flat TOML; `changes` that are not None replace the values of the text.

    Raises:
        RecipeError: The text is not TOML, or has an unknown key, a wrong type or an invalid value.
    """
    try:
        table = dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        msg = f"recipe: the text is not TOML: {exc}"
        raise RecipeError(msg) from exc
    return parse_forecast_table(table, **changes)


def parse_forecast_table(table: dict[str, Any], **changes: Any) -> ForecastRecipe:
    """Build a recipe from the keys and values of a TOML file; see `parse_forecast_recipe`."""
    table = table | {key: value for key, value in changes.items() if value is not None}
    known = {field.name: str(field.type) for field in fields(ForecastRecipe)}
    if unknown := sorted(set(table) - set(known)):
        msg = f"recipe: unknown key {unknown[0]!r}; known: {', '.join(known)}"
        raise RecipeError(msg)
    if "data" not in table:
        msg = "recipe: the key 'data' is missing: name the data set"
        raise RecipeError(msg)
    return ForecastRecipe(**{key: _typed(key, known[key], table[key]) for key in table})


def read_forecast_recipe(path: Path, **changes: Any) -> ForecastRecipe:
    """Read a recipe from a file; see `parse_forecast_recipe`."""
    return parse_forecast_table(read_table(path), **changes)


def shipped_forecast_recipe(name: str, **changes: Any) -> ForecastRecipe:
    """Read a recipe of training/configs, e.g. `forecast-ett`."""
    return read_forecast_recipe(
        Path(__file__).parent.parent / "configs" / f"{name}.toml", **changes
    )


def format_forecast_recipe(recipe: ForecastRecipe, *, changed_only: bool = False) -> str:
    """Write the recipe as flat TOML; parsing gives the same recipe again.

    With `changed_only`, keys with their default value are left out, so the text stays the same when
    a later version of kpstream adds keys.
    """
    defaults = {field.name: field.default for field in fields(ForecastRecipe)}
    return "".join(
        f"{key} = {_toml(value)}\n"
        for key, value in dataclasses.asdict(recipe).items()
        if not (changed_only and value == defaults[key])
    )


def _typed(key: str, kind: str, value: Any) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind.startswith("tuple"):
        if isinstance(value, (list, tuple)) and all(type(entry) is int for entry in value):
            return tuple(value)
    elif type(value).__name__ == kind:
        return value
    msg = f"recipe: {key} = {value!r} is not of type {kind}"
    raise RecipeError(msg)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else repr(value)

"""The recipe of one training run: one flat TOML file with every setting of the run.

The recipes of the starter students are in training/configs. A run copies its recipe into the
lineage of the artifact, so the lineage of a published student is enough to train it again.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from models.tasks.classes import ClassAnswer
from models.tasks.contract import Task
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task, tasks
from training.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Recipe",
    "format_recipe",
    "labelled_tasks",
    "parse_recipe",
    "parse_table",
    "read_recipe",
    "read_table",
    "shipped_recipe",
]

_ALLOWED = {
    "method": ("kp", "none", "ensemble", "boosting"),
    "anchors": (
        "text",
        "random",
        "onehot",
        "ordinal",
        "permuted",
        "centred",
        "ordered",
        "ordered-random",
        "attributes",
    ),
    "student": (
        "aged",
        "bilstm",
        "conv",
        "penet",
        "residual",
        "spectral",
        "statistics",
        "trend",
        "upright",
    ),
    "loss": ("squared", "huber"),
    "pooling": ("flatten", "mean_max"),
}
"""Values of the keys that name something."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of a run besides the data. Every field is a key of the TOML file."""

    task: str
    """Name of a task (`models.tasks.registry`): `rul`, `activity`, ..."""
    method: str = "kp"
    """`kp` (Knowledge Pruning from cached anchors), `none` (the same student, plain head),
    `ensemble` (plain head, taught by an ensemble of larger networks), or `boosting` (plain head,
    taught by gradient boosting)."""
    anchors: str = "text"
    """`text`: from the cache of the text encoder. Controls: `random` directions, `onehot` (a free
    table), `ordinal` (thermometer code of the number), `permuted` (text, wrong answers), `centred`,
    `ordered`, `ordered-random`, `attributes`: see `training.teachers.anchors.control_anchors`."""
    prompts: str = ""
    """Key of `training.teachers.prompts.PROMPTS` that names the anchors; empty for the key with the
    name of the task (`activity`: the labels of UCI HAR)."""
    student: str = "conv"
    """`conv`: plain convolutions; `residual`: dilated residual blocks and attention over time;
    `spectral`: convolutions beside the spectrum and statistics of the window; `statistics`: means,
    slopes and extremes of a window's newest readings; `trend`: convolutions beside those;
    `aged`: those of the newest 70 readings beside the number of readings so far;
    `upright`: as `spectral`, but blind to turns about the vertical of the body; `bilstm` and
    `penet`: the networks of the literature (the body of `penet` is that of `conv`)."""
    length: int = 0
    """Readings in a window (C-MAPSS); 0: the usual length of the data set (30)."""
    conditions: bool = False
    """Read the operating settings too and scale per condition inside the graph (C-MAPSS)."""
    conv_channels: tuple[int, ...] = (32, 64, 64)
    """Output channels of the convolutions; one entry per convolution."""
    kernels: tuple[int, ...] = (5, 3, 3)
    """Kernel sizes (odd), padded to keep the length."""
    strides: tuple[int, ...] = (1, 2, 2)
    """Strides."""
    pooling: str = "flatten"
    """`flatten` keeps the time steps apart; `mean_max` pools them and costs fewer weights."""
    feature_size: int = 64
    """Width d of the feature vector that is compared with the anchors."""
    hidden_size: int = 64
    """Width of the dense layer before the feature (`statistics`, `trend` and `aged` only)."""
    members: int = 1
    """Number of equal students in one graph; the score is the mean of theirs."""
    dropout: float = 0.2
    """Share of features dropped before and after the last dense layer, while training."""
    learn_alpha: bool = True
    """False keeps alpha at 1/0.07 (an ablation)."""
    trim: float = 0.1
    """Anchor voting drops the least likely anchors up to this mass (numbers only)."""
    prior_correction: float = 1.0
    """Share of the label frequencies that the graph adds back; 0 is the published inference."""
    loss: str = "squared"
    """Loss of the plain head for numbers: `squared`, or `huber` (linear from 0.1 of the range)."""
    label_smoothing: float = 0.0
    """Label smoothing of the plain head for classes."""
    teacher_epochs: int = 0
    """Passes of the members of the ensemble teacher; 0: as many as the student's."""
    epochs: int = 30
    """Passes over the training windows."""
    batch_size: int = 128
    """Windows per step."""
    learning_rate: float = 1e-3
    """Peak rate of Adam; a short linear warm-up, then a cosine down to zero."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW)."""
    average_decay: float = 0.998
    """Decay of the moving average of the weights; the average is the exported student."""
    noise: float = 0.0
    """Deviation of the Gaussian noise added to scaled windows while training."""
    scale_jitter: float = 0.0
    """Deviation of one random gain per window (motion sensors)."""
    offset_jitter: float = 0.0
    """Deviation of one random offset per window and channel, on scaled windows."""
    rotation_deg: float = 0.0
    """Deviation of a random rotation of the sensor per window, in degrees (motion sensors)."""
    turn_deg: float = 0.0
    """Largest random turn of the sensor about the vertical of the body, per window and in degrees:
    about the usual direction of gravity, the longest median of three channels (x, y, z)."""
    truncation: float = 0.0
    """Share of windows cut in front to a random length of at least 30 readings and padded as the
    stream pads (numbers only). Without it, padding would tell the student that an engine is new."""
    hold_out: float = 0.2
    """Share of groups (engines, persons) held out for calibration and for the comparison."""
    calibrate: bool = False
    """Classes: fit a temperature and the threshold of the unknown to the held-out windows. Numbers
    always have their interval."""
    folds: int = 0
    """From 2 on: every group is scored by a student that has not seen its fold; these scores
    calibrate and measure the recipe, and the exported student learns from all groups. 0: hold out
    groups."""
    calibration_folds: int = 0
    """From 2 on, where groups are held out: the groups that the student learns from calibrate it
    too, each scored by a student that has not seen its fold. 0: the held-out groups alone. Of no
    effect with `folds`."""
    split_seed: int = 0
    """Seed of the split; students must share it to be compared."""
    seed: int = 0
    """Seed of weights, batches, dropout and augmentation."""

    def __post_init__(self) -> None:
        self._check_names()
        self._check_sizes()
        answers_number = self.answers_number
        for_numbers = self.length or self.conditions or self.truncation
        if self.length < 0 or (for_numbers and not answers_number):
            msg = (
                "recipe: length (from 1), conditions and truncation need a task that answers with "
                f"a number, and {self.task} does not"
            )
            raise RecipeError(msg)
        if self.anchors.startswith("ord") and not answers_number:
            msg = f"recipe: anchors is {self.anchors!r}, but {self.task} has classes without order"
            raise RecipeError(msg)
        if not 0 < self.hold_out < 1 or not 0 <= self.dropout < 1 or not 0 <= self.trim < 1:
            msg = (
                f"recipe: hold_out is {self.hold_out}, dropout {self.dropout}, trim {self.trim}: "
                "expected hold_out in (0, 1), dropout and trim in [0, 1)"
            )
            raise RecipeError(msg)

    @property
    def answers_number(self) -> bool:
        """Whether the task answers with a number; otherwise it names a class."""
        return isinstance(find_task(self.task).answer, NumberAnswer)

    def _check_names(self) -> None:
        names = {"task": tuple(task.name for task in labelled_tasks()), **_ALLOWED}
        for key, values in names.items():
            if getattr(self, key) not in values:
                msg = f"recipe: {key} is {getattr(self, key)!r}, expected one of {values}"
                raise RecipeError(msg)

    def _check_sizes(self) -> None:
        if not 0 < len(self.conv_channels) == len(self.kernels) == len(self.strides):
            msg = (
                f"recipe: conv_channels, kernels and strides have {len(self.conv_channels)}, "
                f"{len(self.kernels)} and {len(self.strides)} entries, expected one entry per "
                "convolution each"
            )
            raise RecipeError(msg)
        if any(kernel % 2 == 0 for kernel in self.kernels):
            msg = f"recipe: kernels must be odd, got {self.kernels}"
            raise RecipeError(msg)
        sizes = (self.feature_size, self.hidden_size, self.members, *self.conv_channels)
        if min(self.epochs, self.batch_size, *sizes) < 1:
            msg = "recipe: epochs, batch_size, members and all sizes must be positive"
            raise RecipeError(msg)
        if self.folds == 1 or self.folds < 0:
            msg = f"recipe: folds is {self.folds}, expected 0 (hold out groups) or at least 2"
            raise RecipeError(msg)
        if self.calibration_folds == 1 or self.calibration_folds < 0:
            msg = f"recipe: calibration_folds is {self.calibration_folds}, expected 0 or at least 2"
            raise RecipeError(msg)

    @property
    def trainings(self) -> int:
        """Students that a run trains: one for each fold, and the one that is exported."""
        return 1 + (self.folds or self.calibration_folds)


def labelled_tasks() -> tuple[Task, ...]:
    """Return the tasks whose students learn from labelled windows: numbers and classes.

    A forecast learns from series; its recipe is `training.forecasting.recipe.ForecastRecipe`.
    """
    return tuple(task for task in tasks() if isinstance(task.answer, (NumberAnswer, ClassAnswer)))


def parse_recipe(text: str, **changes: Any) -> Recipe:
    """Build a recipe from flat TOML; `changes` that are not None replace the values of the text.

    Raises:
        RecipeError: The text is not TOML, or has an unknown key, a wrong type or an invalid value.
    """
    return parse_table(_parse_toml(text), **changes)


def parse_table(table: dict[str, Any], **changes: Any) -> Recipe:
    """Build a recipe from the keys and values of a TOML file; see `parse_recipe`."""
    table = table | {key: value for key, value in changes.items() if value is not None}
    known = {field.name: field.type for field in fields(Recipe)}
    if unknown := sorted(set(table) - set(known)):
        msg = f"recipe: unknown key {unknown[0]!r}; known: {', '.join(known)}"
        raise RecipeError(msg)
    if "task" not in table:
        known_tasks = ", ".join(task.name for task in labelled_tasks())
        msg = f"recipe: the key 'task' is missing; known tasks: {known_tasks}"
        raise RecipeError(msg)
    return Recipe(**{key: _typed(key, str(known[key]), value) for key, value in table.items()})


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """Read a recipe from a file; see `parse_recipe`."""
    return parse_table(read_table(path), **changes)


def read_table(path: Path) -> dict[str, Any]:
    """Read the keys and values of a TOML file.

    Raises:
        RecipeError: The file cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"recipe: cannot read {path}: {exc}"
        raise RecipeError(msg) from exc
    return _parse_toml(text)


def shipped_recipe(name: str, **changes: Any) -> Recipe:
    """Read the recipe of a starter student, e.g. `rul-fd001` or `har-waist`."""
    return read_recipe(Path(__file__).parent / "configs" / f"{name}.toml", **changes)


def format_recipe(recipe: Recipe, *, changed_only: bool = False) -> str:
    """Write the recipe as flat TOML; `parse_recipe(format_recipe(r)) == r`.

    With `changed_only`, keys with their default value are left out, so the text stays the same when
    a later version of kpstream adds keys.
    """
    defaults = {field.name: field.default for field in fields(Recipe)}
    return "".join(
        f"{key} = {_toml(value)}\n"
        for key, value in dataclasses.asdict(recipe).items()
        if not (changed_only and value == defaults[key])
    )


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        msg = f"recipe: the text is not TOML: {exc}"
        raise RecipeError(msg) from exc


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
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return repr(value)
